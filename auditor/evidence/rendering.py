"""The report as one HTML file: no script, nothing loaded from anywhere, made to be read and printed on A4."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from auditor.evidence.catalogue import TITLES
from auditor.evidence.charts import draw_chart, format_number
from auditor.evidence.model import Cell, Chart, Report, Section, Table
from auditor.evidence.tables import csv_path
from auditor.findings import Severity

FILE_NAME: Final = "report.html"
MAX_SHOWN_ROWS: Final = 30
"""Of a table; all rows are in its CSV file."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d( [0-9:]{5,8}Z)?")
#: 16 bytes in hexadecimal; the data files have them whole.
_CHAIN: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_SHOWN_CHAIN_DIGITS: Final = 12
_SIGNS: Final = re.compile(r"(?<=[/.])(?=[A-Za-z0-9])")
_LONGEST_PIECE: Final = 32
_TEMPLATES: Final = Path(__file__).parent / "templates"


def render_report(report: Report, facts: Mapping[str, str]) -> bytes:
    """The report.

    Args:
        report: All sections.
        facts: About the export, as the manifest has them.
    """
    template = _environment().get_template("report.html.j2")
    return template.render(report=report, facts=facts, counts=_count(report)).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = format_cell
    environment.globals |= {
        "svg": _svg,
        "csv_path": csv_path,
        "is_numeric": _is_numeric,
        "most_rows": MAX_SHOWN_ROWS,
        "titles": TITLES,
    }
    return environment


def format_cell(cell: Cell) -> Markup:
    """A cell as people read it, escaped: times stay on one line, ids of chains are shortened, long words may break at their signs."""
    if cell is None or cell == "":
        return Markup("\N{EN DASH}")
    if not isinstance(cell, str):
        return escape(format_number(cell))
    if _TIME.fullmatch(cell):
        return Markup('<span class="time">{}</span>').format(cell)
    return Markup(" ").join(_breakable(word) for word in cell.split(" "))


def _breakable(word: str) -> Markup:
    word = _CHAIN.sub(lambda chain: f"{chain[0][:_SHOWN_CHAIN_DIGITS]}\N{HORIZONTAL ELLIPSIS}", word)
    parts = [part for piece in _SIGNS.split(word) for part in _pieces(piece)]
    return Markup("<wbr>").join(parts)


def _pieces(piece: str) -> list[str]:
    return [piece[at : at + _LONGEST_PIECE] for at in range(0, len(piece), _LONGEST_PIECE)]


def _svg(chart: Chart, section: Section) -> Markup:
    # Safe: `draw_chart` escapes every text that it is given.
    return Markup(draw_chart(chart, f"chart-{section.spec.controls[0].replace('.', '-')}-{chart.name}"))  # noqa: S704


def _is_numeric(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(isinstance(cell, int | float) for cell in cells)


def _count(report: Report) -> dict[str, Any]:
    severities = [finding.severity for finding in report.findings()]
    return {
        "findings": severities.count(Severity.FINDING),
        "notes": severities.count(Severity.NOTE),
        "open": report.open_count(),
    }
