"""Rows that find what the log says about sidecars' journals, and which alerts are not over.

Written with the entries that they are made of, in one transaction, as those of `feed.log_store.fleet_index`.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import aiosqlite

from consent.event import AlertEvent, DisposalEvent, EventType, JournalHeadsEvent, parse_event
from consent.eventlog.journal_head import format_disposal, hash_head
from feed.log_store.database import write_rows
from feed.log_store.port import HeadPlace, OpenAlert
from feed.log_store.rows import read_bytes, read_number, read_text
from feed.ports import StoredEntry

SCHEMA: Final = (
    """CREATE TABLE journal_head (
        sidecar_id TEXT NOT NULL, chain_id BLOB NOT NULL, number INTEGER NOT NULL,
        head_hash BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (sidecar_id, chain_id, number)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE journal_disposal (
        sidecar_id TEXT NOT NULL, disposal_hash BLOB NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (sidecar_id, disposal_hash)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE alert (
        alert TEXT NOT NULL, about TEXT NOT NULL, seq INTEGER NOT NULL, is_over INTEGER NOT NULL,
        PRIMARY KEY (alert, about)
    ) STRICT, WITHOUT ROWID""",
)

_INDEXED: Final = (EventType.JOURNAL_HEADS, EventType.DISPOSAL, EventType.ALERT)
_HEAD: Final = "SELECT number, head_hash, seq FROM journal_head WHERE sidecar_id = ? AND chain_id = ?"


async def write_index(connection: aiosqlite.Connection, entries: Iterable[StoredEntry]) -> None:
    """Write the rows of a batch's entries."""
    heads: list[tuple[Any, ...]] = []
    disposals: list[tuple[Any, ...]] = []
    alerts: list[tuple[Any, ...]] = []
    for entry in entries:
        if entry.type_byte not in _INDEXED or not entry.event_bytes:
            continue
        match parse_event(entry.event_bytes):
            case JournalHeadsEvent(heads=logged):
                heads += [(head.sidecar_id, head.chain_id, head.number, hash_head(head), entry.seq) for head in logged]
            case DisposalEvent(disposals=logged_disposals):
                disposals += [
                    (each.sidecar_id, sha256(format_disposal(each)).digest(), entry.seq) for each in logged_disposals
                ]
            case AlertEvent(alert=alert, about=about, is_over=is_over):
                alerts.append((alert, about, entry.seq, int(is_over)))
            case _:
                # An opaque version of one of these types, from a newer feed: nothing here could read it.
                continue
    await write_rows(connection, "INSERT OR REPLACE INTO journal_head VALUES (?, ?, ?, ?, ?)", heads)
    await write_rows(connection, "INSERT OR REPLACE INTO journal_disposal VALUES (?, ?, ?)", disposals)
    await write_rows(connection, "INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?)", alerts)


async def find_head(
    connection: aiosqlite.Connection, sidecar_id: str, chain_id: bytes, number: int | None
) -> HeadPlace | None:
    """The head of this number, or the one with the largest."""
    by_number, numbers = ("", ()) if number is None else (" AND number = ?", (number,))
    rows = await connection.execute_fetchall(
        f"{_HEAD}{by_number} ORDER BY number DESC LIMIT 1", (sidecar_id, chain_id, *numbers)
    )
    for row in rows:
        return HeadPlace(read_number(row[0], "number"), read_bytes(row[1], "head_hash"), read_number(row[2], "seq"))
    return None


async def find_disposal(connection: aiosqlite.Connection, sidecar_id: str, disposal_hash: bytes) -> int | None:
    """Seq of the entry that holds it."""
    statement = "SELECT seq FROM journal_disposal WHERE sidecar_id = ? AND disposal_hash = ?"
    for (seq,) in await connection.execute_fetchall(statement, (sidecar_id, disposal_hash)):
        return read_number(seq, "seq")
    return None


async def load_open_alerts(connection: aiosqlite.Connection) -> Sequence[OpenAlert]:
    """The last entry of each alert, where it does not say that it is over."""
    rows = await connection.execute_fetchall("SELECT alert, about, seq FROM alert WHERE is_over = 0 ORDER BY seq")
    return [
        OpenAlert(read_text(alert, "alert"), read_text(about, "about"), read_number(seq, "seq"))
        for alert, about, seq in rows
    ]
