"""The log in one SQLite file: the embedded store."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiosqlite

from consent.eventlog.proof import root_from_nodes
from consent.state_record import parse_cluster
from consent.vocabulary.subject import Rekeyer
from feed.errors import CorruptLog, ForeignLog, LogStoreError
from feed.log_store import fleet_index, journal_index
from feed.log_store.archive import Archive
from feed.log_store.database import Database, write_rows
from feed.log_store.identity import LogIdentity
from feed.log_store.migrations import migrate
from feed.log_store.port import (
    Acknowledgement,
    Batch,
    ClusterRow,
    EnrolmentChange,
    HeadPlace,
    LoggedRequest,
    OpenAlert,
    ReceiptPlace,
    RequestName,
    StoredHead,
)
from feed.log_store.rows import RowCodec, check_consecutive, read_bytes, read_number, read_text
from feed.log_store.sealing import INDEX_KEY_LABEL, KEY_BYTES, KeyWrap, Sealer, data_key_label, identify_kek
from feed.log_store.segments import Frame
from feed.log_store.staging import drop_staged, stage_rekeyed, take_staged
from feed.log_store.tree import needed_nodes, node_position, node_reader
from feed.log_store.verification import verify_head
from feed.ports import StoredEntry, erase_payload
from hosting.locks import InstanceLock

DATABASE_NAME: Final = "log.db"

#: Keys of one SELECT; the last one is filled up to one of these counts, so that few statements need to be prepared.
_KEY_COUNTS: Final = (1, 4, 16, 64, 256)
#: What one read of entries may take in memory, unless a single entry is larger.
_MAX_READ_BYTES: Final = 4 * 1024 * 1024
#: The first byte of a token's hash is the token's own; clusters are read group by group.
_GROUPS: Final = 256
_PAGE_ROWS: Final = 2_000
_AFTER_ALL_BYTES: Final = 17
#: How the record of somebody who is not linked begins: most records need not be read further.
_ONE_MEMBER: Final = b"\x00\x01"

_Key = TypeVar("_Key", int, bytes)


class SqliteLog:
    """Implements `feed.log_store.port.LogStore`. Made by `open` only.

    Attributes:
        wrapped_index_key: The key of the hashes by which rows are found, as it lies in the file; archives and backups carry it.
    """

    def __init__(self, database: Database, unlocked: "_Unlocked", identity: LogIdentity, held: ExitStack) -> None:
        self._database = database
        self._rows = unlocked.rows
        self._data_key_row = unlocked.data_key_row
        self._is_data_key_kept = False
        self._identity = identity
        self._held = held
        self._archive: Archive | None = None
        self.wrapped_index_key = unlocked.wrapped_index_key

    @classmethod
    async def open(
        cls, directory: Path, identity: LogIdentity, kek: bytes, *, wrapped_index_key: bytes | None = None
    ) -> Self:
        """Open the log in a directory, or begin one there.

        Args:
            directory: Created for its owner alone where it is missing; locked until `close`.
            identity: Whose log it must be.
            kek: 32 bytes; wraps the data keys.
            wrapped_index_key: For a log that is begun: that of the log that it restores. None: a fresh one.

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
                unlocked = await _unlock(database, identity, kek, wrapped_index_key)
            except LogStoreError:
                await database.close()
                raise
            return cls(database, unlocked, identity, held.pop_all())

    async def close(self) -> None:
        """Close the file and give the directory's lock back."""
        await self._database.close()
        self._held.close()

    def keep_archive(self, archive: Archive) -> None:
        """Write every batch to an archive from now on, before it is committed; the archive ends where the log does."""
        self._archive = archive

    async def load_head(self) -> StoredHead:
        """See `LogStore`."""
        head = await self._load_head()
        if self._archive is not None:
            # What the archive holds beyond it was never committed: its caller may be told so only once it is gone from there too.
            await self._archive.drop_after(head.size)
        return head

    async def _load_head(self) -> StoredHead:
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
        removed = [(rows.token_hash(first_token),) for first_token in changes.removed]
        members = [(rows.token_hash(token), rows.token_hash(first)) for token, first in changes.members.items()]
        removed_members = [(rows.token_hash(token),) for token in changes.removed_members]
        answers = {rows.name_hash(name): request for name, request in batch.requests.items()}
        answers.update(batch.replayed_requests)
        requests = [rows.request_row(name_hash, request) for name_hash, request in answers.items()]
        erased = [(row[2], row[0]) for row in map(rows.entry_row, map(erase_payload, batch.erased))]
        if self._archive is not None:
            # A crash behind this line leaves a batch in the archive that was not committed; the next start commits it.
            await self._archive.append(_frame(batch, answers))
        async with self._database.writing() as connection:
            # The head first: another writer's commit is met before anything else was written.
            await self._write_head(connection, batch)
            await self._keep_data_key(connection)
            await write_rows(connection, "INSERT INTO entry VALUES (?, ?, ?)", entries)
            await write_rows(connection, "INSERT INTO node VALUES (?, ?)", nodes)
            await write_rows(connection, "DELETE FROM cluster WHERE token_hash = ?", removed)
            await write_rows(connection, "DELETE FROM member WHERE token_hash = ?", removed_members)
            await write_rows(connection, "INSERT OR REPLACE INTO cluster VALUES (?, ?)", clusters)
            await write_rows(connection, "INSERT OR REPLACE INTO member VALUES (?, ?)", members)
            await write_rows(connection, "INSERT INTO request VALUES (?, ?)", requests)
            await fleet_index.write_index(connection, batch.entries)
            await journal_index.write_index(connection, batch.entries)
            # The row's old bytes are overwritten (secure_delete), the write-ahead log's by the next `settle`.
            await write_rows(connection, "UPDATE entry SET sealed = ? WHERE seq = ?", erased)
            if batch.takes_staged_state:
                await take_staged(connection)
        self._is_data_key_kept = True

    async def stage_rekeyed(self, before: StoredHead, rekeyer: Rekeyer) -> bytes:
        """See `LogStore`."""
        return await stage_rekeyed(self._database, self._rows, before, rekeyer)

    async def find_requests(self, names: Collection[RequestName]) -> Mapping[RequestName, LoggedRequest]:
        """See `LogStore`."""
        by_hash = {self._rows.name_hash(name): name for name in names}
        statement = "SELECT name_hash, sealed FROM request WHERE name_hash IN ({})"
        found = await self._select(statement, list(by_hash))
        return {by_hash[read_bytes(row[0], "name_hash")]: self._rows.read_request(row) for row in found}

    async def read_requests(self, after_hash: bytes, limit: int) -> Sequence[tuple[bytes, LoggedRequest]]:
        """See `LogStore`."""
        statement = "SELECT name_hash, sealed FROM request WHERE name_hash > ? ORDER BY name_hash LIMIT ?"
        async with self._database.reading() as connection:
            found = await _fetch(connection, statement, (after_hash, limit))
        return [(read_bytes(row[0], "name_hash"), self._rows.read_request(row)) for row in found]

    async def find_clusters(self, tokens: Collection[bytes]) -> Mapping[bytes, bytes]:
        """See `LogStore`."""
        by_hash = {self._rows.token_hash(token): token for token in tokens}
        statement = (
            "SELECT token_hash, token_hash, sealed FROM cluster WHERE token_hash IN ({0}) UNION ALL "
            "SELECT member.token_hash, cluster_hash, sealed "
            "FROM member LEFT JOIN cluster ON cluster.token_hash = cluster_hash WHERE member.token_hash IN ({0})"
        )
        found = await self._select(statement, list(by_hash))
        return {
            by_hash[read_bytes(token_hash, "token_hash")]: self._rows.read_cluster(cluster_hash, sealed)
            for token_hash, cluster_hash, sealed in found
        }

    async def read_clusters(self) -> AsyncIterator[Sequence[ClusterRow]]:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            ((count,),) = await _fetch(connection, "SELECT count(*) FROM cluster")
        groups_per_page = max(1, _GROUPS * _PAGE_ROWS // max(read_number(count, "count"), _PAGE_ROWS))
        statement = "SELECT token_hash, sealed FROM cluster WHERE token_hash >= ? AND token_hash < ?"
        for group in range(0, _GROUPS, groups_per_page):
            # Longer than any hash of the last group.
            end = group + groups_per_page
            bounds = bytes((group,)), bytes((end,)) if end < _GROUPS else bytes((0xFF,)) * _AFTER_ALL_BYTES
            async with self._database.reading() as connection:
                found = await _fetch(connection, statement, bounds)
            # In a thread: a page of a large log is tens of thousands of rows.
            if page := await asyncio.to_thread(self._rows.read_ordered, found):
                yield page

    async def verify_members(self) -> None:
        """Check that every further token of a linked person leads to that person's cluster, and that nothing else leads anywhere.

        Raises:
            CorruptLog: It does not.
        """
        async with self._database.reading() as connection:
            found = await _fetch(connection, "SELECT token_hash, cluster_hash FROM member")
        leads_to = {read_bytes(token, "token_hash"): read_bytes(cluster, "cluster_hash") for token, cluster in found}
        async for page in self.read_clusters():
            for first_token, record in page:
                for token in _further_tokens(record):
                    if leads_to.pop(self._rows.token_hash(token), b"") != self._rows.token_hash(first_token):
                        raise CorruptLog("a token does not lead to its own cluster")
        if leads_to:
            raise CorruptLog("a token leads to a cluster that is not its own")

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

    async def load_enrolments(self) -> Sequence[EnrolmentChange]:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            return await fleet_index.load_enrolments(connection)

    async def find_receipt(
        self, sidecar_id: str, size: int, after_seq: int, *, newest: bool = False
    ) -> ReceiptPlace | None:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            return await fleet_index.find_receipt(connection, sidecar_id, size, after_seq, newest=newest)

    async def find_journal_head(self, sidecar_id: str, chain_id: bytes, number: int | None = None) -> HeadPlace | None:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            return await journal_index.find_head(connection, sidecar_id, chain_id, number)

    async def find_disposal(self, sidecar_id: str, disposal_hash: bytes) -> int | None:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            return await journal_index.find_disposal(connection, sidecar_id, disposal_hash)

    async def load_open_alerts(self) -> Sequence[OpenAlert]:
        """See `LogStore`."""
        async with self._database.reading() as connection:
            return await journal_index.load_open_alerts(connection)

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

    async def _keep_data_key(self, connection: aiosqlite.Connection) -> None:
        """With the first commit, so that a start that logs nothing leaves no key; the same row again after a commit that failed."""
        if not self._is_data_key_kept:
            await write_rows(connection, "INSERT OR REPLACE INTO data_key VALUES (?, ?)", [self._data_key_row])

    async def _select(self, statement: str, keys: Sequence[_Key]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        async with self._database.reading() as connection:
            for chunk in _fill_up(keys):
                filled = statement.format(", ".join(f"?{number}" for number in range(1, len(chunk) + 1)))
                found += await _fetch(connection, filled, chunk)
        return found


@dataclass(frozen=True, slots=True)
class _Unlocked:
    rows: RowCodec
    data_key_row: tuple[int, bytes]
    wrapped_index_key: bytes


async def _unlock(database: Database, identity: LogIdentity, kek: bytes, wrapped_index_key: bytes | None) -> _Unlocked:
    """Check whose log it is and take up its keys; a new data key is made for this process."""
    wrap = KeyWrap(kek, identity.key_context)
    async with database.writing() as connection:
        await migrate(connection)
        await drop_staged(connection)
        wrapped_index_key = await _check_identity(connection, identity, kek, wrap, wrapped_index_key)
        index_key = wrap.unwrap(wrapped_index_key, INDEX_KEY_LABEL)
        stored = await _fetch(connection, "SELECT number, wrapped_key FROM data_key ORDER BY number")
        keys = {
            read_number(number, "number"): wrap.unwrap(read_bytes(wrapped, "wrapped_key"), data_key_label(number))
            for number, wrapped in stored
        }
    current = max(keys, default=0) + 1
    keys[current] = os.urandom(KEY_BYTES)
    data_key_row = current, wrap.wrap(keys[current], data_key_label(current))
    return _Unlocked(RowCodec(Sealer(keys, current, identity.key_context), index_key), data_key_row, wrapped_index_key)


async def _check_identity(
    connection: aiosqlite.Connection, identity: LogIdentity, kek: bytes, wrap: KeyWrap, restored_index_key: bytes | None
) -> bytes:
    rows = await _fetch(connection, "SELECT origin, tenant, kek_id, wrapped_index_key FROM identity")
    if not rows:
        index_key = restored_index_key or wrap.wrap(os.urandom(KEY_BYTES), INDEX_KEY_LABEL)
        row = (identity.origin, identity.tenant, identify_kek(kek), index_key)
        await write_rows(connection, "INSERT INTO identity VALUES (1, ?, ?, ?, ?)", [row])
        return index_key
    origin, tenant, kek_id, wrapped_index_key = rows[0]
    if origin != identity.origin:
        raise ForeignLog("the file holds the log of another origin")
    if tenant != identity.tenant:
        raise ForeignLog("the file holds the log of another tenant")
    if kek_id != identify_kek(kek):
        raise ForeignLog("the file is sealed under another feed-kek")
    return read_bytes(wrapped_index_key, "wrapped_index_key")


def _further_tokens(record: bytes) -> list[bytes]:
    if record.startswith(_ONE_MEMBER):
        return []
    return [member.token for member in parse_cluster(record).members[1:]]


def _frame(batch: Batch, answers: Mapping[bytes, LoggedRequest]) -> Frame:
    head = batch.head
    return Frame(
        batch.before.size + 1, batch.entries, list(answers.items()), head.checkpoint_note, head.checkpoint_time_ms
    )


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


def _last_within_limit(sizes: Sequence[tuple[Any, ...]]) -> int:
    """The seq up to which entries may be read at once; 0 where there are none."""
    last_seq, total_bytes = 0, 0
    for seq, size_bytes in sizes:
        total_bytes += size_bytes or 0
        if last_seq and total_bytes > _MAX_READ_BYTES:
            break
        last_seq = read_number(seq, "seq")
    return last_seq
