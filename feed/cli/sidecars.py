"""`consentry-feed sidecars`: which sidecars' acknowledgements count."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from feed.cli.session import CALL_TIMEOUT_SECONDS, EXIT_USAGE, ConfigOption, JsonOption, connected, fail, load

SECONDS_PER_HOUR = 3600

sidecars_app = typer.Typer(
    help="Sidecars: enrol and retire them, so that the log says where something is in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Name of the sidecar, which its certificate carries.")]


@sidecars_app.command()
def token(
    sidecar_id: IdArgument,
    expires: Annotated[int, typer.Option(min=1, max=1_000_000, help="Hours that it is good for.")] = 24,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token with which a sidecar enrols itself, once. It goes into the file of its setting enrolment_token_file.

    Example: consentry-feed sidecars token pod-7 -c feed.yaml > enrolment.token
    """
    from consentry.feed.v1 import enrolment_pb2, enrolment_pb2_grpc

    request = enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id=sidecar_id, valid_seconds=expires * SECONDS_PER_HOUR)
    with connected(load(config).admin_address) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        response = stub.IssueEnrolmentToken(request, timeout=CALL_TIMEOUT_SECONDS)
    if as_json:
        fields = {"enrolment_token": response.enrolment_token, "expires_at_ms": response.expires_at_ms}
        typer.echo(json.dumps(fields))
        return
    expires_at = datetime.fromtimestamp(response.expires_at_ms / 1000, UTC).isoformat(timespec="seconds")
    typer.echo(f"for one enrolment of {sidecar_id}, until {expires_at}; keep it secret", err=True)
    typer.echo(response.enrolment_token)


@sidecars_app.command("list")
def list_sidecars(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every sidecar that is enrolled, retired, or waits for approval, with the id of the key that waits.

    Example: consentry-feed sidecars list -c feed.yaml --json
    """
    from consentry.feed.v1 import audit_pb2, audit_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc

    with connected(load(config).admin_address) as channel:
        fleet = audit_pb2_grpc.AuditServiceStub(channel).GetFleetStatus(
            audit_pb2.GetFleetStatusRequest(), timeout=CALL_TIMEOUT_SECONDS
        )
        waiting = enrolment_pb2_grpc.EnrolmentServiceStub(channel).ListPendingEnrolments(
            enrolment_pb2.ListPendingEnrolmentsRequest(), timeout=CALL_TIMEOUT_SECONDS
        )
    key_ids = {asked.sidecar_id: asked.key_id.hex() for asked in waiting.pending}
    rows = [
        {
            "sidecar_id": member.sidecar_id,
            "enrolment": audit_pb2.EnrolmentState.Name(member.enrolment).removeprefix("ENROLMENT_STATE_"),
            "seq": member.enrolled_seq or None,
            "connected": member.connected,
            "waiting_key_id": key_ids.get(member.sidecar_id),
        }
        for member in fleet.sidecars
    ]
    if as_json:
        typer.echo(json.dumps({"sidecars": rows}))
        return
    _print_rows(rows, "No sidecar was ever heard of.")


@sidecars_app.command()
def approve(
    sidecar_id: IdArgument,
    key_id: Annotated[
        str,
        typer.Option(
            metavar="HEX", help="Key id that the sidecar's own status shows; nothing is enrolled if another key waits."
        ),
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a sidecar that has asked without a token.

    Example: consentry-feed sidecars approve pod-7 --key-id 5f1c09aa -c feed.yaml
    """
    from consentry.feed.v1 import enrolment_pb2, enrolment_pb2_grpc

    try:
        wanted = bytes.fromhex(key_id)
    except ValueError:
        fail("--key-id is not hexadecimal", EXIT_USAGE)
    with connected(load(config).admin_address) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        request = enrolment_pb2.ApproveEnrolmentRequest(sidecar_id=sidecar_id, key_id=wanted)
        seq = stub.ApproveEnrolment(request, timeout=CALL_TIMEOUT_SECONDS).seq
    typer.echo(json.dumps({"seq": seq}) if as_json else f"Enrolled {sidecar_id} as entry {seq}")


@sidecars_app.command()
def retire(sidecar_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Retire a sidecar: nobody waits for it any more, and it is cut off until it is enrolled anew.

    Example: consentry-feed sidecars retire pod-7 -c feed.yaml
    """
    from consentry.feed.v1 import enrolment_pb2, enrolment_pb2_grpc

    with connected(load(config).admin_address) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        request = enrolment_pb2.RetireSidecarRequest(sidecar_id=sidecar_id)
        seq = stub.RetireSidecar(request, timeout=CALL_TIMEOUT_SECONDS).seq
    typer.echo(json.dumps({"seq": seq}) if as_json else f"Retired {sidecar_id} as entry {seq}")


def fleet(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how far each sidecar is, and the size of the log that is in force at every enrolled one.

    Example: consentry-feed fleet -c feed.yaml --json
    """
    from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

    with connected(load(config).admin_address) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        response = stub.GetFleetStatus(audit_pb2.GetFleetStatusRequest(), timeout=CALL_TIMEOUT_SECONDS)
    rows = [
        {
            "sidecar_id": member.sidecar_id,
            "enrolment": audit_pb2.EnrolmentState.Name(member.enrolment).removeprefix("ENROLMENT_STATE_"),
            "enrolled_seq": member.enrolled_seq or None,
            "connected": member.connected,
            "acknowledged_size": member.acknowledged_size,
            "age_ms": member.age_ms if member.HasField("age_ms") else None,
            "receipt_size": member.receipt_size,
            "journal_head_age_ms": member.journal_head_age_ms if member.HasField("journal_head_age_ms") else None,
            "journal_silent": member.journal_silent,
            "version": member.version or None,
            "last_error_reason": member.last_error_reason or None,
        }
        for member in response.sidecars
    ]
    if as_json:
        size = response.size_in_force_everywhere
        fields = {"log_origin": response.log_origin, "log_size": response.log_size, "size_in_force_everywhere": size}
        typer.echo(json.dumps({**fields, "sidecars": rows}))
        return
    typer.echo(f"{response.log_origin}: {response.log_size} entries")
    typer.echo(f"in force at every enrolled sidecar, with its receipt in the log: {response.size_in_force_everywhere}")
    _print_rows(rows, "No sidecar was ever heard of.")


def _print_rows(rows: Sequence[Mapping[str, object]], nothing: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo(nothing)
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    Console().print(table)
