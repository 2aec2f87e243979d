"""The log in one SQLite file: the embedded store."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiosqlite

from consent import encoding as wire
from consent.eventlog.keys import VerifierKey
from consent.eventlog.proof import root_from_nodes
from feed.errors import CorruptLog, ForeignLog, LogStoreError
from feed.log_store.database import Database, write_rows
from feed.log_store.migrations import migrate
from feed.log_store.port import Acknowledgement, Batch, ClusterRow, LoggedRequest, RequestName, StoredHead
from feed.log_store.rows import RowCodec, check_consecutive, read_bytes, read_number, read_text
from feed.log_store.sealing import KEY_BYTES, KeyWrap, Sealer, data_key_label, identify_kek
from feed.log_store.tree import needed_nodes, node_position, node_reader
from feed.log_store.verification import verify_head
from feed.ports import StoredEntry
from hosting.locks import InstanceLock

DATABASE_NAME: Final = "log.db"

#: Keys of one SELECT; the last one is filled up to one of these counts, so that few statements need to be prepared.
_KEY_COUNTS: Final = (1, 4, 16, 64, 256)
#: What one read of entries may take in memory, unless a single entry is larger.
_MAX_READ_BYTES: Final = 4 * 1024 * 1024
_INDEX_KEY_LABEL: Final = "index-key"

_Key = TypeVar("_Key", int, bytes)


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Whose log a file must hold.

    Attributes:
        origin: Name of the log.
        tenant: Name of the tenant.
        log_keys: Keys that may have signed its head.
    """

    origin: str
    tenant: str
    log_keys: tuple[VerifierKey, ...]


