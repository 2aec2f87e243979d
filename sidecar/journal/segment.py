"""One segment as it is written."""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from journal.format import SegmentChain, SegmentHeader, format_header, format_segment_name

_ROOM_BYTES: Final = 1 << 20
"""A segment that begins after a failure wants at least this much room, or a nearly full disk would be littered with headers."""


class SegmentFile:
    """A segment open for writing. One thread appends; one, which may be another, calls `sync` and then `close`.

    Args:
        descriptor: Open for writing, at the end of the header.
        chain: At the first frame.
        directory: Where the file is.
        size_bytes: Length of the header.

    Attributes:
        chain: At the next frame.
        size_bytes: Length of the file, up to the last whole frame.
        is_sync_failed: Whether `sync` has failed once.
    """

    def __init__(self, descriptor: int, chain: SegmentChain, directory: Path, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._directory = directory
        self._is_in_directory = False
        self.chain = chain
        self.size_bytes = size_bytes
        self.is_sync_failed = False

    @classmethod
    def create(cls, directory: Path, header: SegmentHeader, data_key: bytes | bytearray, *, prove: bool) -> Self:
        """Begin a segment. It appears under its name with a whole header or not at all.

        Args:
            directory: Exists.
            header: The new header.
            data_key: Its key in clear.
            prove: Come back only when the header is on the disk and there is room after it. It blocks as long as that takes.

        Raises:
            OSError: The disk is full or broken, or the directory cannot be written; nothing is left behind.
        """
        header_bytes = format_header(header, data_key)
        path = directory / format_segment_name(header.chain_id, header.number)
        # A kill here leaves this file, which no reader takes for a segment.
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        chain = SegmentChain(header_bytes, header.previous_chain_hash, data_key)
        segment = cls(descriptor, chain, directory, len(header_bytes))
        try:
            write_whole(descriptor, header_bytes)
            if prove:
                _verify_room(descriptor, len(header_bytes))
                os.fsync(descriptor)
            temporary.rename(path)
            if prove:
                segment.sync()
        except OSError:
            segment.close()
            for leftover in (temporary, path):
                with contextlib.suppress(OSError):
                    leftover.unlink()
            raise
        return segment

    def append(self, plaintext: bytes, decisions: int) -> None:
        """Seal and write a frame.

        Raises:
            OSError: It is not written, and the segment must not be used any more: another frame under the same number would
                break its seal.
        """
        frame_bytes = self.chain.seal(plaintext, decisions)
        written = os.write(self._descriptor, frame_bytes)
        if written != len(frame_bytes):
            write_whole(self._descriptor, frame_bytes[written:])
        self.chain.advance(frame_bytes)
        self.size_bytes += len(frame_bytes)

    def abandon(self) -> None:
        """Give the segment up after a failure, without what the failed write may have left of a frame."""
        # Where this fails too, a reader stops at the torn frame, and the next segment names the chain hash before it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.size_bytes)

    def sync(self) -> None:
        """Come back when everything written is on the disk.

        Raises:
            OSError: It may not be, or somebody has deleted the file.
        """
        try:
            os.fsync(self._descriptor)
            if not self._is_in_directory:
                sync_directory(self._directory)
                self._is_in_directory = True
            if os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError:
            # A second fsync may report success for what the first one has lost, so there must be none.
            self.is_sync_failed = True
            raise

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def sync_segments(retired: Sequence[SegmentFile], current: SegmentFile | None) -> OSError | None:
    """Put segments on the disk, and close those that are done with. What went wrong last, None where nothing did."""
    failure = None
    for segment in (*retired, *((current,) if current else ())):
        try:
            if not segment.is_sync_failed:
                segment.sync()
        except OSError as error:
            failure = error
        if segment is not current:
            segment.close()
    return failure


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all bytes; after an OSError any part of them may have been written."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify_room(descriptor: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(descriptor, size_bytes, _ROOM_BYTES)
    except OSError as error:
        # Some file systems cannot reserve; there only writing shows whether there is room.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    os.ftruncate(descriptor, size_bytes)
