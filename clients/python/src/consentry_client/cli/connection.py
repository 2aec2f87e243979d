"""How a command reaches its server, and what to say when it does not."""

import os
from pathlib import Path
from typing import Annotated

import typer

from consentry_client.cli.problem import Problem
from consentry_client.endpoint import TlsFiles, resolve_endpoint
from consentry_client.settings import ADDRESS_VARIABLE

AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="unix:///path, or host:port with the three --tls options."),
]
TlsCaOption = Annotated[Path | None, typer.Option("--tls-ca", metavar="FILE", help="PEM of the server's authority.")]
TlsCertOption = Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="PEM of your certificate.")]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM of your private key.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Longest time to wait.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]


def gather_tls(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Returns the files for mutual TLS, or None where none is given.

    Raises:
        Problem: Only some of them are given.
    """
    if ca is None and cert is None and key is None:
        return None
    if ca is None or cert is None or key is None:
        raise Problem("TLS_INCOMPLETE", "--tls-ca, --tls-cert and --tls-key belong together")
    return TlsFiles(ca, cert, key)


def explain_outage(address: str | None, tls: TlsFiles | None, variable: str = ADDRESS_VARIABLE) -> str:
    """Says what can be seen from here about a server that did not answer."""
    endpoint = resolve_endpoint(address, variable, os.environ, tls)
    path = endpoint.socket_path
    if path is None:
        return f"nothing answers at {endpoint.target}, or not with a certificate that both sides accept"
    # `exists` would call a folder that one may not enter an empty one.
    try:
        path.stat()
    except PermissionError:
        return f"you may not enter {path.parent}: join the group that owns it"
    except FileNotFoundError:
        return f"there is no socket {path}: is the server running, and is this the address that it listens on?"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"you may not use the socket {path}: join the group that owns it"
    return f"the socket {path} is there but nothing answers: has the server stopped?"
