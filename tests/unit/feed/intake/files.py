"""Import files in memory."""

from io import BytesIO

from feed.intake.imports.reading import ImportOptions, read_rows
from feed.intake.imports.rows import DirectiveRow, Row, Verdict
from feed.intake.imports.survey import survey_file

OPTIONS = ImportOptions(frozenset({"marketing", "marketing.email"}))
PLAIN_HEADER = "email;purpose;action;occurred_at\n"


def read_all(content: str | bytes, options: ImportOptions = OPTIONS) -> list[Row]:
    """Surveys a file and reads all its rows."""
    stream = BytesIO(content.encode() if isinstance(content, str) else content)
    survey = survey_file(stream)
    stream.seek(0)
    rows = list(read_rows(stream, survey.shape, options))
    assert len(rows) == survey.row_count
    return rows


def read_plain(*rows: str) -> list[Row]:
    """Rows of a plain file with the usual header."""
    return read_all(PLAIN_HEADER + "\n".join(rows))


def directives(rows: list[Row]) -> list[DirectiveRow]:
    return [row for row in rows if isinstance(row, DirectiveRow)]


def verdicts(rows: list[Row]) -> list[tuple[int, str, str, str]]:
    """Line, verdict, reason and column of every row that was set aside."""
    return [(row.line, str(row.kind), str(row.reason), row.column) for row in rows if isinstance(row, Verdict)]
