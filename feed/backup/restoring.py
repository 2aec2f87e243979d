"""Restores a log from a backup and an archive: every entry hashed to the signed head, folded again, sealed anew."""

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feed.backup.reading import LogSegments, Progress, VerifiedLog, no_progress
from feed.backup.replaying import join_frames, replay_frame
from feed.errors import BackupFailed, CorruptArchive, LogRolledBack
from feed.log_store.archive import list_segments
from feed.log_store.high_water import Mark
from feed.log_store.identity import LogIdentity
from feed.log_store.sqlite import SqliteLog
from feed.signing.subject_keys import SubjectKeys


@dataclass(frozen=True, slots=True)
class RestoreSource:
    """Where a log is restored from.

    Attributes:
        backup: A backup's file; None where an archive has the log from its first entry on.
        archive_directory: Of the archive; None where there is none, or none is left.
        identity: Whose log it must be.
        kek: 32 bytes.
        subject_keys: Of its key epochs: the state is put under each new one where the log was.
    """

    backup: Path | None
    archive_directory: Path | None
    identity: LogIdentity
    kek: bytes
    subject_keys: SubjectKeys

    def segments(self) -> LogSegments:
        """All of them, in their order."""
        archived = list_segments(self.archive_directory) if self.archive_directory is not None else []
        return LogSegments(self.backup, archived, self.identity, self.kek)


async def restore(
    source: RestoreSource, into: Path, mark: Mark | None, progress: Progress = no_progress
) -> VerifiedLog:
    """Make a log's directory anew.

    Args:
        source: Where from.
        into: A directory that does not exist or is empty; left as it was where this raises.
        mark: The high-water mark, below which nothing is restored; None where there is none.
        progress: Is told how far it is.

    Returns:
        What was restored.

    Raises:
        BackupFailed: There is something in the directory.
        LogRolledBack: Backup and archive together do not reach the mark.
        CorruptArchive, ForeignLog: They are not whole, or of another log.
        LogStoreError, HostingError: The directory cannot be written.
    """
    # 1. Nothing is written before all of it is known to be what the log has signed.
    segments = source.segments()
    verified = segments.verify(mark, progress)
    if mark is not None and verified.size < mark.size:
        raise LogRolledBack(
            f"backup and archive hold {verified.size} entries, the log had at least {mark.size}: "
            f"entries {verified.size + 1} to {mark.size} are missing, so nothing was restored"
        )
    # 2. As it was logged, batch by batch.
    with _new_directory(into):
        head = segments.head()
        store = await SqliteLog.open(into, source.identity, source.kek, wrapped_index_key=head.wrapped_index_key)
        try:
            stored = await store.load_head()
            for frame in join_frames((frame for frame, _ in segments.frames()), verified.size):
                stored = await replay_frame(store, stored, frame, source.subject_keys)
                progress("replay", stored.size, verified.size)
            # 3. What was written is read again.
            stored = await store.load_head()
            if (stored.size, stored.frontier.root_hash()) != (verified.size, verified.root_hash):
                raise CorruptArchive("the files have changed while they were read")
            await store.settle()
        finally:
            await store.close()
    return verified


@contextmanager
def _new_directory(into: Path) -> Iterator[None]:
    is_new = not into.exists()
    try:
        if not is_new and any(into.iterdir()):
            raise BackupFailed(f"{into}: is not empty; nothing was written")
    except OSError as error:
        raise BackupFailed(f"{into}: cannot be used: {error.strerror}") from None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in into.iterdir():
                path.unlink()
            if is_new:
                shutil.rmtree(into)
        raise
