"""A new key epoch in the cache: every row under its new token.

Rows keep their say; of a linked person's record the tokens in it change too. The last bytes of each token come from the segments of tails,
for memory does not hold them.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from consent.event import KeyEpochEvent
from consent.state import Cluster
from consent.vocabulary.subject import TOKEN_BYTES, Rekeyer
from sidecar.cache.deltas import fold_events
from sidecar.cache.rows import (
    KEY_BYTES,
    KEY_SLICE,
    PAYLOAD_BYTES,
    ROW_BYTES,
    SPILL_PAYLOAD,
    SPILLED,
    TAIL_BYTES,
    TAIL_SLICE,
)
from sidecar.cache.spill import rekey_spill_record, spill_record
from sidecar.cache.table import COARSE_BITS, BuiltTable, Table
from sidecar.cache.table_building import in_memory, merge_table
from sidecar.ports import LoggedEvent

_PREFIXES = 1 << COARSE_BITS
_ENTRY_BYTES = TOKEN_BYTES + PAYLOAD_BYTES
_PARTS = 256


def rekey_table(
    built: BuiltTable,
    overlay: dict[bytes, Cluster],
    events: Sequence[LoggedEvent],
    subject_keys: Sequence[bytes],
    policy_drops: tuple[int, ...],
) -> BuiltTable:
    """The table after events among which key epochs begin.

    Args:
        built: The table in force, with its tails; stays as it is.
        overlay: What changed since.
        events: In order; tokens of each are those of the epoch that it stands in.
        subject_keys: Of every epoch that begins in the events, by number.
        policy_drops: As `fold_event`.
    """
    for run, epoch in _split(events):
        changed = fold_events(
            ((logged.seq, logged.event) for logged in run),
            lambda token, overlay=overlay, table=built.table: overlay.get(token) or table.find(token),  # type: ignore[misc]
            policy_drops,
        )
        built, overlay = merge_table(built.table, built.tails, overlay | changed), {}
        if epoch:
            built = _rekey(built, Rekeyer(subject_keys[epoch]))
    return built


def _split(events: Sequence[LoggedEvent]) -> Iterator[tuple[list[LoggedEvent], int]]:
    """Runs of events, each with the epoch that begins after it; 0 for the last."""
    run: list[LoggedEvent] = []
    for logged in events:
        if isinstance(logged.event, KeyEpochEvent) and logged.event.epoch:
            yield run, logged.event.epoch
            run = []
        else:
            run.append(logged)
    yield run, 0


def _rekey(built: BuiltTable, rekeyer: Rekeyer) -> BuiltTable:
    table = built.table
    # Sorted in parts by the first byte: one list of all rows as objects would take several times the table's memory.
    parts = [bytearray() for _ in range(_PARTS)]
    spill, moved = bytearray(), dict[int, int]()
    for token, payload in _entries(table, built.tails):
        new_token = rekeyer.rekey(token)
        mark, offset = SPILL_PAYLOAD.unpack(payload)
        if mark != SPILLED:
            parts[new_token[0]] += new_token + payload
            continue
        if offset not in moved:
            moved[offset] = len(spill)
            spill += rekey_spill_record(spill_record(table.spill, offset), rekeyer)
        parts[new_token[0]] += new_token + SPILL_PAYLOAD.pack(SPILLED, moved[offset])
    rows, tails, counts = bytearray(), bytearray(), array("I", bytes(4 * _PREFIXES))
    for number, part in enumerate(parts):
        for entry in sorted(part[at : at + _ENTRY_BYTES] for at in range(0, len(part), _ENTRY_BYTES)):
            rows += entry[KEY_SLICE] + entry[TOKEN_BYTES:]
            tails += entry[TAIL_SLICE]
            counts[int.from_bytes(entry[:2], "big")] += 1
        parts[number] = bytearray()
    coarse = array("I", accumulate(counts, initial=0))
    shapes = table.shapes.copy()
    return BuiltTable(Table(in_memory(rows), table.row_count, coarse, in_memory(spill), len(spill), shapes), tails)


def _entries(table: Table, tails: bytes | bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Whole token and payload of each row."""
    rows, coarse = table.rows, table.coarse
    for prefix, (start, end) in enumerate(zip(coarse, islice(coarse, 1, None), strict=False)):
        head = prefix.to_bytes(2, "big")
        for number in range(start, end):
            row = bytes(rows[number * ROW_BYTES : (number + 1) * ROW_BYTES])
            tail = tails[number * TAIL_BYTES : (number + 1) * TAIL_BYTES]
            yield head + row[:KEY_BYTES] + tail, row[KEY_BYTES:]
