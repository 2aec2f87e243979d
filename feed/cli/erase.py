"""`consentry-feed erase`: a person's right to erasure."""

import json
import sys
from typing import Annotated

import typer

from feed.cli.record import IdOption
from feed.cli.session import EXIT_REFUSED, ConfigOption, JsonOption, connected, fail, load

ERASE_TIMEOUT_SECONDS = 3600.0
"""The whole log is read: tens of seconds for a million entries."""


def erase(
    identifier: IdOption,
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a person: everything that was said under the identifier and those linked to it. A denial of everything stays in its place.

    The entries stay in the log as hashes, so that every proof holds. Erasing again changes nothing.
    Example: consentry-feed erase --id email=- -c feed.yaml
    """
    from consentry.event.v1 import event_pb2
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    from feed.cli.identifiers import parse_subject

    settings, subject = load(config), parse_subject(identifier)
    if not yes:
        _confirm()
    named = event_pb2.Identifier(namespace=subject.namespace, value=subject.value)
    with connected(settings.admin_address) as channel:
        stub = intake_pb2_grpc.SubjectServiceStub(channel)
        request = intake_pb2.EraseSubjectRequest(identifier=named)
        response = stub.EraseSubject(request, timeout=ERASE_TIMEOUT_SECONDS)
    token = f"{response.token.origin}:{response.token.seq}"
    if as_json:
        fields = {
            "reference": response.request_id.hex() or None,
            "token": token,
            "tokens": response.token_count,
            "erased_entries": response.erased_count,
            "kept_entries": response.kept_count,
        }
        typer.echo(json.dumps(fields))
        return
    if not response.request_id:
        typer.echo(f"Was erased before, by entry {token}; nothing was left to erase.")
    else:
        typer.echo(f"Erased by entry {token}, reference {response.request_id.hex()}")
        typer.echo(f"{response.erased_count} entries of {response.token_count} identifiers lost their content.")
    if response.kept_count:
        typer.echo(
            f"{response.kept_count} entries are kept, sealed: the records of people once linked may rest on them."
        )


def _confirm() -> None:
    if not sys.stdin.isatty():
        fail("an erasure cannot be taken back; repeat with --yes", EXIT_REFUSED)
    typer.confirm("Erase everything that was recorded of this person? It cannot be taken back.", abort=True, err=True)
