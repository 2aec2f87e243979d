"""The archive: every batch on a second disk before it is committed, in segments that are only ever appended to.

Order of a commit: archive, database, answer. So an answered request is in both, and a crash between them leaves one batch more in the
archive, which the next start commits (`feed.backup.opening`). After a write that failed nothing is appended before `drop_after` has taken
back what it may have left, and then in a new segment: behind a failed fsync nobody knows what the old file's pages hold.
"""

import asyncio
import contextlib
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from consent.eventlog.checkpoint import Checkpoint
from feed.errors import ArchiveWriteFailed, CorruptArchive, CorruptLog
from feed.log_store.identity import LogIdentity
from feed.log_store.segments import Frame, SegmentFormat, SegmentReader
from feed.log_store.verification import verify_stored_note
from hosting.key_files import write_file_atomically
from hosting.locks import InstanceLock

MAX_SEGMENT_BYTES: Final = 64 * 1024 * 1024

_PATTERN: Final = "segment-*.log"


def list_segments(directory: Path) -> list[Path]:
    """The segments of an archive in their order."""
    return sorted(directory.glob(_PATTERN))


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """What an archive ends with.

    Attributes:
        checkpoint: The last one, signed by the log.
        frame: The frame that carries it.
    """

    checkpoint: Checkpoint
    frame: Frame


class _Segment:
    """The segment that this process appends to."""

    def __init__(self, path: Path, form: SegmentFormat) -> None:
        self._form = form
        self._count = 0
        head = form.format_head()
        write_file_atomically(path, head)
        self.end = len(head)
        self.is_full = False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def append(self, frame: Frame) -> None:
        record = self._form.format_record(self._count, frame)
        rest = memoryview(record)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)
        self._count += 1
        self.end += len(record)
        # Where a commit takes several frames, they stay together in one segment.
        self.is_full = self.end >= MAX_SEGMENT_BYTES and bool(frame.checkpoint_note)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def cut(self, end: int) -> None:
        os.ftruncate(self._descriptor, end)
        os.fsync(self._descriptor)


class Archive:
    """Appends to an archive. Made by `open` only; one method at a time.

    Attributes:
        end: What it ended with when it was opened, None where it was empty.
        size: Entries in it, those of the newest append included.
    """

    def __init__(
        self, directory: Path, identity: LogIdentity, kek: bytes, wrapped_index_key: bytes, lock: InstanceLock
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._kek = kek
        self._wrapped_index_key = wrapped_index_key
        self._lock = lock
        self._segment: _Segment | None = None
        #: Where the segment ended before the newest append, and how many entries there were.
        self._before = (0, 0)
        self._is_torn = False
        self.end: ArchiveEnd | None = None
        self.size = 0

    @classmethod
    def open(cls, directory: Path, identity: LogIdentity, kek: bytes, wrapped_index_key: bytes) -> Self:
        """Find the end of an archive, or begin one; what a crash has left behind the last signed checkpoint is cut off.

        Args:
            directory: Created for its owner alone where it is missing; locked until `close`.
            identity: Whose log it must be.
            kek: 32 bytes; wraps the data keys of the segments.
            wrapped_index_key: Of the log's database, carried along for a restore.

        Raises:
            InstanceLocked, DirectoryUnusable: Another process works on the directory, or it cannot be used.
            ForeignLog: It is the archive of another log, or sealed under another key.
            CorruptArchive: Its last segment is damaged.
            ArchiveWriteFailed: What was left over cannot be cut off.
        """
        lock = InstanceLock(directory)
        lock.__enter__()
        archive = cls(directory, identity, kek, wrapped_index_key, lock)
        try:
            archive._find_end()
        except BaseException:
            archive.close()
            raise
        return archive

    def close(self) -> None:
        """Give the files back."""
        self._end_segment()
        self._lock.__exit__(None, None, None)

    async def append(self, frame: Frame) -> None:
        """Keep a frame durably.

        Raises:
            ArchiveWriteFailed: It cannot be kept; nothing more is before `drop_after` has told where the log ends.
            CorruptArchive: It does not follow.
        """
        await asyncio.to_thread(self._append, frame)

    async def drop_after(self, size: int) -> None:
        """Take back the newest append where the log does not hold it, and what a failed one has left.

        Args:
            size: Entries of the log.

        Raises:
            ArchiveWriteFailed: It cannot be taken back yet.
            CorruptArchive: The archive is further from the log than one append.
        """
        await asyncio.to_thread(self._drop_after, size)

    def _append(self, frame: Frame) -> None:
        if self._is_torn:
            raise ArchiveWriteFailed("the archive has not recovered from a failed write")
        if frame.from_seq != self.size + 1:
            raise CorruptArchive(f"the archive ends at {self.size}, and entry {frame.from_seq} does not follow")
        if self._segment is not None and self._segment.is_full:
            self._end_segment()
        self._is_torn = True
        try:
            segment = self._segment = self._segment or self._begin_segment(frame.from_seq)
            self._before = (segment.end, self.size)
            segment.append(frame)
        except OSError as error:
            raise ArchiveWriteFailed(f"the archive cannot be written: {error.strerror}") from None
        self._is_torn = False
        self.size = frame.size

    def _drop_after(self, size: int) -> None:
        if size == self.size and not self._is_torn:
            return
        end, before = self._before
        if size not in (before, self.size):
            raise CorruptArchive(f"the archive ends at {self.size}, the log at {size}")
        try:
            if self._segment is not None:
                self._segment.cut(end)
        except OSError as error:
            self._is_torn = True
            raise ArchiveWriteFailed(f"the archive cannot take back what it wrote: {error.strerror}") from None
        self._end_segment()
        self._is_torn = False
        self.size = size

    def _begin_segment(self, from_seq: int) -> _Segment:
        identity = self._identity
        form = SegmentFormat(identity.origin, identity.tenant, self._kek, self._wrapped_index_key, from_seq)
        # A segment of this name, if there is one, was begun and holds nothing.
        return _Segment(self._directory / f"segment-{from_seq:020d}.log", form)

    def _end_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _find_end(self) -> None:
        for path in reversed(list_segments(self._directory)):
            found = self._read_end(path)
            if found is not None:
                self.end = found
                self.size = found.checkpoint.size
                return

    def _read_end(self, path: Path) -> ArchiveEnd | None:
        """The last commit of a segment, behind which it is cut off; a segment without any is removed."""
        last: Frame | None = None
        with closing(SegmentReader.open(path, self._identity.origin, self._identity.tenant, self._kek)) as reader:
            end = reader.end
            for frame in reader.frames():
                if frame.checkpoint_note:
                    last, end = frame, reader.end
        try:
            _cut_off(path, end if last is not None else 0)
        except OSError as error:
            raise ArchiveWriteFailed(f"{path}: cannot be written: {error.strerror}") from None
        if last is None:
            return None
        try:
            checkpoint = verify_stored_note(
                last.checkpoint_note, origin=self._identity.origin, log_keys=self._identity.log_keys
            )
        except CorruptLog as error:
            raise CorruptArchive(f"{path}: {error}") from None
        if checkpoint.size != last.size:
            raise CorruptArchive(f"{path}: its last checkpoint is of another size")
        return ArchiveEnd(checkpoint, last)


def _cut_off(path: Path, end: int) -> None:
    if end == 0:
        path.unlink()
    elif path.stat().st_size > end:
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
