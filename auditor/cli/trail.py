"""`consentry-auditor trail`: how an answer came about, and how an entry came to be in force."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from auditor.cli.output import Report, Table, choose_format, print_report, shown_progress
from auditor.cli.session import (
    EXIT_NOT_CHECKED,
    ConfigOption,
    CsvOption,
    FetchOption,
    FolderOption,
    JsonOption,
    KeyOption,
    checking,
    end,
    fail,
    open_audit,
)

if TYPE_CHECKING:
    from auditor.trail.subject import ResolvedSubject

_BRIEF = ("at_ms", "sidecar_id", "caller", "purposes", "effect", "reason", "decision_id")
_TRACE_CHARACTERS = 32
_UUID_CHARACTERS = 36
_SEQ_CHARACTERS = 19

_SubjectOption = Annotated[
    Path | None,
    typer.Option(
        "--subject",
        metavar="FILE",
        help="Everything about a person: the result of `consentry-feed resolve --json`. Identifiers are never typed here.",
    ),
]


def trail(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SEQ|DECISION_ID|TRACE_ID",
            help="An entry's number, a decision's UUID, or a trace id of 32 hexadecimal digits.",
        ),
    ] = None,
    subject: _SubjectOption = None,
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    fetch_first: FetchOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Explain an entry, a decision, a trace or a person: who asked what, which entry decided it, its proof, and where it is in force.

    Decisions are read from journals, so they need the auditor's key; what cannot be read is named. Exit codes: 0 found, and it holds;
    1 it does not hold, or the journals, all read, do not have it; 2 could not look everywhere.
    Example: consentry-auditor trail 42 -c auditor.yaml
    """
    from auditor.trail.answers import trace_decision, trace_entry, trace_subject, trace_trace
    from auditor.trail.subject import ResolvedSubject

    output_format = choose_format(as_json=as_json, as_csv=as_csv)
    if (what is None) == (subject is None):
        fail("one of SEQ, DECISION_ID, TRACE_ID or --subject FILE is needed")
    asked = _read_subject(subject) if subject is not None else _read(what or "")
    opened = open_audit(config, folder, key, fetch_first=fetch_first, output_format=output_format)
    with checking(), shown_progress(output_format) as progress:
        if isinstance(asked, ResolvedSubject):
            answer = trace_subject(opened, asked, progress)
        elif isinstance(asked, UUID):
            answer = trace_decision(opened, asked.bytes, progress)
        elif isinstance(asked, bytes):
            answer = trace_trace(opened, asked, progress)
        else:
            answer = trace_entry(opened, asked, progress)
    tables = [
        Table(title, columns, rows, _BRIEF if set(_BRIEF) <= set(columns) else ())
        for title, columns, rows in answer.tables
    ]
    print_report(Report(answer.title, answer.figures, answer.findings, tables, answer.text), output_format)
    end(answer.findings)
    if not answer.is_complete:
        raise typer.Exit(EXIT_NOT_CHECKED)


def _read_subject(path: Path) -> "ResolvedSubject":
    from auditor.trail.subject import read_subject

    with checking():
        return read_subject(path)


def _read(what: str) -> int | UUID | bytes:
    """What is asked about, by its form; what was typed is not repeated."""
    with suppress(ValueError):
        if len(what) == _UUID_CHARACTERS:
            return UUID(what)
        if len(what) == _TRACE_CHARACTERS:
            return bytes.fromhex(what)
        if what.isascii() and what.isdigit() and len(what) <= _SEQ_CHARACTERS and int(what):
            return int(what)
    return fail("expected an entry's number, a decision's UUID, or a trace id of 32 hexadecimal digits")
