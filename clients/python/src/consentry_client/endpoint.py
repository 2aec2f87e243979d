"""Where a server is and how to reach it: read and checked once, when a client is made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from consentry_client.errors import ConfigurationError

_TCP = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_SOCKET_PATH_BYTES_MAX = 107
_UNIX = "unix:"

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A sidecar beside the service is back within moments of a restart; gRPC's own first pause is a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two clients of one process do not share a connection, nor the pause after a failed one.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries and deadlines are set here, not by a DNS record.
    ("grpc.service_config_disable_resolution", 1),
)

LOST_CONNECTION = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""How a certificate that is no longer accepted looks to its owner: the next call needs what the files hold then."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files for mutual TLS, PEM. They may be replaced: a client whose connection fails looks at them again.

    Attributes:
        ca: Certificates that the server's must lead to.
        cert: The caller's own certificate, with its chain.
        key: The private key to it.
    """

    ca: str | Path
    cert: str | Path
    key: str | Path


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """A checked address and, for TCP, the credentials to it.

    Attributes:
        target: As gRPC takes it.
        socket_path: The path where the address is a Unix socket, else None.
        tls: CA, key and certificate as PEM, or None for a Unix socket.
        tls_files: Where they were read.
    """

    target: str
    socket_path: Path | None = None
    tls: tuple[bytes, bytes, bytes] | None = None
    tls_files: TlsFiles | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.target})"

    def make_credentials(self) -> grpc.ChannelCredentials | None:
        """Makes what a secure channel needs; None for a Unix socket, which its permissions guard."""
        if self.tls is None:
            return None
        ca, key, cert = self.tls
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)

    def renew(self) -> "Endpoint | None":
        """Returns the endpoint with what the files hold now; None where that is the same, or cannot be read."""
        if self.tls_files is None:
            return None
        try:
            tls = _read_tls(self.tls_files)
        except ConfigurationError:
            return None
        return None if tls == self.tls else replace(self, tls=tls)


def resolve_endpoint(
    address: str | None, variable: str, environ: Mapping[str, str], tls: TlsFiles | None = None
) -> Endpoint:
    """Checks an address, or the environment variable that stands in for it.

    Args:
        address: `unix:///path`, `host:port` or `[v6]:port`; None: see `variable`.
        variable: Name of the variable to look into.
        environ: The environment.
        tls: Files for mutual TLS; TCP always needs them.

    Raises:
        ConfigurationError: No address, one of another form, TCP without TLS, or a file that cannot be read.
    """
    given = address if address is not None else environ.get(variable, "")
    if not given:
        raise ConfigurationError("ADDRESS_MISSING", f"no address: pass one, or set {variable}=unix:///path/to/socket")
    if given.startswith(_UNIX):
        return _unix_endpoint(given, tls)
    match = _TCP.fullmatch(given)
    if not match or not 0 < int(match[2]) <= 65535:
        raise ConfigurationError("ADDRESS_INVALID", "an address is unix:///path, host:port or [v6]:port")
    if tls is None:
        raise ConfigurationError("TLS_REQUIRED", "TCP needs mutual TLS: pass tls=TlsFiles(ca, cert, key)")
    return Endpoint(given, None, _read_tls(tls), tls)


def _unix_endpoint(given: str, tls: TlsFiles | None) -> Endpoint:
    path = given.removeprefix(_UNIX).removeprefix("//")
    if not path.startswith("/"):
        raise ConfigurationError("ADDRESS_INVALID", "the path of a Unix socket must be absolute: unix:///path")
    if len(path.encode("utf-8", "surrogateescape")) > _SOCKET_PATH_BYTES_MAX:
        raise ConfigurationError(
            "ADDRESS_INVALID", f"the path of a Unix socket has at most {_SOCKET_PATH_BYTES_MAX} bytes"
        )
    if tls is not None:
        raise ConfigurationError("TLS_NOT_SUPPORTED", "TLS belongs to TCP; a Unix socket is guarded by its permissions")
    return Endpoint(f"unix:{path}", Path(path))


def _read_tls(tls: TlsFiles) -> tuple[bytes, bytes, bytes]:
    contents = []
    for name, file in (("ca", tls.ca), ("key", tls.key), ("cert", tls.cert)):
        try:
            contents.append(Path(file).read_bytes())
        except OSError as error:
            raise ConfigurationError(
                "TLS_FILE_UNREADABLE", f"cannot read the {name} file {file}: {error.strerror}"
            ) from None
    return contents[0], contents[1], contents[2]
