"""`consentry-feed trail` and `verify-trail`: how an entry came to be in force, asked of a feed and proven without one."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feed.cli.session import (
    CALL_TIMEOUT_SECONDS,
    EXIT_REFUSED,
    EXIT_USAGE,
    ConfigOption,
    JsonOption,
    connected,
    fail,
    load,
    read_text,
)

if TYPE_CHECKING:
    from consent.eventlog.trust import Trust
    from consent.trail import Trail, VerifiedTrail


def trail(
    seq: Annotated[int, typer.Argument(min=1, metavar="SEQ", help="Sequence number that a requester was given.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the trail for `verify-trail`.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how an entry came to be in force: when it was requested, where it stands, and since when each sidecar has it.

    What is shown is the feed's word; `--out` writes what `verify-trail` proves. Example: consentry-feed trail 42 --out trail.json
    """
    from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

    from consent.trail_file import format_trail
    from feed.grpc_api.audit_service import decode_trail

    with connected(load(config).admin_address) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        response = stub.GetEventTrail(audit_pb2.GetEventTrailRequest(seq=seq), timeout=CALL_TIMEOUT_SECONDS)
    if out is not None:
        _write(out, format_trail(decode_trail(response)))
    sidecars = [
        {
            "sidecar_id": sidecar.sidecar_id,
            "enrolled_seq": sidecar.enrolled_seq,
            "size": sidecar.receipt.size if sidecar.HasField("receipt") else None,
            "applied_at_ms": sidecar.receipt.applied_at_ms if sidecar.HasField("receipt") else None,
        }
        for sidecar in response.sidecars
    ]
    everywhere = response.in_force_everywhere_at_ms if response.HasField("in_force_everywhere_at_ms") else None
    types = {entry.seq: entry.type for entry in response.entries}
    _show(
        {"seq": response.seq, "type": _name_type(types[response.seq]), "in_force_everywhere_at_ms": everywhere},
        sidecars,
        as_json=as_json,
    )


def verify_trail(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `consentry-feed trail --out` has written.")],
    trust: Annotated[Path, typer.Option(metavar="FILE", help="The signed trust file that sidecars have.")],
    root_key: Annotated[Path, typer.Option(metavar="FILE", help="Verifier key of whoever signed the trust file.")],
    as_json: JsonOption = False,
) -> None:
    """Prove, from files alone, the chain from a request to "in force at these sidecars, since then".

    Exit codes: 0 proven, and in force at every sidecar of the trail; 1 not proven, or not yet in force at one; 2 a file cannot be read.
    Example: consentry-feed verify-trail trail.json --trust trust.note --root-key root.pub
    """
    from consent import trail as chain
    from consent.eventlog.errors import EventLogError
    from consent.trail_file import parse_trail

    trusted, content = _load_trust(trust, root_key), _read_bytes(file)
    try:
        found: Trail = parse_trail(content)
        verified = chain.verify_trail(found, trusted)
    except EventLogError as error:
        fail(f"{error.reason}: {error}", EXIT_REFUSED)
    _show_verified(verified, as_json=as_json)
    if not verified.sidecars:
        fail("NOT_IN_FORCE_EVERYWHERE: the trail has no sidecar", EXIT_REFUSED)
    if verified.lacking:
        fail(f"NOT_IN_FORCE_EVERYWHERE: not yet acknowledged by {', '.join(verified.lacking)}", EXIT_REFUSED)


def _show_verified(verified: "VerifiedTrail", *, as_json: bool) -> None:
    fields = {
        "seq": verified.seq,
        "type": _name_type(verified.type_byte),
        "received_at_ms": verified.received_at_ms,
        "log_origin": verified.checkpoint.origin,
        "log_size": verified.checkpoint.size,
        "checkpoint_time_ms": verified.checkpoint_time_ms,
        "in_force_everywhere_at_ms": verified.in_force_everywhere_at_ms,
    }
    sidecars = [
        {
            "sidecar_id": word.sidecar_id,
            "enrolled_seq": word.enrolled_seq,
            "size": word.size,
            "applied_at_ms": word.applied_at_ms,
        }
        for word in verified.sidecars
    ]
    _show(fields, sidecars, as_json=as_json)


def _show(fields: dict[str, Any], sidecars: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**fields, "sidecars": sidecars}))
        return
    for name, value in fields.items():
        typer.echo(f"{name.removesuffix('_ms')}: {_format(name, value)}")
    for sidecar in sidecars:
        applied = sidecar["applied_at_ms"]
        since = "not acknowledged yet" if applied is None else f"in force since {_format('_ms', applied)}"
        typer.echo(f"  {sidecar['sidecar_id']} (enrolled by entry {sidecar['enrolled_seq']}): {since}")


def _format(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if not name.endswith("_ms"):
        return str(value)
    try:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        # A sidecar's clock may say anything.
        return f"{value} ms after 1970"


def _name_type(type_byte: int) -> str:
    from consent.event import EventType

    return EventType(type_byte).name if type_byte in set(EventType) else f"0x{type_byte:02x}"


def _load_trust(trust: Path, root_key: Path) -> "Trust":
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import parse_verifier_key
    from consent.eventlog.trust import open_trust

    try:
        return open_trust(_read_bytes(trust), parse_verifier_key(read_text(root_key).strip()))
    except EventLogError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}", EXIT_USAGE)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path}: {error.strerror}", EXIT_USAGE)
