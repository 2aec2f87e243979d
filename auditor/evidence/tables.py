"""Sections as files for programs: one JSON and, for each table and chart, one CSV."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

from auditor.evidence.catalogue import TITLES
from auditor.evidence.model import Cell, Section, Table

DATA_DIRECTORY: Final = "data"
#: A spreadsheet takes a cell that begins so for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def format_section(section: Section) -> Iterator[tuple[str, bytes]]:
    """Every file of a section, by its path in the evidence folder."""
    yield f"{DATA_DIRECTORY}/{section.spec.slug}.json", format_json(_section_content(section))
    for table in section.tables:
        yield csv_path(section, table.name), format_csv(table)
    for table in section.samples:
        yield csv_path(section, f"sample-{table.name}"), format_csv(table)
    for chart in section.charts:
        rows = Table(chart.name, chart.caption, ("label", chart.unit), chart.bars)
        yield csv_path(section, f"chart-{chart.name}"), format_csv(rows)


def csv_path(section: Section, name: str) -> str:
    """Where a table lies."""
    return f"{DATA_DIRECTORY}/{section.spec.slug}-{name}.csv"


def format_csv(table: Table) -> bytes:
    """RFC 4180 with a header; no text is a formula to a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.columns)
    writer.writerows([_neutral(cell) for cell in row] for row in table.rows)
    return out.getvalue().encode("utf-8", "replace")


def format_json(content: Any) -> bytes:
    """JSON in one form: the same content, the same bytes."""
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True).encode("utf-8", "replace") + b"\n"


def _neutral(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _section_content(section: Section) -> dict[str, Any]:
    return {
        "controls": [{"number": number, "title": TITLES[number]} for number in section.spec.controls],
        "shows": section.spec.shows,
        "sources": section.sources,
        "figures": [{"label": label, "value": value} for label, value in section.figures],
        "tables": {table.name: _table_content(table) for table in section.tables},
        "samples": {table.name: _table_content(table) for table in section.samples},
        "charts": {
            chart.name: {"caption": chart.caption, "unit": chart.unit, "bars": chart.bars} for chart in section.charts
        },
        "findings": [finding._asdict() for finding in section.findings],
        "open": [point._asdict() for point in section.open_points],
    }


def _table_content(table: Table) -> dict[str, Any]:
    return {"caption": table.caption, "columns": table.columns, "rows": table.rows}
