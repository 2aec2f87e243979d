"""`consentry-feed replay-keys` and `resolve`: what an auditor needs and gets only through somebody else. Both are logged."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feed.cli.record import IdOption
from feed.cli.session import (
    CALL_TIMEOUT_SECONDS,
    EXIT_USAGE,
    ConfigOption,
    JsonOption,
    connected,
    fail,
    load,
    read_text,
)

if TYPE_CHECKING:
    from consentry.feed.v1 import audit_pb2

RESOLVE_TIMEOUT_SECONDS = 3600.0
"""The whole log is read: tens of seconds for a million entries."""
_EPOCH = date(1970, 1, 1)

FromOption = Annotated[str, typer.Option("--from", metavar="DATE", help="First day (UTC), such as 2026-01-31.")]
ToOption = Annotated[str, typer.Option("--to", metavar="DATE", help="Last day (UTC), included.")]


def replay_keys(
    auditor: Annotated[Path, typer.Option("--auditor", metavar="FILE", help="The auditor's public key.")],
    first: FromOption,
    last: ToOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Written for its owner alone.")],
    config: ConfigOption = None,
) -> None:
    """Seal the keys that an auditor's `replay` needs to that auditor's own key. Logged.

    They tell which token of the log a recorded pseudonym is, on these days. None of them makes a token of an identifier.
    Example: consentry-feed replay-keys --auditor auditor.pub --from 2026-01-01 --to 2026-01-31 --out replay.keys -c feed.yaml
    """
    from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

    from hosting.key_files import write_file_atomically
    from journal.auditor_key import parse_auditor_key
    from journal.errors import MalformedAuditorKey

    try:
        recipient = parse_auditor_key(read_text(auditor))
    except MalformedAuditorKey as error:
        fail(f"{auditor}: {error}", EXIT_USAGE)
    request = audit_pb2.GetReplayKeysRequest(
        recipient_public_key=recipient.sealing_key,
        recipient_name=recipient.name,
        from_day=_read_day("--from", first),
        to_day=_read_day("--to", last),
    )
    with connected(load(config).admin_address) as channel:
        response = audit_pb2_grpc.AuditServiceStub(channel).GetReplayKeys(request, timeout=CALL_TIMEOUT_SECONDS)
    try:
        write_file_atomically(out, response.sealed_key_ring)
    except OSError as error:
        fail(f"{out}: {error.strerror}", EXIT_USAGE)
    typer.echo(f"Wrote {out}, which only {recipient.name} can open. The log says that it was made.")


def resolve(
    identifier: IdOption,
    purpose: Annotated[
        str, typer.Option("--purpose", metavar="TEXT", help="Why, such as the number of a request. It is logged.")
    ],
    first: FromOption = "",
    last: ToOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what stands for a person's identifier: tokens, pseudonyms of these days (today by default), entries of the log. Logged.

    Example: consentry-feed resolve --id email=- --purpose 'request DSAR-118' --from 2026-01-01 --to 2026-01-31 -c feed.yaml
    """
    from consentry.event.v1 import event_pb2
    from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

    from feed.cli.identifiers import parse_subject

    today = (datetime.now(UTC).date() - _EPOCH).days
    settings = load(config)
    from_day = _read_day("--from", first) if first else today
    to_day = _read_day("--to", last) if last else today
    subject = parse_subject(identifier)
    request = audit_pb2.ResolveRequest(
        identifier=event_pb2.Identifier(namespace=subject.namespace, value=subject.value),
        from_day=from_day,
        to_day=to_day,
        purpose=purpose,
    )
    with connected(settings.admin_address) as channel:
        response = audit_pb2_grpc.AuditServiceStub(channel).Resolve(request, timeout=RESOLVE_TIMEOUT_SECONDS)
    (_print_json if as_json else _print_text)(response)


def _print_json(response: "audit_pb2.ResolveResponse") -> None:
    fields = {
        "tokens": [token.hex() for token in response.tokens],
        "days": {_format_day(day.day): [made.hex() for made in day.pseudonyms] for day in response.days},
        "seqs": list(response.seqs),
    }
    typer.echo(json.dumps(fields))


def _print_text(response: "audit_pb2.ResolveResponse") -> None:
    for epoch, token in enumerate(response.tokens):
        typer.echo(f"token, key epoch {epoch}: {token.hex()}")
    for day in response.days:
        typer.echo(f"pseudonyms on {_format_day(day.day)}: {', '.join(made.hex() for made in day.pseudonyms)}")
    typer.echo(f"entries: {', '.join(map(str, response.seqs)) or 'none'}")


def _read_day(option: str, text: str) -> int:
    try:
        day = (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        fail(f"{option} is not a date such as 2026-01-31", EXIT_USAGE)
    if day < 0:
        fail(f"{option} is before 1970", EXIT_USAGE)
    return day


def _format_day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()
