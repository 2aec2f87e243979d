"""The immutable table in memory: from a subject's token to what people said, in about 23 bytes per subject.

Rows (`sidecar.cache.rows`) are sorted by token. An index over the first 16 to 24 bits of the token, as many as keep a bucket at some tens
of rows, says between which rows to search for the rest of it.
"""

import mmap
from array import array
from bisect import bisect_left
from functools import lru_cache, partial
from typing import NamedTuple

from consent.state import Cluster, Member
from sidecar.cache.rows import KEY_BYTES, KEY_SLICE, PAYLOAD, ROW_BYTES, SPILL_PAYLOAD, SPILLED, Shapes
from sidecar.cache.spill import spill_record, unpack_spill

COARSE_BITS = 16
_PREFIX_BITS = 24
_BUCKET_ROWS = 32
_CLUSTERS_KEPT = 1024


class Table:
    """All subjects of one generation.

    Args:
        rows: `row_count` rows, sorted by token.
        row_count: How many.
        coarse: Number of the first row of each of the 65,536 prefixes of 16 bits, and behind them `row_count`.
        spill: Spill records.
        spill_size: Bytes of them.
        shapes: Shapes that rows and spill records name.
    """

    __slots__ = ("_index", "_load", "_rows", "_shift", "_spill", "row_count", "shapes", "spill_size")

    def __init__(
        self, rows: mmap.mmap, row_count: int, coarse: "array[int]", spill: mmap.mmap, spill_size: int, shapes: Shapes
    ) -> None:
        self.row_count = row_count
        self.spill_size = spill_size
        self.shapes = shapes
        self._rows = rows
        self._spill = spill
        self._index, bits = _make_index(coarse, memoryview(rows), row_count)
        self._shift = _PREFIX_BITS - bits
        # A method as the cached function would make a cycle, and the mapping of an old generation outlive its use.
        self._load = lru_cache(_CLUSTERS_KEPT)(partial(_load_cluster, rows, spill, shapes))

    def find(self, token: bytes) -> Cluster | None:
        """The cluster of a token of 16 bytes, equal to the one that was put in; None where there is none."""
        at = self._find_row(token)
        return self._load(at, token) if at >= 0 else None

    def has(self, token: bytes) -> bool:
        """Whether there is a row for this token."""
        return self._find_row(token) >= 0

    def _find_row(self, token: bytes) -> int:
        """Offset of the row of a token, negative where there is none."""
        bucket = int.from_bytes(token[:3], "big") >> self._shift
        start, end = self._index[bucket] * ROW_BYTES, self._index[bucket + 1] * ROW_BYTES
        key = token[KEY_SLICE]
        at = self._rows.find(key, start, end)
        # The bytes of a key can also stand across two rows.
        while at >= 0 and at % ROW_BYTES:
            at = self._rows.find(key, at + 1, end)
        return at

    def position(self, token: bytes) -> tuple[int, bool]:
        """Number of the row where a token stands or would have to, and whether it stands there."""
        bucket = int.from_bytes(token[:3], "big") >> self._shift
        low, end = self._index[bucket], self._index[bucket + 1]
        high, key = end, token[KEY_SLICE]
        while low < high:
            middle = (low + high) // 2
            at = middle * ROW_BYTES
            if self._rows[at : at + KEY_BYTES] < key:
                low = middle + 1
            else:
                high = middle
        at = low * ROW_BYTES
        return low, low < end and self._rows[at : at + KEY_BYTES] == key

    @property
    def coarse(self) -> "array[int]":
        """As it was passed in."""
        return self._index[:: 1 << (_PREFIX_BITS - self._shift - COARSE_BITS)]

    @property
    def rows(self) -> memoryview:
        """All rows."""
        return memoryview(self._rows)[: self.row_count * ROW_BYTES]

    @property
    def spill(self) -> memoryview:
        """All spill records."""
        return memoryview(self._spill)[: self.spill_size]

    @property
    def memory_bytes(self) -> int:
        """Bytes held for subjects, without shapes and clusters kept ready."""
        return len(self._rows) + len(self._spill) + self._index.itemsize * len(self._index)


class BuiltTable(NamedTuple):
    """A new table, and the last 2 bytes of each row's token, in the order of the rows: they belong on disk."""

    table: Table
    tails: bytearray


def allocate_memory(size_bytes: int) -> mmap.mmap:
    """Anonymous memory for what people said, left out of core dumps."""
    memory = mmap.mmap(-1, max(size_bytes, 1))
    if hasattr(mmap, "MADV_DONTDUMP"):
        memory.madvise(mmap.MADV_DONTDUMP)
    return memory


def _make_index(coarse: "array[int]", rows: memoryview, row_count: int) -> "tuple[array[int], int]":
    """First row of each bucket, with as many bits as keep buckets small; (index, bits)."""
    bits = _choose_bits(row_count)
    if bits == COARSE_BITS:
        return coarse, bits
    # Bits 16 to 23 of a token are the first byte of its row: one column tells where each finer bucket starts.
    column = bytes(rows[: row_count * ROW_BYTES : ROW_BYTES])
    finer, step = 1 << (bits - COARSE_BITS), 1 << (_PREFIX_BITS - bits)
    index = array("I")
    for prefix in range(1 << COARSE_BITS):
        start, end = coarse[prefix], coarse[prefix + 1]
        index.append(start)
        index.extend(bisect_left(column, part * step, start, end) for part in range(1, finer))
    index.append(row_count)
    return index, bits


def _choose_bits(row_count: int) -> int:
    """As few as keep a bucket below `_BUCKET_ROWS`, if the tokens are spread evenly."""
    return min(max(COARSE_BITS, (row_count // _BUCKET_ROWS).bit_length()), _PREFIX_BITS)


def _load_cluster(rows: mmap.mmap, spill: mmap.mmap, shapes: Shapes, at: int, token: bytes) -> Cluster | None:
    number, seq_low, time_low = PAYLOAD.unpack_from(rows, at + KEY_BYTES)
    if number != SPILLED:
        return Cluster((Member(token, (shapes.unpack(number, seq_low, time_low),)),))
    _, offset = SPILL_PAYLOAD.unpack_from(rows, at + KEY_BYTES)
    return unpack_spill(spill_record(memoryview(spill), offset), token, shapes)
