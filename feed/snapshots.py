"""Snapshots: the folded state in chunks, and the entry of the log that commits to it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.event import StateRootEvent
from consent.state_record import StateHasher, format_tenant, join_records
from feed.errors import CorruptLog, EntryUnknown, LogStoreError
from feed.log_store.port import EMPTY_STATE_SUM, ClusterRow, LogStore, StoredHead
from feed.log_store.state_sum import add_records
from feed.ports import Snapshot
from feed.sequencer import FEED_SOURCE, Sequencer
from hosting.locks import create_directory

MAX_CHUNK_BYTES: Final = 1024 * 1024

_LENGTH_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_PATTERN: Final = "snapshot-*.chunk"


class FileSnapshots:
    """Implements `feed.ports.Snapshots` with files that live as long as the process. Made by `open` only.

    A snapshot that is being sent is kept until that has ended, however many newer ones there are.
    """

    def __init__(
        self, sequencer: Sequencer, store: LogStore, files: "_ChunkFiles", origin: str, max_lag_entries: int
    ) -> None:
        self._sequencer = sequencer
        self._store = store
        self._files = files
        self._origin = origin
        self._max_lag_entries = max_lag_entries
        self._newest: Snapshot | None = None
        self._making: asyncio.Task[Snapshot] | None = None
        self._readers: Counter[int] = Counter()

    @classmethod
    def open(cls, sequencer: Sequencer, store: LogStore, directory: Path, *, origin: str, max_lag_entries: int) -> Self:
        """Create the directory for the chunks, or remove those of an earlier process from it.

        Args:
            sequencer: Where the state root is logged.
            store: Where the state is read.
            directory: For the chunks alone.
            origin: Name of the log.
            max_lag_entries: A snapshot is used again until the log has grown by this much.

        Raises:
            DirectoryUnusable: It cannot be created.
            LogStoreError: It cannot be emptied.
        """
        create_directory(directory, 0o700)
        files = _ChunkFiles(directory)
        files.clear()
        return cls(sequencer, store, files, origin, max_lag_entries)

    async def close(self) -> None:
        """Wait for the snapshot that is being made, if there is one, and remove all chunks."""
        if self._making is not None:
            await asyncio.wait([self._making])
        self._newest = None
        self._files.clear()

    async def newest(self) -> Snapshot:
        """The newest snapshot that the log has not outgrown, made now if there is none.

        Nothing is logged while one is made: the entry behind it must commit to exactly this state.

        Raises:
            CorruptLog: The stored state is not what was stored.
            LogStoreError, LogWriteFailed, ShuttingDown: It cannot be read, or the chunks or the entry cannot be written.
        """
        newest = self._newest
        head = self._sequencer.head
        # One from before an erasure would still hold who was erased.
        oldest_size = max(head.size - self._max_lag_entries, head.last_erasure_seq)
        if newest is not None and newest.size >= oldest_size:
            return newest
        if self._making is None:
            # One for all who ask, and nobody's going away stops it.
            self._making = asyncio.create_task(self._make())
            self._making.add_done_callback(self._finish_making)
        return await asyncio.shield(self._making)

    def discard(self) -> None:
        """Let go of what is kept, since somebody in it was erased; one that is being sent or made goes when that has ended."""
        replaced, self._newest = self._newest, None
        if replaced is not None:
            self._drop(replaced)

    async def chunks(self, snapshot: Snapshot) -> AsyncIterator[bytes]:
        """Runs of canonical cluster records, at most 1 MiB each unless a single record is larger.

        Raises:
            EntryUnknown: A newer snapshot has taken its place.
            LogStoreError: A chunk cannot be read.
        """
        if snapshot != self._newest and not self._readers[snapshot.size]:
            raise EntryUnknown("the snapshot is no longer kept")
        self._readers[snapshot.size] += 1
        try:
            for number in range(snapshot.chunk_count):
                yield await asyncio.to_thread(self._files.read, snapshot.size, number)
        finally:
            self._readers[snapshot.size] -= 1
            self._drop(snapshot)

    async def _make(self) -> Snapshot:
        folding = _Folding(self._files)

        async def commit_to_state(head: StoredHead) -> StateRootEvent:
            state_root_hash = await folding.run(self._store, head)
            return StateRootEvent(
                origin=self._origin, source=FEED_SOURCE, size=head.size, state_root_hash=state_root_hash
            )

        try:
            lone = await self._sequencer.append_alone(commit_to_state)
        except BaseException:
            folding.discard()
            raise
        return Snapshot(
            size=lone.before.size,
            frontier_hashes=lone.before.frontier.hashes,
            checkpoint_note=lone.after.checkpoint_note,
            state_root_entry=lone.entry,
            tenant_record=format_tenant(lone.before.tenant),
            chunk_count=folding.chunk_count,
            subject_count=folding.subject_count,
        )

    def _finish_making(self, task: asyncio.Task[Snapshot]) -> None:
        self._making = None
        # Those who asked may be gone: an error that nobody fetches would be reported as a bug.
        if task.cancelled() or task.exception() is not None:
            return
        replaced, self._newest = self._newest, task.result()
        if replaced is not None:
            self._drop(replaced)

    def _drop(self, snapshot: Snapshot) -> None:
        if snapshot != self._newest and not self._readers[snapshot.size]:
            del self._readers[snapshot.size]
            self._files.remove(snapshot.size, snapshot.chunk_count)


class _Folding:
    """One pass over the state: its root, its chunks, and whether it is what the head says."""

    def __init__(self, files: "_ChunkFiles") -> None:
        self.chunk_count = 0
        self.subject_count = 0
        self._size = 0
        self._files = files
        self._hasher = StateHasher()
        self._state_sum = EMPTY_STATE_SUM
        self._chunk: list[bytes] = []
        self._chunk_bytes = 0

    async def run(self, store: LogStore, head: StoredHead) -> bytes:
        """Fold the state at `head` and return its root, 32 bytes."""
        self._size = head.size
        async for page in store.read_clusters():
            # In a thread, page by page: subscribers are served on while this goes on.
            await asyncio.to_thread(self._take, page)
        await asyncio.to_thread(self._end_chunk)
        if self._state_sum != head.state_sum:
            raise CorruptLog("the stored state is not the fold of the log: rows were lost, added or put back")
        self.subject_count = await store.count_subjects()
        return self._hasher.finish(head.tenant)

    def discard(self) -> None:
        """Remove what was written."""
        self._files.remove(self._size, self.chunk_count + 1)

    def _take(self, page: Sequence[ClusterRow]) -> None:
        self._state_sum = add_records(self._state_sum, (row.record for row in page))
        for first_token, record in page:
            self._hasher.add(first_token, record)
            if self._chunk_bytes + _LENGTH_BYTES + len(record) > MAX_CHUNK_BYTES:
                self._end_chunk()
            self._chunk.append(record)
            self._chunk_bytes += _LENGTH_BYTES + len(record)

    def _end_chunk(self) -> None:
        if self._chunk:
            self._files.write(self._size, self.chunk_count, join_records(self._chunk))
            self.chunk_count += 1
            self._chunk, self._chunk_bytes = [], 0


class _ChunkFiles:
    """Files sealed under a key that is never written down: what a crash leaves behind is unreadable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._count = 0

    def write(self, size: int, number: int, chunk: bytes) -> None:
        # Counted, never derived from the place: a snapshot that failed is made again at the same size.
        self._count += 1
        nonce = self._count.to_bytes(_NONCE_BYTES, "big")
        try:
            self._path(size, number).write_bytes(nonce + self._cipher.encrypt(nonce, chunk, _bind(size, number)))
        except OSError as error:
            raise LogStoreError(f"a snapshot cannot be written: {error.strerror}") from None

    def read(self, size: int, number: int) -> bytes:
        try:
            sealed = self._path(size, number).read_bytes()
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bind(size, number))
        except OSError as error:
            raise LogStoreError(f"a snapshot cannot be read: {error.strerror}") from None
        except (InvalidTag, ValueError):
            raise CorruptLog("a snapshot's chunk is not what was written") from None

    def remove(self, size: int, count: int) -> None:
        for number in range(count):
            # What stays is unreadable after this process and is removed by the next one.
            with contextlib.suppress(OSError):
                self._path(size, number).unlink()

    def clear(self) -> None:
        try:
            for path in self._directory.glob(_PATTERN):
                path.unlink()
        except OSError as error:
            raise LogStoreError(f"{self._directory}: old snapshots cannot be removed: {error.strerror}") from None

    def _path(self, size: int, number: int) -> Path:
        return self._directory / f"snapshot-{size}-{number:06d}.chunk"


def _bind(size: int, number: int) -> bytes:
    return size.to_bytes(8, "big") + number.to_bytes(8, "big")
