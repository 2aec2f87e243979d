"""Text in cells and rows (RFC 4180), read with bounded memory and with the number of the line where each row starts."""

import csv
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from feed.errors import UnreadableImport

MAX_LINE_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineSource(Protocol):
    """What lines are read from: a binary file, or what stands in for one."""

    def readline(self, size: int, /) -> bytes:
        """The next line with its end, at most `size` bytes of it; empty at the end."""
        ...


class Record(NamedTuple):
    """A row of a file.

    Attributes:
        line: Number of its first line, from 1.
        cells: Its cells; none for an empty line.
    """

    line: int
    cells: list[str]


def read_lines(stream: LineSource) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends and without a byte-order mark.

    Raises:
        UnreadableImport: A line is not UTF-8 or too long; the text names it.
    """
    number = 0
    while line_bytes := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line_bytes) > MAX_LINE_BYTES:
            raise UnreadableImport(f"line {number} has more than {MAX_LINE_BYTES} bytes: this is no table of rows")
        try:
            line = (line_bytes.removeprefix(BYTE_ORDER_MARK) if number == 1 else line_bytes).decode("utf-8")
        except UnicodeDecodeError:
            raise UnreadableImport(
                f"line {number} is not UTF-8 (perhaps Latin-1, Windows-1252 or UTF-16); save the file as UTF-8"
            ) from None
        yield line


def read_records(stream: LineSource, delimiter: str) -> Iterator[Record]:
    """The rows of a file; a quoted cell may hold delimiters, line breaks and doubled quotes.

    Raises:
        UnreadableImport: Not UTF-8, or quotes that do not pair: from there on nobody can tell where rows begin. The text names the
            line where the row starts.
    """
    reader = csv.reader(read_lines(stream), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UnreadableImport(f"line {line}: {_describe(error)}") from None
        yield Record(line, cells)


def _describe(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quoted cell is not closed before the file ends; the file may be cut short"
    if "expected after" in text:
        return "a quoted cell goes on after its closing quote"
    if "field larger" in text:
        return "a cell is far too long; a quote may not be closed"
    return "the row cannot be split into cells"
