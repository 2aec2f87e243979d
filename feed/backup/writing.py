"""Copies a log out of its store: into a backup, or into an archive that is behind it."""

from collections.abc import AsyncIterator
from typing import Final

from feed.backup.missing_payloads import MissingPayloads
from feed.errors import BackupFailed, CorruptLog
from feed.log_store.archive import Archive
from feed.log_store.identity import LogIdentity
from feed.log_store.port import LogStore, StoredHead
from feed.log_store.segments import Frame, SegmentFormat
from feed.log_store.sqlite import SqliteLog
from feed.ports import FeedHead

_PAGE: Final = 1_000


async def write_backup(
    store: SqliteLog, head: FeedHead, identity: LogIdentity, kek: bytes
) -> AsyncIterator[tuple[bytes, int]]:
    """The bytes of a backup of the log at `head`, piece by piece, each with the entries written so far.

    The log may grow meanwhile: later entries and answers are left out, and nothing else changes them but an erasure.

    Raises:
        BackupFailed: A person was erased meanwhile; what was written so far is no backup.
        LogStoreError: The log cannot be read.
    """
    segment = SegmentFormat(identity.origin, identity.tenant, kek, store.wrapped_index_key, 1)
    yield segment.format_head(), 0
    index = 0
    async for frame in _frames(store, 1, head):
        yield segment.format_record(index, frame), frame.size
        index += 1


async def copy_entries(store: LogStore, head: StoredHead, archive: Archive) -> None:
    """Append to an archive what it lacks.

    Raises:
        ArchiveWriteFailed: It cannot be written.
        LogStoreError: The log cannot be read.
    """
    feed_head = FeedHead(head.frontier, head.checkpoint_note, head.checkpoint_time_ms, head.tenant)
    async for frame in _frames(store, archive.size + 1, feed_head):
        await archive.append(frame)


async def _frames(store: LogStore, from_seq: int, head: FeedHead) -> AsyncIterator[Frame]:
    """Entries, then their answers, then the checkpoint: without it nothing before it counts."""
    seq, missing = from_seq, MissingPayloads()
    while seq <= head.size:
        entries = await store.read_entries(seq, min(_PAGE, head.size + 1 - seq))
        if not entries:
            raise CorruptLog(f"entry {seq} is missing")
        for entry in entries:
            missing.take(entry)
        yield Frame(seq, entries)
        seq += len(entries)
    if missing.first_seq:
        # The ERASURE is behind this head: restored up to here, the log would have lost an opt-out.
        raise BackupFailed("a person was erased while the log was read; write it again")
    after = b""
    while page := await store.read_requests(after, _PAGE):
        after = page[-1][0]
        requests = [row for row in page if from_seq <= row[1].accepted.seq <= head.size]
        if requests:
            yield Frame(head.size + 1, (), requests)
    yield Frame(head.size + 1, (), (), head.checkpoint_note, head.checkpoint_time_ms)
