"""`consentry-auditor export`: decision records and log entries for other programs."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from uuid import UUID

import typer

from auditor.cli.session import ConfigOption, FetchOption, FolderOption, KeyOption, checking, fail, open_audit

if TYPE_CHECKING:
    from auditor.export.decisions import DecisionFilter
    from auditor.folder import AuditFolder
    from auditor.progress import Progress

Row = dict[str, Any]


class ExportFormat(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"


FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="First time wanted, ISO 8601, UTC unless it says otherwise."),
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="First time that is not wanted any more.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Write there, whole or not at all, for its owner alone; else on standard output.",
    ),
]


def export_records(  # noqa: PLR0913 - one for each option
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    *,
    out: OutOption = None,
    fetch_first: FetchOption = False,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="JSON, one object a line, or CSV.")
    ] = ExportFormat.JSONL,
    events: Annotated[bool, typer.Option("--events", help="The log's entries, in place of decision records.")] = False,
    with_pseudonyms: Annotated[
        bool, typer.Option("--with-pseudonyms", help="Add what can mark a person: pseudonyms, deciding seq, recipient.")
    ] = False,
    from_time: FromOption = None,
    to_time: ToOption = None,
    sidecar: Annotated[list[str] | None, typer.Option("--sidecar", help="Only of this sidecar.")] = None,
    caller: Annotated[list[str] | None, typer.Option("--caller", help="Only asked by this caller.")] = None,
    purpose: Annotated[list[str] | None, typer.Option("--purpose", help="Only about this purpose.")] = None,
    effect: Annotated[list[str] | None, typer.Option("--effect", help="Only ALLOW, or only DENY.")] = None,
    reason: Annotated[list[str] | None, typer.Option("--reason", help="Only for this reason.")] = None,
    decision_id: Annotated[list[str] | None, typer.Option("--decision-id", help="Only this decision.")] = None,
) -> None:
    """Write decision records, or the log's entries, as JSON lines or CSV.

    A filter may be given several times: one of its values must match. Neither form holds a token; docs/reconcile.md lists the fields.
    Example: consentry-auditor export -f audit -k auditor.key --from 2026-01-01 --to 2026-02-01 --effect DENY -o denials.jsonl
    """
    from auditor.export.decisions import DecisionFilter

    only_decisions = (sidecar, caller, effect, reason, decision_id, with_pseudonyms)
    if events and any(only_decisions):
        fail("--events knows no other filters than --from, --to and --purpose")
    wanted = DecisionFilter(
        from_ms=_parse_time("--from", from_time),
        to_ms=_parse_time("--to", to_time),
        sidecars=frozenset(sidecar or ()),
        callers=frozenset(caller or ()),
        purposes=frozenset(purpose or ()),
        effects=_parse_names("--effect", effect),
        reasons=_parse_names("--reason", reason),
        decision_ids=frozenset(_parse_id(text) for text in decision_id or ()),
    )
    audit = open_audit(config, folder, key, fetch_first=fetch_first)
    with checking():
        if events:
            _export_events(audit, wanted, out, export_format)
        else:
            _export_decisions(audit, wanted, out, export_format, with_marks=with_pseudonyms)


def _export_decisions(
    audit: "AuditFolder", wanted: "DecisionFilter", out: Path | None, export_format: ExportFormat, *, with_marks: bool
) -> None:
    from auditor.export.decisions import DecisionExport

    with _progress(out) as progress:
        export = DecisionExport(audit, wanted, with_marks, progress)
        with _opened(out) as file:
            _write(file, export_format, export.columns, export.rows())
    typer.echo(f"{export.count} decisions exported", err=True)
    for unread in export.unread:
        typer.echo(f"not read to its end: {unread.sidecar_id}: {unread.text}", err=True)
    if export.unread:
        fail(f"{len(export.unread)} chains could not be read to their end, so that not all is in the export")


def _export_events(
    audit: "AuditFolder", wanted: "DecisionFilter", out: Path | None, export_format: ExportFormat
) -> None:
    from auditor.export.events import EVENT_FIELDS, list_events

    with _progress(out) as progress, _opened(out) as file:
        rows = list_events(
            audit.log, from_ms=wanted.from_ms, to_ms=wanted.to_ms, purposes=wanted.purposes, progress=progress
        )
        _write(file, export_format, tuple(EVENT_FIELDS), rows)


def _write(file: TextIO, export_format: ExportFormat, columns: Sequence[str], rows: Iterable[Row]) -> None:
    if export_format is ExportFormat.JSONL:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: object) -> str:
    """A list becomes its values with spaces between; JSON keeps them apart whatever is in them."""
    from auditor.cli.output import neutralise_cell

    if isinstance(value, list):
        return neutralise_cell(" ".join(value))
    return neutralise_cell(str(value).lower() if isinstance(value, bool) else value)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """A file that is there whole or not at all; a kill leaves at most a file ending in `.part`, which the next export replaces."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _progress(out: Path | None) -> Iterator["Progress"]:
    """A bar, where the rows themselves do not go to the terminal."""
    from auditor.cli.output import OutputFormat, shown_progress

    is_shown = out is not None or not sys.stdout.isatty()
    with shown_progress(OutputFormat.PEOPLE if is_shown else OutputFormat.JSON) as progress:
        yield progress


def _parse_time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: not a time in ISO 8601")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _parse_names(option: str, names: Sequence[str] | None) -> frozenset[str]:
    from consent.vocabulary.reason import Effect, Reason

    known: Callable[[str], object] = Effect if option == "--effect" else Reason
    try:
        return frozenset(str(known(name.upper())) for name in names or ())
    except ValueError:
        fail(f"{option}: no such name")


def _parse_id(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        fail("--decision-id: not a UUID")