class SqliteLog:
    """Implements `feed.log_store.port.LogStore`. Made by `open` only."""

    def __init__(self, database: Database, rows: RowCodec, identity: LogIdentity, held: ExitStack) -> None:
        self._database = database
        self._rows = rows
        self._identity = identity
        self._held = held

    @classmethod
    async def open(cls, directory: Path, identity: LogIdentity, kek: bytes) -> Self:
        """Open the log in a directory, or begin one there.

        Args:
            directory: Created for its owner alone where it is missing; locked until `close`.
            identity: Whose log it must be.
            kek: 32 bytes; wraps the data keys.

        Raises:
            InstanceLocked, DirectoryUnusable: Another process works on the directory, or it cannot be used.
            ForeignLog: The file holds another log, or is sealed under another key. It is left as it is.
            CorruptLog: The file is damaged.
            LogWriteFailed: The file cannot be written.
        """
        with ExitStack() as held:
            held.enter_context(InstanceLock(directory))
            database = Database(directory / DATABASE_NAME)
            await database.open()
            try:
                rows = await _unlock(database, identity, kek)
            except LogStoreError:
                await database.close()
                raise
            return cls(database, rows, identity, held.pop_all())

    async def close(self) -> None:
        """Close the file and give the directory's lock back."""
        await self._database.close()
        self._held.close()

    async def load_head(self) -> StoredHead:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            heads = await _fetch(
                connection,
                "SELECT version, frontier, checkpoint_note, checkpoint_time_ms, head.sealed, tenant.sealed "
                "FROM head LEFT JOIN tenant ON tenant.id = head.id",
            )
            ((last_seq,),) = await _fetch(connection, "SELECT max(seq) FROM entry")
        if not heads:
            if last_seq is not None:
                raise CorruptLog("there are entries and no head")
            return StoredHead()
        head = self._rows.read_head(heads[0][:5], heads[0][5])
        if head.size != last_seq:
            raise CorruptLog("the last entry is not the head's")
        places = needed_nodes(lambda node_at: root_from_nodes(head.size, node_at))
        node_at = node_reader(await self.read_nodes(places))
        verify_head(head, node_at, origin=self._identity.origin, log_keys=self._identity.log_keys)
        return head

    async def settle(self) -> None:
        """See `LogStore`."""
        await self._database.settle()

    async def commit(self, batch: Batch) -> None:
        """See `LogStore`."""
        rows, changes = self._rows, batch.changes
        entries = [rows.entry_row(entry) for entry in batch.entries]
        nodes = [(node_position(level, index), node_hash) for level, index, node_hash in batch.nodes]
        clusters = [rows.cluster_row(first_token, record) for first_token, record in changes.records.items()]
        requests = [rows.request_row(name, request) for name, request in batch.requests.items()]
        async with self._database.writing() as connection:
            # The head first: another writer's commit is met before anything else was written.
            await self._write_head(connection, batch)
            await write_rows(connection, "INSERT INTO entry VALUES (?, ?, ?)", entries)
            await write_rows(connection, "INSERT INTO node VALUES (?, ?)", nodes)
            await write_rows(connection, "DELETE FROM cluster WHERE first_token = ?", _singles(changes.removed))
            await write_rows(connection, "DELETE FROM member WHERE token = ?", _singles(changes.removed_members))
            await write_rows(connection, "INSERT OR REPLACE INTO cluster VALUES (?, ?)", clusters)
            await write_rows(connection, "INSERT OR REPLACE INTO member VALUES (?, ?)", changes.members.items())
            await write_rows(connection, "INSERT INTO request VALUES (?, ?)", requests)

    async def find_requests(self, names: Collection[RequestName]) -> Mapping[RequestName, LoggedRequest]:
        """See `LogStore`."""
        by_hash = {self._rows.name_hash(name): name for name in names}
        statement = "SELECT name_hash, sealed FROM request WHERE name_hash IN ({})"
        found = await self._select(statement, list(by_hash))
        return {by_hash[read_bytes(row[0], "name_hash")]: self._rows.read_request(row) for row in found}

    async def find_clusters(self, tokens: Collection[bytes]) -> Mapping[bytes, bytes]:
        """See `LogStore`."""
        statement = (
            "SELECT first_token, first_token, sealed FROM cluster WHERE first_token IN ({0}) UNION ALL "
            "SELECT token, member.first_token, sealed FROM member LEFT JOIN cluster USING (first_token) "
            "WHERE token IN ({0})"
        )
        found = await self._select(statement, list(tokens))
        return {
            read_bytes(token, "token"): self._rows.read_cluster(first_token, sealed)
            for token, first_token, sealed in found
        }

    async def read_clusters(self, after_token: bytes, limit: int) -> Sequence[ClusterRow]:
        """See `LogStore`."""
        statement = "SELECT first_token, sealed FROM cluster WHERE first_token > ? ORDER BY first_token LIMIT ?"
        async with self._database.reading() as connection:
            found = await _fetch(connection, statement, (after_token, limit))
        return [ClusterRow(read_bytes(row[0], "first_token"), self._rows.read_cluster(*row)) for row in found]

    async def count_subjects(self) -> int:
        """See `LogStore`."""
        statement = "SELECT (SELECT count(*) FROM cluster) + (SELECT count(*) FROM member)"
        async with self._database.reading() as connection:
            ((count,),) = await _fetch(connection, statement)
        return read_number(count, "count")

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            sizes = await _fetch(
                connection,
                "SELECT seq, length(sealed) FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?",
                (from_seq, limit),
            )
            last_seq = _last_within_limit(sizes)
            found = await _fetch(
                connection,
                "SELECT seq, type, sealed FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq",
                (from_seq, last_seq),
            )
        entries = [self._rows.read_entry(row) for row in found]
        check_consecutive(entries, from_seq)
        return entries

    async def read_nodes(self, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """See `LogStore`."""
        by_position = {node_position(level, index): (level, index) for level, index in places}
        statement = "SELECT position, hash FROM node WHERE position IN ({})"
        found = await self._select(statement, list(by_position))
        return {by_position[read_number(row[0], "position")]: read_bytes(row[1], "hash") for row in found}

    async def save_acknowledgements(self, acknowledgements: Collection[Acknowledgement]) -> None:
        """See `LogStore`."""
        statement = (
            "INSERT INTO acknowledgement VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = max(size, excluded.size), "
            "applied_at_ms = iif(excluded.size >= size, excluded.applied_at_ms, applied_at_ms), "
            "received_at_ms = iif(excluded.size >= size, excluded.received_at_ms, received_at_ms)"
        )
        rows = [(ack.sidecar_id, ack.size, ack.applied_at_ms, ack.received_at_ms) for ack in acknowledgements]
        async with self._database.writing() as connection:
            await write_rows(connection, statement, rows)

    async def load_acknowledgements(self) -> Sequence[Acknowledgement]:
        """See `LogStore`."""
        statement = "SELECT sidecar_id, size, applied_at_ms, received_at_ms FROM acknowledgement ORDER BY sidecar_id"
        async with self._database.reading() as connection:
            found = await _fetch(connection, statement)
        return [
            Acknowledgement(
                read_text(sidecar_id, "sidecar_id"), *(read_number(number, "acknowledgement") for number in numbers)
            )
            for sidecar_id, *numbers in found
        ]

    async def _write_head(self, connection: aiosqlite.Connection, batch: Batch) -> None:
        row = self._rows.head_row(batch.head)
        if batch.before.version == 0:
            await write_rows(connection, "INSERT INTO head VALUES (1, ?, ?, ?, ?, ?)", [row])
        else:
            statement = (
                "UPDATE head SET version = ?, frontier = ?, checkpoint_note = ?, checkpoint_time_ms = ?, sealed = ? "
                "WHERE version = ?"
            )
            await write_rows(connection, statement, [(*row, batch.before.version)])
        if batch.before.version == 0 or batch.head.tenant is not batch.before.tenant:
            tenant_row = self._rows.tenant_row(batch.head)
            await write_rows(connection, "INSERT OR REPLACE INTO tenant VALUES (1, ?)", [tenant_row])

    async def _select(self, statement: str, keys: Sequence[_Key]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        async with self._database.reading() as connection:
            for chunk in _fill_up(keys):
                filled = statement.format(", ".join(f"?{number}" for number in range(1, len(chunk) + 1)))
                found += await _fetch(connection, filled, chunk)
        return found


async def _unlock(database: Database, identity: LogIdentity, kek: bytes) -> RowCodec:
    """Check whose log it is and take up its keys; a new data key is made for this process."""
    context = wire.STRING.write(identity.origin) + wire.STRING.write(identity.tenant)
    wrap = KeyWrap(kek, context)
    async with database.writing() as connection:
        await migrate(connection)
        index_key = await _check_identity(connection, identity, kek, wrap)
        stored = await _fetch(connection, "SELECT number, wrapped_key FROM data_key ORDER BY number")
        keys = {
            read_number(number, "number"): wrap.unwrap(read_bytes(wrapped, "wrapped_key"), data_key_label(number))
            for number, wrapped in stored
        }
        current = max(keys, default=0) + 1
        keys[current] = os.urandom(KEY_BYTES)
        wrapped_key = wrap.wrap(keys[current], data_key_label(current))
        await write_rows(connection, "INSERT INTO data_key VALUES (?, ?)", [(current, wrapped_key)])
    return RowCodec(Sealer(keys, current, context), index_key)


async def _check_identity(connection: aiosqlite.Connection, identity: LogIdentity, kek: bytes, wrap: KeyWrap) -> bytes:
    rows = await _fetch(connection, "SELECT origin, tenant, kek_id, wrapped_index_key FROM identity")
    if not rows:
        index_key = os.urandom(KEY_BYTES)
        row = (identity.origin, identity.tenant, identify_kek(kek), wrap.wrap(index_key, _INDEX_KEY_LABEL))
        await write_rows(connection, "INSERT INTO identity VALUES (1, ?, ?, ?, ?)", [row])
        return index_key
    origin, tenant, kek_id, wrapped_index_key = rows[0]
    if origin != identity.origin:
        raise ForeignLog("the file holds the log of another origin")
    if tenant != identity.tenant:
        raise ForeignLog("the file holds the log of another tenant")
    if kek_id != identify_kek(kek):
        raise ForeignLog("the file is sealed under another feed-kek")
    return wrap.unwrap(read_bytes(wrapped_index_key, "wrapped_index_key"), _INDEX_KEY_LABEL)


async def _fetch(
    connection: aiosqlite.Connection, statement: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    return list(await connection.execute_fetchall(statement, parameters))  # type: ignore[arg-type]


def _fill_up(keys: Sequence[_Key]) -> Iterator[list[_Key]]:
    largest = _KEY_COUNTS[-1]
    for start in range(0, len(keys), largest):
        chunk = list(keys[start : start + largest])
        count = next(count for count in _KEY_COUNTS if count >= len(chunk))
        yield chunk + chunk[-1:] * (count - len(chunk))


def _singles(values: Collection[bytes]) -> list[tuple[bytes]]:
    return [(value,) for value in values]


def _last_within_limit(sizes: Sequence[tuple[Any, ...]]) -> int:
    """The seq up to which entries may be read at once; 0 where there are none."""
    last_seq, total_bytes = 0, 0
    for seq, size_bytes in sizes:
        total_bytes += size_bytes or 0
        if last_seq and total_bytes > _MAX_READ_BYTES:
            break
        last_seq = read_number(seq, "seq")
    return last_seq
