"""The database's schema, and the steps that bring an older file to it."""

from typing import Final

import aiosqlite

from feed.errors import CorruptLog, ForeignLog
from feed.log_store import fleet_index, journal_index

#: "Cons": says in the file's header whose it is.
APPLICATION_ID: Final = 0x436F6E73

#: One step for each schema version, statement by statement; a step that was released is never changed.
#:
#: * `entry.sealed`: opening, traceparent, signatures and event bytes; after an erasure, the commitment to them alone.
#: * `node.position`: a node's in-order number, so that a growing tree only appends (`feed.log_store.tree`).
#: * `cluster`: one row for each person; `member` leads from every further token of a linked person to that row. Both are found by
#:   keyed hashes of tokens (`feed.log_store.rows`).
#: * `request`: under a keyed hash, since a source may build its idempotency keys from identifiers.
#: * `enrolment`, `receipt`: where the log speaks of a sidecar (`feed.log_store.fleet_index`).
#: * `journal_head`, `journal_disposal`, `alert`: where it speaks of journals and alerts (`feed.log_store.journal_index`).
_STEPS: Final = (
    (
        """CREATE TABLE identity (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            origin TEXT NOT NULL, tenant TEXT NOT NULL, kek_id BLOB NOT NULL, wrapped_index_key BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE data_key (number INTEGER PRIMARY KEY, wrapped_key BLOB NOT NULL) STRICT",
        "CREATE TABLE entry (seq INTEGER PRIMARY KEY, type INTEGER NOT NULL, sealed BLOB) STRICT",
        "CREATE TABLE node (position INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT",
        """CREATE TABLE head (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            version INTEGER NOT NULL, frontier BLOB NOT NULL, checkpoint_note BLOB NOT NULL,
            checkpoint_time_ms INTEGER NOT NULL, sealed BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE tenant (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT",
        "CREATE TABLE cluster (token_hash BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE member (token_hash BLOB PRIMARY KEY, cluster_hash BLOB NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE request (name_hash BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE acknowledgement (
            sidecar_id TEXT PRIMARY KEY, size INTEGER NOT NULL,
            applied_at_ms INTEGER NOT NULL, received_at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        *fleet_index.SCHEMA,
    ),
    # An older file has no entry that these rows could be about: its feed could not log one.
    journal_index.SCHEMA,
)
SCHEMA_VERSION: Final = len(_STEPS)


async def migrate(connection: aiosqlite.Connection) -> None:
    """Bring the schema up to date inside of the caller's transaction.

    Raises:
        ForeignLog: A newer version of this program, or another program, wrote the file.
    """
    version = await _read_number(connection, "PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise ForeignLog(f"schema version {version} is of a newer feed, this one knows up to {SCHEMA_VERSION}")
    if version == 0 and await _read_number(connection, "SELECT count(*) FROM sqlite_schema"):
        raise ForeignLog("the database belongs to another program")
    if version == SCHEMA_VERSION:
        return
    for step in _STEPS[version:]:
        for statement in step:
            await connection.execute_fetchall(statement)
    await connection.execute_fetchall(f"PRAGMA application_id = {APPLICATION_ID}")
    await connection.execute_fetchall(f"PRAGMA user_version = {SCHEMA_VERSION}")


async def _read_number(connection: aiosqlite.Connection, statement: str) -> int:
    for (number,) in await connection.execute_fetchall(statement):
        if isinstance(number, int) and number >= 0:
            return number
    raise CorruptLog("the database's header has another form")
