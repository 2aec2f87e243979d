"""The command `consentry-sidecar`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from consentry.decision.v1 import decision_pb2

    from sidecar.config import SidecarSettings
    from sidecar.journal.segment_access import Recipient

CONFIG_VARIABLE = "CONSENTRY_SIDECAR_CONFIG"
PARENT_VARIABLE = "CONSENTRY_SIDECAR_PARENT_PID"
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
KEYS_TIMEOUT_SECONDS = 60

app = typer.Typer(
    name="consentry-sidecar",
    help=(
        "Answers, next to a service, whether a subject's data may be used for a purpose: from a local, encrypted, verified copy of"
        " everyone's choices. Settings come from a YAML file and CONSENTRY_SIDECAR_* variables (docs/configuration.md)."
    ),
    epilog="Exit codes: 0 done; 1 failed while running; 2 wrong settings or usage; 3 the sidecar cannot be reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="YAML file with the settings."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for a script.")]


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Answer checks until SIGTERM or Ctrl-C.

    Follows the feed, keeps the encrypted cache, records every decision and ships the records as OpenTelemetry spans (the standard
    OTEL_* variables say where). Answers go on while the feed is down, until the data is too old for the purpose asked about.

    Example: consentry-sidecar serve --config sidecar.yaml
    """
    settings = _load(config)
    from hosting.errors import HostingError
    from hosting.logs import configure_logging
    from sidecar.errors import SidecarError
    from sidecar.runtime import serve as run

    configure_logging(settings.log.level, sys.stderr, settings.log.format)
    arguments = ["ship"] if config is None else ["ship", "--config", str(config)]
    try:
        asyncio.run(run(settings, arguments))
    except (SidecarError, HostingError) as error:
        _fail(f"{error.reason}: {error}", EXIT_USAGE)


@app.command("show-config")
def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, defaults included, and check them.

    Example: CONSENTRY_SIDECAR_JOURNAL__MODE=sync consentry-sidecar show-config -c sidecar.yaml
    """
    from hosting.settings import render_settings

    typer.echo(render_settings(_load(config)), nl=False)


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask a running sidecar what it holds and how fresh it is, through its administration socket.

    Example: consentry-sidecar status -c sidecar.yaml --json
    """
    settings = _load(config)
    if settings.admin_address is None:
        _fail("admin_address is not set, so there is no administration socket to ask", EXIT_USAGE)
    fields = _describe(_ask_status(settings.admin_address))
    if as_json:
        typer.echo(json.dumps(fields))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in fields.items():
        table.add_row(name, "-" if value is None else str(value))
    Console().print(table)


@app.command("journal-keys")
def journal_keys(
    auditor: Annotated[Path, typer.Option("--auditor", metavar="FILE", help="The auditor's public key.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Written for its owner alone.")],
    config: ConfigOption = None,
) -> None:
    """Seal the keys of all segments of the journal to an auditor's own key, for an audit of copied files.

    A running sidecar is asked through its administration socket and notes in its journal who was given keys. While it is stopped
    nothing is noted.

    Example: consentry-sidecar journal-keys --auditor auditor.pub --out segment-keys.json -c sidecar.yaml
    """
    settings = _load(config)
    from hosting.key_files import write_file_atomically

    recipient = _read_recipient(auditor)
    sealed = _ask_keys(settings.admin_address, recipient) if settings.admin_address is not None else None
    is_noted = sealed is not None
    if sealed is None:
        sealed = _seal_stopped(settings, recipient)
    given = {name: key for name, key in sealed.items() if key is not None}
    try:
        write_file_atomically(out, json.dumps(given, indent=1).encode("ascii") + b"\n")
    except OSError as error:
        _fail(f"{out}: {error.strerror}", EXIT_USAGE)
    typer.echo(f"Wrote the keys of {len(given)} segments to {out}; only {recipient.name} can open them.")
    if len(given) < len(sealed):
        typer.echo(f"No key at hand opens {len(sealed) - len(given)} of the segments.", err=True)
    if is_noted:
        typer.echo("The journal says that they were handed out.")
    else:
        typer.echo("The sidecar is stopped: no journal says that they were handed out, so write it down.", err=True)


@app.command(hidden=True)
def ship(config: ConfigOption = None) -> None:
    """Export the journal as spans: started by `serve`, in a process of its own."""
    settings = _load(config)
    from hosting.errors import HostingError
    from hosting.logs import configure_logging
    from sidecar.errors import SidecarError
    from sidecar.shipping import run_shipper

    configure_logging(settings.log.level, sys.stderr, settings.log.format)
    parent_pid = os.environ.get(PARENT_VARIABLE)
    try:
        run_shipper(settings, os.environ, int(parent_pid) if parent_pid else None)
    except (SidecarError, HostingError) as error:
        _fail(f"{error.reason}: {error}", EXIT_USAGE)


def main() -> None:
    """Run the command."""
    app()


