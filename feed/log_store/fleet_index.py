"""Rows that find what the log says about sidecars: which are enrolled or retired, and in which RECEIPTS entry an acknowledgement stands.

They are written with the entries that they are made of, in one transaction, and hold nothing that is not in those: proofs are made of the
entries, and a row that led to the wrong one would make a proof that does not verify.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import aiosqlite

from consent.event import EnrolEvent, EventType, ReceiptsEvent, RetireEvent, parse_event
from feed.log_store.database import write_rows
from feed.log_store.port import EnrolmentChange, ReceiptPlace
from feed.log_store.rows import read_number, read_text
from feed.ports import StoredEntry

SCHEMA: Final = (
    """CREATE TABLE enrolment (
        sidecar_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, is_retired INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE receipt (
        sidecar_id TEXT NOT NULL, size INTEGER NOT NULL, receipts_seq INTEGER NOT NULL,
        PRIMARY KEY (sidecar_id, size, receipts_seq)
    ) STRICT, WITHOUT ROWID""",
)

_INDEXED: Final = (EventType.ENROL, EventType.RETIRE, EventType.RECEIPTS)
_PLACE: Final = "SELECT size, receipts_seq FROM receipt WHERE sidecar_id = ? AND size >= ? AND receipts_seq > ?"


async def write_index(connection: aiosqlite.Connection, entries: Iterable[StoredEntry]) -> None:
    """Write the rows of a batch's entries."""
    enrolments: list[tuple[Any, ...]] = []
    receipts: list[tuple[Any, ...]] = []
    for entry in entries:
        if entry.type_byte not in _INDEXED or not entry.event_bytes:
            continue
        match parse_event(entry.event_bytes):
            case EnrolEvent(sidecar_id=sidecar_id):
                enrolments.append((sidecar_id, entry.seq, 0))
            case RetireEvent(sidecar_id=sidecar_id):
                enrolments.append((sidecar_id, entry.seq, 1))
            case ReceiptsEvent(receipts=logged):
                receipts += [(each.sidecar_id, each.size, entry.seq) for each in logged]
            case _:
                # An opaque version of one of these types, from a newer feed: nothing here could read it.
                continue
    await write_rows(connection, "INSERT OR REPLACE INTO enrolment VALUES (?, ?, ?)", enrolments)
    await write_rows(connection, "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?)", receipts)


async def load_enrolments(connection: aiosqlite.Connection) -> Sequence[EnrolmentChange]:
    """The last change of each sidecar."""
    rows = await connection.execute_fetchall("SELECT sidecar_id, seq, is_retired FROM enrolment ORDER BY sidecar_id")
    return [
        EnrolmentChange(
            read_text(sidecar_id, "sidecar_id"), read_number(seq, "seq"), read_number(is_retired, "is_retired", 1) == 1
        )
        for sidecar_id, seq, is_retired in rows
    ]


async def find_receipt(
    connection: aiosqlite.Connection, sidecar_id: str, size: int, after_seq: int, *, newest: bool
) -> ReceiptPlace | None:
    """The smallest receipt of at least `size`, or the largest, among those logged after `after_seq`."""
    order = "size DESC, receipts_seq" if newest else "size, receipts_seq"
    parameters = (sidecar_id, size, after_seq)
    rows = await connection.execute_fetchall(f"{_PLACE} ORDER BY {order} LIMIT 1", parameters)
    for row in rows:
        return ReceiptPlace(read_number(row[0], "size"), read_number(row[1], "receipts_seq"))
    return None
