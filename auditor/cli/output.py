"""How every command shows what it found: tables for people, JSON and CSV for programs, and bars while it takes long."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import typer

from auditor.findings import Finding, Findings, Severity
from auditor.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS: Final = {Severity.FINDING: "bold red", Severity.NOTE: "yellow"}
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
_WIDEST: Final = 1_000
_FILE_WIDTH: Final = 160
_MOST_BLOCKS: Final = 12


class OutputFormat(StrEnum):
    """For whom a command prints."""

    PEOPLE = "people"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings.

    Attributes:
        title: For people, and the name in JSON (lower case, `_` for spaces).
        columns: Headings, as programs read them: `at_ms`, `sidecar_id`. A column ending in `_ms` is a time, shown as one to people.
        rows: As many values each.
        brief: Columns that people see where there are many rows; all by default. Programs get every one.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    brief: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a command has to say.

    Attributes:
        title: What was done, in one line.
        figures: Single values by name.
        findings: What was found; None for a command that judges nothing.
        tables: Further tables.
        text: Sentences for people, after everything else.
    """

    title: str
    figures: Mapping[str, object] = field(default_factory=dict)
    findings: Findings | None = None
    tables: Sequence[Table] = ()
    text: Sequence[str] = ()


def choose_format(*, as_json: bool, as_csv: bool) -> OutputFormat:
    """The form that the options ask for; both together end the command."""
    if as_json and as_csv:
        typer.echo("consentry-auditor: --json and --csv exclude each other", err=True)
        raise typer.Exit(2)
    return OutputFormat.JSON if as_json else OutputFormat.CSV if as_csv else OutputFormat.PEOPLE


def print_report(report: Report, output_format: OutputFormat) -> None:
    """Print a report on standard output. CSV is the first further table, else the findings."""
    match output_format:
        case OutputFormat.JSON:
            typer.echo(json.dumps(describe(report), ensure_ascii=False))
        case OutputFormat.CSV:
            _print_csv(report.tables[0] if report.tables else _findings_table(report))
        case OutputFormat.PEOPLE:
            _print_for_people(report)


def describe(report: Report) -> dict[str, Any]:
    """A report as one JSON object: the figures, `findings` with `finding_count` and `note_count`, each table as a list of objects."""
    described: dict[str, Any] = {name: _plain(value) for name, value in report.figures.items()}
    if report.findings is not None:
        described["finding_count"] = report.findings.counts[Severity.FINDING]
        described["note_count"] = report.findings.counts[Severity.NOTE]
        described["findings"] = [_describe_finding(finding) for finding in report.findings.listed]
    for table in report.tables:
        rows = [dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows]
        described[table.title.lower().replace(" ", "_")] = rows
    if report.text:
        described["text"] = list(report.text)
    return described


@contextmanager
def shown_progress(output_format: OutputFormat = OutputFormat.PEOPLE) -> Iterator[Progress]:
    """A bar for each thing that is done, on a terminal and for people; nothing anywhere else."""
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = _console(sys.stderr)
    is_shown = console.is_terminal and output_format is OutputFormat.PEOPLE
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, disable=not is_shown, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            # 0: nobody knows yet how much there is.
            bars.update(tasks[what], completed=done, total=total or None)

        yield advance


def format_time(unix_ms: int) -> str:
    """A time for people, in UTC; what no calendar holds as it is."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        # A sidecar's clock may say anything.
        return f"{unix_ms} ms after 1970"
    return moment.replace("+00:00", " UTC")


def neutralise_cell(value: object) -> str:
    """The text of a CSV cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) and not _is_number(text) else text


def _print_for_people(report: Report) -> None:
    from rich.markup import escape

    console = _console(sys.stdout)
    console.print(f"[bold]{escape(report.title)}[/bold]")
    _print_block(console, report.figures)
    for table in report.tables:
        _print_table(console, table)
    for sentence in report.text:
        console.print(escape(sentence))
    if report.findings is not None:
        _print_findings(console, report.findings)
        console.print(_verdict(report.findings))


def _print_table(console: "Console", table: Table) -> None:
    """A table where it fits; a few rows that do not fit stand one below the other; nothing is cut off."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    if table.brief and len(table.rows) > _MOST_BLOCKS:
        places = [table.columns.index(column) for column in table.brief]
        table = Table(table.title, table.brief, [[row[place] for place in places] for row in table.rows])
    shown = RichTable(title=escape(table.title), title_justify="left", title_style="bold")
    for column in table.columns:
        shown.add_column(escape(_label(column)), overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(_show(column, value)) for column, value in zip(table.columns, row, strict=True)))
    is_too_wide = (
        console.measure(shown).minimum > console.width
        or shown.__rich_measure__(console, console.options.update(width=_WIDEST)).maximum > console.width
    )
    if not is_too_wide or len(table.rows) > _MOST_BLOCKS:
        console.print(shown)
        return
    for row in table.rows:
        console.print(f"[bold]{escape(table.title)}[/bold]")
        _print_block(console, dict(zip(table.columns, row, strict=True)))


def _print_block(console: "Console", values: Mapping[str, object]) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    block = RichTable.grid(padding=(0, 2))
    block.add_column()
    block.add_column(overflow="fold")
    for name, value in values.items():
        block.add_row(escape(_label(name)), escape(_show(name, value)))
    console.print(block)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _print_findings(console: "Console", findings: Findings) -> None:
    """A line or two for each: their places are long names, which no column holds."""
    from rich.markup import escape

    for finding in findings.listed:
        colour = _COLOURS[finding.severity]
        about = f" {finding.sidecar_id}" if finding.sidecar_id else ""
        console.print(f"[{colour}]{finding.severity} {escape(finding.reason)}[/{colour}]{escape(about)}")
        place = f"{finding.place}: " if finding.place and finding.place not in finding.text else ""
        console.print(f"  {escape(place + finding.text)}")


def _verdict(findings: Findings) -> str:
    found, notes = findings.counts[Severity.FINDING], findings.counts[Severity.NOTE]
    beside = f", {_count(notes, 'note')}" if notes else ""
    more = found + notes - len(findings.listed)
    beside += f" ({more} of them not listed)" if more else ""
    return (
        f"[bold red]{_count(found, 'finding')}[/bold red]{beside}"
        if found
        else f"[bold green]clean[/bold green]{beside}"
    )


def _findings_table(report: Report) -> Table:
    rows = [
        (finding.severity, finding.reason, finding.sidecar_id, finding.place, finding.text)
        for finding in (report.findings.listed if report.findings else ())
    ]
    return Table("Findings", ("severity", "reason", "sidecar_id", "place", "text"), rows)


def _describe_finding(finding: Finding) -> dict[str, str]:
    return {**finding._asdict(), "severity": finding.severity.value}


def _print_csv(table: Table) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([neutralise_cell(value) for value in row] for row in table.rows)


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _show(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name.endswith("_ms") and isinstance(value, int):
        return format_time(value)
    if isinstance(value, int) and not isinstance(value, bool) and name != "seq":
        return f"{value:,}"
    return str(_plain(value))


def _label(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _console(file: Any) -> "Console":
    """Rich leaves colours out by itself where nobody looks; a file gets lines as wide as they are needed."""
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=_FILE_WIDTH, soft_wrap=True)
    return console