def _load(config: Path | None) -> "SidecarSettings":
    from hosting.errors import SettingsError
    from hosting.settings import load_settings
    from sidecar.config import ENV_PREFIX, SidecarSettings

    others = frozenset({CONFIG_VARIABLE, PARENT_VARIABLE})
    try:
        return load_settings(
            SidecarSettings, file=config, env_prefix=ENV_PREFIX, environ=os.environ, other_variables=others
        )
    except SettingsError as error:
        _fail(str(error), EXIT_USAGE)


def _ask_status(address: str) -> "decision_pb2.GetStatusResponse":
    import grpc
    from consentry.decision.v1 import decision_pb2, decision_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
            return stub.GetStatus(decision_pb2.GetStatusRequest(), timeout=2)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            _fail(f"no sidecar answers at {address} ({code.name if code else 'no answer'})", EXIT_UNREACHABLE)


def _read_recipient(path: Path) -> "Recipient":
    from journal.auditor_key import parse_auditor_key
    from journal.errors import MalformedAuditorKey
    from sidecar.journal.segment_access import Recipient

    try:
        key = parse_auditor_key(path.read_text(encoding="utf-8"))
    except MalformedAuditorKey as error:
        _fail(f"{path}: {error}", EXIT_USAGE)
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{path}: {getattr(error, 'strerror', None) or 'not text'}", EXIT_USAGE)
    return Recipient(key.name, key.sealing_key)


def _ask_keys(address: str, recipient: "Recipient") -> dict[str, str | None] | None:
    """Sealed keys by chain and number, None for those that cannot be had, from a running sidecar; None where none answers."""
    import grpc
    from consentry.audit.v1 import journal_pb2, journal_pb2_grpc

    from hosting.grpc_errors import REASON_KEY
    from sidecar.grpc_api.journal_service import MAX_KEYS

    sealed: dict[str, str | None] = {}
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = journal_pb2_grpc.JournalServiceStub(channel)
        try:
            listed = stub.ListSegments(journal_pb2.ListSegmentsRequest(), timeout=KEYS_TIMEOUT_SECONDS).segments
            sealed |= dict.fromkeys(_name_key(segment.chain_id, segment.number) for segment in listed)
            for start in range(0, len(listed), MAX_KEYS):
                request = journal_pb2.GetSegmentKeysRequest(
                    recipient_public_key=recipient.public_key,
                    recipient_name=recipient.name,
                    segments=[
                        journal_pb2.SegmentName(chain_id=segment.chain_id, number=segment.number)
                        for segment in listed[start : start + MAX_KEYS]
                    ],
                )
                response = stub.GetSegmentKeys(request, timeout=KEYS_TIMEOUT_SECONDS)
                sealed |= {_name_key(key.chain_id, key.number): key.sealed_key.hex() for key in response.keys}
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                raise
            # A sidecar that answers gives a reason of its own; gRPC alone says UNAVAILABLE where nobody does.
            is_answered = any(key == REASON_KEY for key, _ in error.trailing_metadata() or ())
            if error.code() is grpc.StatusCode.UNAVAILABLE and not is_answered and not sealed:
                return None
            _fail(error.details() or error.code().name, EXIT_FAILED)
    return sealed


def _name_key(chain_id: bytes, number: int) -> str:
    return f"{chain_id.hex()}-{number}"


def _seal_stopped(settings: "SidecarSettings", recipient: "Recipient") -> dict[str, str | None]:
    from hosting.errors import HostingError, InstanceLocked
    from journal.errors import JournalError
    from sidecar.errors import SidecarError
    from sidecar.key_handout import seal_stopped

    try:
        keys = seal_stopped(settings, recipient)
        return {_name_key(*name): sealed_key.hex() if sealed_key else None for name, sealed_key in keys.items()}
    except InstanceLocked:
        _fail(
            "the sidecar runs and does not answer at admin_address: set it, so that the journal can say who was given keys",
            EXIT_UNREACHABLE,
        )
    except (SidecarError, HostingError, JournalError) as error:
        _fail(f"{error.reason}: {error}", EXIT_USAGE)
    except OSError as error:
        _fail(f"{settings.journal.directory}: {error.strerror}", EXIT_USAGE)


def _describe(response: "decision_pb2.GetStatusResponse") -> dict[str, object]:
    from consentry.decision.v1 import decision_pb2

    return {
        "sidecar_id": response.sidecar_id,
        "tenant": response.tenant,
        "log_origin": response.log_origin,
        "log_size": response.log_size,
        "root_hash": response.root_hash.hex(),
        "policy_version": response.policy_version,
        "staleness_ms": response.staleness_ms if response.HasField("staleness_ms") else None,
        "sync_state": decision_pb2.SyncState.Name(response.sync_state).removeprefix("SYNC_STATE_"),
        "last_error_reason": response.last_error_reason or None,
        "subjects": response.subjects,
        "cache_generation": response.cache_generation,
        "journal_mode": response.journal_mode,
        "journal_backlog_records": response.journal_backlog_records,
        "enrolled": response.enrolled,
        "sidecar_key_id": response.sidecar_key_id.hex(),
        "unconfirmed_receipts": response.unconfirmed_receipts,
        "version": response.version,
    }


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"consentry-sidecar: {message}", err=True)
    raise typer.Exit(code)
