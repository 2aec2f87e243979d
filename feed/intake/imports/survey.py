"""A first pass over a file: what it is, how long it is, and that it can be read to its end, before anything is recorded."""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from feed.intake.imports.delimited import read_records
from feed.intake.imports.shapes import HEAD_BYTES, Shape, recognise_shape


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first pass found.

    Attributes:
        shape: How the file is to be read.
        row_count: Rows below the header, empty lines included.
        file_digest: SHA-256 of the file.
    """

    shape: Shape
    row_count: int
    file_digest: bytes


def survey_file(stream: BinaryIO) -> Survey:
    """Read a file through once, with bounded memory.

    Args:
        stream: The file, from its beginning; must be seekable.

    Raises:
        UnreadableImport: It is none that can be imported, or cannot be read to its end; the text names line and cause.
    """
    start = stream.tell()
    shape = recognise_shape(stream.read(HEAD_BYTES))
    stream.seek(start)
    hashing = _HashingLines(stream)
    # What rows say is not looked at, so this is many times faster than reading them.
    row_count = sum(1 for _ in read_records(hashing, shape.delimiter)) - 1
    return Survey(shape, row_count, hashing.file_hash.digest())


class _HashingLines:
    """Lines of a file, hashed as they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.file_hash = hashlib.sha256()

    def readline(self, size: int, /) -> bytes:
        line_bytes = self._stream.readline(size)
        self.file_hash.update(line_bytes)
        return line_bytes
