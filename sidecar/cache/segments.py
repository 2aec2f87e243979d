"""The table on disk: four parts, each cut into sealed segments.

`directory` (row count, index, shapes; small, read by value), `rows` and `spill` (decrypted straight into the memory they are used from),
and `tails` (the last bytes of every token, verified at the start, needed by a merge only). A segment never spans two parts.
"""

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from hashlib import sha256
from typing import NamedTuple

from consent import encoding as wire
from consent.errors import MalformedState
from sidecar.cache.identity import Binding
from sidecar.cache.manifest import SegmentSizes
from sidecar.cache.rows import ROW_BYTES, TAIL_BYTES, format_shapes, parse_shapes
from sidecar.cache.sealing import DataKey
from sidecar.cache.table import COARSE_BITS, BuiltTable, Table, allocate_memory
from sidecar.errors import CorruptCache

SEGMENT_BYTES = 512 * 1024
"""Part of the format: it says which segment holds what, so another size is another version of the manifest."""
_COARSE_ENTRIES = (1 << COARSE_BITS) + 1


class SealedSegment(NamedTuple):
    """A row of table `segment`."""

    number: int
    blob: bytes


class CutTable:
    """A table cut into pieces, ready to be sealed one after the other.

    Args:
        built: The table with its tails.
        segment_bytes: Size of a piece; the last of each part is smaller.

    Attributes:
        sizes: Bytes of its parts.
        segment_count: Number of pieces.
    """

    def __init__(self, built: BuiltTable, segment_bytes: int = SEGMENT_BYTES) -> None:
        directory = format_directory(built.table)
        parts = (memoryview(directory), built.table.rows, built.table.spill, memoryview(built.tails))
        self.sizes = SegmentSizes(*map(len, parts))
        self._pieces = [piece for part in parts for piece in _cut(part, segment_bytes)]
        self.segment_count = len(self._pieces)

    def seal(self, numbers: range, data_key: DataKey, binding: Binding) -> list[SealedSegment]:
        """Seal some pieces; each number is sealed once only under one key."""
        return [
            SealedSegment(
                number,
                data_key.seal_segment(
                    number, binding.place("segment", number, self.segment_count), self._pieces[number]
                ),
            )
            for number in numbers
        ]


def open_table(
    segments: Iterable[SealedSegment],
    sizes: SegmentSizes,
    segments_hash: bytes,
    data_key: DataKey,
    binding: Binding,
    segment_bytes: int = SEGMENT_BYTES,
) -> Table:
    """Open what `seal_table` made; every segment is verified, the tails too.

    Args:
        segments: In the order of their numbers.
        sizes: As the manifest says.
        segments_hash: Over all of them, as the manifest says.
        data_key: Of their generation.
        binding: Of their generation.
        segment_bytes: As they were cut.

    Raises:
        CorruptCache: One is missing, left over, swapped or changed.
    """
    directory = bytearray(sizes.directory)
    rows, spill = allocate_memory(sizes.rows), allocate_memory(sizes.spill)
    places = [
        *_cut(memoryview(directory), segment_bytes),
        *_cut(memoryview(rows)[: sizes.rows], segment_bytes),
        *_cut(memoryview(spill)[: sizes.spill], segment_bytes),
        *_cut(memoryview(bytearray(sizes.tails)), segment_bytes),
    ]
    digest, opened_count = sha256(), 0
    for number, segment in enumerate(segments):
        if segment.number != number or number >= len(places):
            raise CorruptCache("segments are missing or left over")
        digest.update(segment.blob)
        data_key.open_segment(number, binding.place("segment", number, len(places)), segment.blob, places[number])
        opened_count += 1
    if opened_count != len(places) or digest.digest() != segments_hash:
        raise CorruptCache("the segments are not those of the manifest")
    row_count, coarse, shapes_bytes = _parse_directory(bytes(directory))
    if row_count * ROW_BYTES != sizes.rows or row_count * TAIL_BYTES != sizes.tails:
        raise CorruptCache("the table's parts do not fit together")
    try:
        shapes = parse_shapes(shapes_bytes)
    except MalformedState as error:
        raise CorruptCache(f"the table's shapes are not readable: {error}") from None
    return Table(rows, row_count, coarse, spill, sizes.spill, shapes)


def tail_numbers(sizes: SegmentSizes) -> range:
    """Numbers of the segments that hold the tails."""
    before, stop = (sum(-(-size // SEGMENT_BYTES) for size in part) for part in (astuple(sizes)[:3], astuple(sizes)))
    return range(before, stop)


def open_tails(
    segments: Iterable[SealedSegment], sizes: SegmentSizes, data_key: DataKey, binding: Binding
) -> bytearray:
    """Open the tails alone; raises CorruptCache."""
    tails = bytearray(sizes.tails)
    numbers = tail_numbers(sizes)
    places = dict(zip(numbers, _cut(memoryview(tails), SEGMENT_BYTES), strict=True))
    for segment in segments:
        place = places.pop(segment.number, None)
        if place is None:
            raise CorruptCache("a segment of tails is left over")
        aad = binding.place("segment", segment.number, numbers.stop)
        data_key.open_segment(segment.number, aad, segment.blob, place)
    if places:
        raise CorruptCache("segments of tails are missing")
    return tails


def format_directory(table: Table) -> bytes:
    """Row count, index (compressed: it is mostly one small step after the other) and shapes."""
    coarse = table.coarse
    if sys.byteorder == "big":
        coarse.byteswap()
    index = zlib.compress(coarse.tobytes(), level=1)
    return wire.U64.write(table.row_count) + wire.BLOB.write(index) + wire.BLOB.write(format_shapes(table.shapes))


def _parse_directory(directory: bytes) -> "tuple[int, array[int], bytes]":
    try:
        (row_count, (index, shapes_bytes)) = wire.read_whole(_DIRECTORY, directory)
        coarse = array("I", zlib.decompress(index))
    except (wire.Truncated, zlib.error, ValueError):
        raise CorruptCache("the table's directory is not readable") from None
    if sys.byteorder == "big":
        coarse.byteswap()
    if len(coarse) != _COARSE_ENTRIES:
        raise CorruptCache("the table's directory has another index")
    return row_count, coarse, shapes_bytes


_DIRECTORY = wire.pair(wire.U64, wire.pair(wire.BLOB, wire.BLOB))


def _cut(memory: memoryview, segment_bytes: int) -> Iterator[memoryview]:
    return (memory[at : at + segment_bytes] for at in range(0, len(memory), segment_bytes))
