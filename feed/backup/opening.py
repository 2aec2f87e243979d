"""Opens the log for a feed that starts: nothing that was accepted may be missing from it, whatever has become of its disk."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consent.eventlog.merkle import EMPTY_ROOT_HASH
from feed.backup.replaying import replay_frame
from feed.backup.writing import copy_entries
from feed.errors import BackupFailed, CorruptArchive, HighWaterUnreadable, LogRolledBack, LogUnmarked
from feed.log_store.archive import Archive
from feed.log_store.high_water import Mark, MarkFile
from feed.log_store.identity import LogIdentity
from feed.log_store.port import StoredHead
from feed.log_store.sqlite import DATABASE_NAME, SqliteLog
from feed.log_store.tree import LogTree
from feed.ports import FeedHead
from feed.signing.subject_keys import SubjectKeys

_LOGGER: Final = logging.getLogger(__name__)
_WHAT_TO_DO: Final = "see `consentry-feed restore --help`; nothing was changed"


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a log and its safeguards lie.

    Attributes:
        directory: Of the database.
        archive_directory: On the second disk; None where there is none.
        marks: The high-water mark.
        losses: What a sidecar holds and the log has lost.
        accepted_losses: Up to where an operator has accepted that.
        identity: Whose log it must be.
        kek: 32 bytes.
        subject_keys: Of its key epochs.
    """

    directory: Path
    archive_directory: Path | None
    marks: MarkFile
    losses: MarkFile
    accepted_losses: MarkFile
    identity: LogIdentity
    kek: bytes
    subject_keys: SubjectKeys


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log that may be gone on from.

    Attributes:
        store: With its archive attached.
        archive: To be closed after the store, None where there is none.
    """

    store: SqliteLog
    archive: Archive | None

    async def close(self) -> None:
        """Give the files back."""
        await self.store.close()
        if self.archive is not None:
            self.archive.close()


async def open_log(place: LogPlace) -> OpenedLog:
    """Open the log, bring its archive up to it, and check both against the high-water mark.

    Raises:
        LogRolledBack: The database does not hold what the mark or the archive does.
        LogUnmarked: There is a database that no mark speaks of.
        HighWaterUnreadable: There is a mark that cannot be believed.
        LogStoreError, HostingError: What the parts raise.
    """
    # 1. A database that is gone is not begun anew over the mark of what it held.
    mark = place.marks.read()
    if mark is not None and mark.size and not (place.directory / DATABASE_NAME).exists():
        raise LogRolledBack(f"the database is gone, the log had at least {mark.size} entries; {_WHAT_TO_DO}")
    store = await SqliteLog.open(place.directory, place.identity, place.kek)
    archive: Archive | None = None
    try:
        head = await store.load_head()
        # 2. The archive first: the batch that a crash has kept from being committed may be what the mark speaks of.
        if place.archive_directory is not None:
            archive = Archive.open(place.archive_directory, place.identity, place.kek, store.wrapped_index_key)
            head = await _join_archive(store, head, archive, place.subject_keys)
        # 3. Nothing is behind the mark, and nothing else is in its place.
        await verify_mark(store, head, mark)
        if mark is None:
            if head.version:
                raise LogUnmarked(
                    f"a log of {head.size} entries and no high-water mark at {place.marks.path}: if it is the newest, "
                    "say so with `consentry-feed accept-log`"
                )
            place.marks.write(Mark(0, EMPTY_ROOT_HASH))
    except BaseException:
        await OpenedLog(store, archive).close()
        raise
    return OpenedLog(store, archive)


async def verify_mark(store: SqliteLog, head: StoredHead, mark: Mark | None) -> None:
    """Check that a log begins with the mark's entries; any does where there is no mark.

    Raises:
        LogRolledBack: It does not.
    """
    if mark is None or not mark.size:
        return
    if head.size < mark.size:
        raise LogRolledBack(f"the database holds {head.size} entries, the log had at least {mark.size}; {_WHAT_TO_DO}")
    if await _root_hash(store, head, mark.size) != mark.root_hash:
        raise LogRolledBack(f"the database holds other entries than the log had at {mark.size}; {_WHAT_TO_DO}")


async def _join_archive(store: SqliteLog, head: StoredHead, archive: Archive, subject_keys: SubjectKeys) -> StoredHead:
    """Make archive and database end with the same entry; returns the head."""
    end = archive.end
    if end is not None and end.checkpoint.size > head.size:
        if end.frame.from_seq != head.size + 1:
            raise LogRolledBack(
                f"the database holds {head.size} entries, the archive {end.checkpoint.size}; {_WHAT_TO_DO}"
            )
        # Nobody was told anything of this batch, and it may be logged: a request that is repeated finds it.
        head = await replay_frame(store, head, end.frame, subject_keys)
        _LOGGER.warning(
            "a batch of the archive was committed that a crash had kept from it: entries up to %d", head.size
        )
        head = await store.load_head()
        # What an ERASURE has taken away is not left in the write-ahead log.
        await store.settle()
    if end is not None and await _root_hash(store, head, end.checkpoint.size) != end.checkpoint.root_hash:
        raise CorruptArchive("the archive holds other entries than the database")
    if archive.size < head.size:
        _LOGGER.warning("entries %d to %d are copied to the archive", archive.size + 1, head.size)
        await copy_entries(store, head, archive)
    store.keep_archive(archive)
    return head


async def _root_hash(store: SqliteLog, head: StoredHead, size: int) -> bytes:
    feed_head = FeedHead(head.frontier, head.checkpoint_note, head.checkpoint_time_ms, head.tenant)
    return await LogTree(store, lambda: feed_head).root_hash(size)


async def accept_log(place: LogPlace, confirm: Callable[[int], None]) -> int:
    """Set the mark to what the database holds, where there is no mark that can be believed.

    Args:
        place: Of a log that no feed has open.
        confirm: Is told how many entries would be accepted; raises to stop it.

    Returns:
        Entries that were accepted.

    Raises:
        LogRolledBack: There is a mark, and the database is behind it: that is never accepted.
        BackupFailed: There is no database.
        LogStoreError, HostingError: The database is damaged, or the mark cannot be written.
    """
    if not (place.directory / DATABASE_NAME).exists():
        raise BackupFailed(f"{place.directory}: there is no log")
    try:
        mark = place.marks.read()
    except HighWaterUnreadable:
        mark = None
    store = await SqliteLog.open(place.directory, place.identity, place.kek)
    try:
        head = await store.load_head()
        await verify_mark(store, head, mark)
        confirm(head.size)
        place.marks.write(Mark(head.size, head.frontier.root_hash()))
    finally:
        await store.close()
    return head.size
