"""Makes tables: from canonical records (a snapshot), or from a table and what changed since (a merge).

A merge copies whole stretches of rows between the changed ones, so it costs by the changes, not by the table. Spill records are copied
one by one and only those that a row still points to, so a new generation holds nothing that was superseded.
"""

import mmap
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import add
from typing import NamedTuple

from consent.errors import MalformedState
from consent.state import Cluster, Member
from consent.state_record import parse_cluster
from sidecar.cache.record_layout import FIRST_TOKEN, SEQ_LOW, TIME_LOW, shape_of
from sidecar.cache.rows import (
    KEY_BYTES,
    KEY_SLICE,
    ROW_BYTES,
    SPILL_PAYLOAD,
    SPILLED,
    TAIL_BYTES,
    TAIL_SLICE,
    Shapes,
)
from sidecar.cache.spill import pack_cluster, spill_record
from sidecar.cache.table import COARSE_BITS, BuiltTable, Table, allocate_memory

_PREFIXES = 1 << COARSE_BITS
_NEW_SPILL = 1 << 63
"""Set in the spill offset of a changed row until its record has its place."""


class _Change(NamedTuple):
    token: bytes
    payload: bytes


class _RecordPacker:
    """Packs records; of plain ones only their bytes are looked at, after the first of each shape."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self._numbers: dict[bytes, bytes] = {}

    def pack(self, record: bytes) -> tuple[bytes, bytes, tuple[Member, ...]]:
        """(payload, spill record, further members): as `pack_cluster`."""
        shape = shape_of(record)
        number = self._numbers.get(shape)
        if number is not None:
            return number + record[SEQ_LOW] + record[TIME_LOW], b"", ()
        cluster = parse_cluster(record)
        payload, spilled = pack_cluster(cluster, self.shapes)
        # Learned only where the bytes do stand where they are expected.
        if payload and payload[2:] == record[SEQ_LOW] + record[TIME_LOW]:
            self._numbers[shape] = payload[:2]
        return payload, spilled, cluster.members[1:]


def build_table(records: Iterable[bytes]) -> BuiltTable:
    """Make a table of canonical cluster records.

    Args:
        records: In the order of their first token (`consent.state_record`).

    Raises:
        MalformedState: A record is not canonical, or they are out of order.
    """
    packer = _RecordPacker()
    rows, tails, spill, extras = bytearray(), bytearray(), bytearray(), list[_Change]()
    counts = array("I", bytes(4 * _PREFIXES))
    last_token = b""
    for record in records:
        token = record[FIRST_TOKEN]
        payload, spilled, others = packer.pack(record)
        if token <= last_token:
            raise MalformedState("cluster records are out of order")
        last_token = token
        if spilled:
            payload = SPILL_PAYLOAD.pack(SPILLED, len(spill))
            spill += spilled
            extras += [_Change(member.token, payload) for member in others]
        rows += token[KEY_SLICE] + payload
        tails += token[TAIL_SLICE]
        counts[int.from_bytes(token[:2], "big")] += 1
    coarse = array("I", accumulate(counts, initial=0))
    base = Table(in_memory(rows), len(tails) // TAIL_BYTES, coarse, in_memory(spill), len(spill), packer.shapes)
    if not extras:
        return BuiltTable(base, tails)
    # Members but the first do not come in the order of tokens; rows of theirs are put in afterwards, and point to the same records.
    return _splice(base, tails, sorted(extras), packer.shapes, bytearray())


def merge_table(table: Table, tails: bytes | bytearray, overlay: Mapping[bytes, Cluster]) -> BuiltTable:
    """Make a table of another one and what took its place since.

    Args:
        table: The older one; stays as it is.
        tails: The last bytes of its tokens.
        overlay: New cluster of every token that changed; of a cluster with several members, all of them.
    """
    shapes, spill = table.shapes.copy(), bytearray()
    changes = sorted(_pack_changes(overlay, shapes, spill))
    return _splice(table, tails, changes, shapes, spill)


def _pack_changes(overlay: Mapping[bytes, Cluster], shapes: Shapes, spill: bytearray) -> Iterator[_Change]:
    placed: dict[bytes, int] = {}
    for token, cluster in overlay.items():
        first_token = cluster.members[0].token
        offset = placed.get(first_token)
        if offset is None:
            payload, spilled = pack_cluster(cluster, shapes)
            if payload:
                yield _Change(token, payload)
                continue
            offset = placed[first_token] = len(spill)
            spill += spilled
        yield _Change(token, SPILL_PAYLOAD.pack(SPILLED, offset | _NEW_SPILL))


def _splice(
    table: Table, tails: bytes | bytearray, changes: list[_Change], shapes: Shapes, spill: bytearray
) -> BuiltTable:
    """A table with rows put in and replaced; `spill` holds the records of `changes` marked with `_NEW_SPILL`, and takes those kept."""
    old_rows, old_tails = table.rows, memoryview(tails)
    row_parts: list[bytes | memoryview] = []
    new_tails, inserted = bytearray(), array("I", bytes(4 * _PREFIXES))
    copied = 0
    for token, payload in changes:
        position, is_there = table.position(token)
        row_parts += (old_rows[copied * ROW_BYTES : position * ROW_BYTES], token[KEY_SLICE] + payload)
        new_tails += old_tails[copied * TAIL_BYTES : position * TAIL_BYTES]
        new_tails += token[TAIL_SLICE]
        copied = position + is_there
        inserted[int.from_bytes(token[:2], "big")] += not is_there
    row_parts.append(old_rows[copied * ROW_BYTES :])
    new_tails += old_tails[copied * TAIL_BYTES :]
    row_count = len(new_tails) // TAIL_BYTES
    rows = allocate_memory(row_count * ROW_BYTES)
    for part in row_parts:
        rows.write(part)
    _move_spilled(rows, row_count, table.spill, spill)
    coarse = array("I", map(add, table.coarse, accumulate(inserted, initial=0)))
    return BuiltTable(Table(rows, row_count, coarse, in_memory(spill), len(spill), shapes), new_tails)


def _move_spilled(rows: mmap.mmap, row_count: int, old_spill: memoryview, spill: bytearray) -> None:
    """Give every spilled row its offset in the new spill, with the records that are kept moved there."""
    marks = bytes(memoryview(rows)[KEY_BYTES : row_count * ROW_BYTES : ROW_BYTES])
    moved: dict[int, int] = {}
    row = marks.find(SPILLED >> 8)
    while row >= 0:
        at = row * ROW_BYTES + KEY_BYTES
        _, offset = SPILL_PAYLOAD.unpack_from(rows, at)
        if offset & _NEW_SPILL:
            new_offset = offset ^ _NEW_SPILL
        elif offset in moved:
            new_offset = moved[offset]
        else:
            new_offset = moved[offset] = len(spill)
            spill += spill_record(old_spill, offset)
        SPILL_PAYLOAD.pack_into(rows, at, SPILLED, new_offset)
        row = marks.find(SPILLED >> 8, row + 1)


def in_memory(content: bytes | bytearray) -> mmap.mmap:
    """The same bytes in memory of a table's kind."""
    memory = allocate_memory(len(content))
    memory[: len(content)] = content
    return memory
