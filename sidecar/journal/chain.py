"""One process's chain of segments: where each ends, and what becomes of it when the disk fails."""

import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from consent.eventlog.journal_head import HeadKind
from hosting.clock import Clock
from hosting.errors import DirectoryUnusable
from hosting.locks import FileLock
from journal.format import (
    CHAIN_ID_BYTES,
    CHAIN_START,
    DATA_KEY_BYTES,
    KEY_PURPOSE,
    MAX_FRAME_BYTES,
    PREFIX_BYTES,
    TAG_BYTES,
    JournalMode,
    SegmentHeader,
)
from sidecar.errors import JournalUnavailable, SidecarError
from sidecar.journal.heads import HeadMaker, Place, format_head_frame
from sidecar.journal.segment import SegmentFile
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

LOCK_SUFFIX: Final = ".lock"
"""A file beside a chain's segments, held (flock) for as long as its process writes."""

_RETRY_AFTER_MS: Final = 100
_SPARE_SHARE: Final = 8
_MAX_SPARE_BYTES: Final = 8 << 20


class _DataKey(NamedTuple):
    clear: bytes
    wrapped: bytes


class Chain:
    """Appends frames to one segment after another.

    A segment in which a write or an fsync failed is never written again: the frame's number is its nonce, and part of
    the failed frame may be on the disk. The next write begins a new segment, and before that counts it must have reached
    the disk. Callers see to it that only one thread at a time is in here, save for `prepare_key`.

    Args:
        directory: Exists; other chains may lie in it.
        keys: Wraps each segment's key.
        heads: Makes the heads, and names the sidecar.
        mode: Named in each segment.
        clock: The time.
        segment_max_bytes: Where a segment ends and the next begins.
        segment_max_seconds: After which age it does.

    Attributes:
        chain_id: Drawn at random, so that two processes never write one file.
        mode: Named in the segments to come.
        is_failing: Whether the last attempt to write or sync failed.

    Raises:
        JournalUnavailable: The first segment cannot be begun.
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyProvider,
        heads: HeadMaker,
        mode: JournalMode,
        clock: Clock,
        segment_max_bytes: int,
        segment_max_seconds: float,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._heads = heads
        self._clock = clock
        self._segment_max_bytes = segment_max_bytes
        self._segment_max_ms = segment_max_seconds * 1000
        # What stays free at a segment's end for the frame that closes it.
        self._closing_bytes = heads.frame_bytes
        self._segment: SegmentFile | None = None
        self._retired: list[SegmentFile] = []
        self._next_number = 0
        self._chain_hash = CHAIN_START
        self._spare_key: _DataKey | None = None
        self._retry_at_ms = 0
        self._began_boot_ms = 0
        self.mode = mode
        self.chain_id = secrets.token_bytes(CHAIN_ID_BYTES)
        self.is_failing = False
        # Before the first segment is there to be seen: a chain without the lock is one that nobody writes any more.
        self._lock = _take_lock(lock_path(directory, self.chain_id))
        try:
            self._begin_segment(prove=True)
        except JournalUnavailable:
            self._release_lock()
            raise

    def write(self, plaintext: bytes, decisions: int) -> None:
        """Append a frame; when this returns, a kill of the process does not lose it.

        Raises:
            JournalUnavailable: It is not kept.
        """
        frame_bytes = PREFIX_BYTES + len(plaintext) + TAG_BYTES
        if frame_bytes > MAX_FRAME_BYTES:
            raise JournalUnavailable(f"journal: a frame is limited to {MAX_FRAME_BYTES} bytes")
        segment = self._segment
        if segment is None:
            segment = self._begin_segment(prove=True)
        elif segment.size_bytes + frame_bytes + self._closing_bytes > self._segment_max_bytes and segment.chain.frame:
            segment = self.end_segment()
        self._append(segment, plaintext, decisions)

    def write_head(self, kind: HeadKind) -> None:
        """Append a head for everything before it; nothing where no heads are made.

        Raises:
            JournalUnavailable: It is not kept, and the next one takes its number.
        """
        if self._heads.makes_heads:
            self._append_head(self._segment or self._begin_segment(prove=True), kind)

    @property
    def is_segment_over(self) -> bool:
        """Whether the segment is nearly full, or old.

        Nearly, so that a background thread can end it: signing and making a file cost more than a record may.
        """
        segment = self._segment
        if segment is None or not segment.chain.frame:
            return False
        spare_bytes = min(self._segment_max_bytes // _SPARE_SHARE, _MAX_SPARE_BYTES)
        is_full = segment.size_bytes + self._closing_bytes > self._segment_max_bytes - spare_bytes
        return is_full or self._clock.boot_ms() - self._began_boot_ms >= self._segment_max_ms

    def end_segment(self) -> SegmentFile:
        """Close the current segment with a head and begin the next.

        Raises:
            JournalUnavailable: The disk fails.
        """
        segment = self._segment
        if segment is not None:
            if self._heads.makes_heads:
                self._append_head(segment, HeadKind.SEGMENT_END)
            self._retire(segment)
        return self._begin_segment(prove=segment is None)

    def recover(self) -> None:
        """Begin a new segment where the last one failed, without waiting for a frame.

        Raises:
            JournalUnavailable: The disk still fails.
        """
        if self._segment is None:
            self._begin_segment(prove=True)
            self.is_failing = False

    def take_unsynced(self) -> tuple[list[SegmentFile], SegmentFile | None]:
        """What must be synced for everything written to be on the disk: segments that are done with, and the current one.

        The caller syncs all and closes the first ones; nothing else touches those any more.
        """
        retired, self._retired = self._retired, []
        return retired, self._segment

    def fail_sync(self, error: OSError) -> JournalUnavailable:
        """Note that an fsync failed; frames may be lost, and nothing is added to a segment in which that happened.

        Returns:
            What to tell those who wait.
        """
        if self._segment is not None and self._segment.is_sync_failed:
            self._abandon(self._segment)
        return self._fail("did not reach the disk", _describe(error))

    def prepare_key(self) -> None:
        """Have a key ready for the next segment, since wrapping one may take a network call. For a background thread."""
        if self._spare_key is None:
            # Where none can be had now, there is time until the segment is full.
            with contextlib.suppress(SidecarError):
                self._spare_key = self._make_key()

    @property
    def has_spare_key(self) -> bool:
        """Whether a key is ready for the next segment."""
        return self._spare_key is not None

    def close(self) -> None:
        """Close what is open, which has been synced."""
        retired, current = self.take_unsynced()
        for segment in (*retired, *((current,) if current else ())):
            segment.close()
        self._segment = None
        self._release_lock()

    def _release_lock(self) -> None:
        # A chain's id comes never again, so nobody can be about to take the lock of a file that is gone.
        with contextlib.suppress(OSError):
            lock_path(self._directory, self.chain_id).unlink(missing_ok=True)
        self._lock.release()

    def _append_head(self, segment: SegmentFile, kind: HeadKind) -> None:
        place = Place(self.chain_id, self._next_number - 1, segment.chain.frame, segment.chain.chain_hash)
        head = self._heads.make(kind, place)
        self._append(segment, format_head_frame(head), 0)
        self._heads.keep(head)

    def _append(self, segment: SegmentFile, plaintext: bytes, decisions: int) -> None:
        try:
            segment.append(plaintext, decisions)
        except OSError as error:
            self._abandon(segment)
            raise self._fail("cannot be written", _describe(error)) from None
        if self.is_failing:
            self.is_failing = False
            logger.warning("journal is written again")

    def _begin_segment(self, *, prove: bool) -> SegmentFile:
        if self._clock.boot_ms() < self._retry_at_ms:
            raise JournalUnavailable("journal: the disk has just failed and is tried again soon")
        try:
            key = self._spare_key or self._make_key()
            self._spare_key = None
            segment = SegmentFile.create(self._directory, self._header(key), key.clear, prove=prove)
        except OSError as error:
            self._retry_at_ms = self._clock.boot_ms() + _RETRY_AFTER_MS
            raise self._fail("cannot begin a segment", _describe(error)) from None
        except SidecarError as error:
            self._retry_at_ms = self._clock.boot_ms() + _RETRY_AFTER_MS
            raise self._fail("has no key for a segment", error.reason) from None
        self._next_number += 1
        self._began_boot_ms = self._clock.boot_ms()
        self._segment = segment
        return segment

    def _header(self, key: _DataKey) -> SegmentHeader:
        return SegmentHeader(
            chain_id=self.chain_id,
            number=self._next_number,
            created_ms=self._clock.now_ms(),
            mode=self.mode,
            previous_chain_hash=self._chain_hash,
            sidecar_id=self._heads.sidecar_id,
            wrapped_key=key.wrapped,
        )

    def _make_key(self) -> _DataKey:
        clear = secrets.token_bytes(DATA_KEY_BYTES)
        return _DataKey(clear, self._keys.wrap(clear, KEY_PURPOSE))

    def _retire(self, segment: SegmentFile) -> None:
        self._chain_hash = segment.chain.chain_hash
        self._retired.append(segment)
        self._segment = None

    def _abandon(self, segment: SegmentFile) -> None:
        segment.abandon()
        if not segment.chain.frame:
            # The disk took a header and nothing more: without a pause each request would leave such a file.
            self._retry_at_ms = self._clock.boot_ms() + _RETRY_AFTER_MS
        self._retire(segment)

    def _fail(self, what: str, cause: str) -> JournalUnavailable:
        if not self.is_failing:
            logger.error("journal %s", what, extra={"fields": {"cause": cause}})
        self.is_failing = True
        return JournalUnavailable(f"journal {what}: {cause}")


def lock_path(directory: Path, chain_id: bytes) -> Path:
    """The lock file of a chain."""
    return directory / f"{chain_id.hex()}{LOCK_SUFFIX}"


def _take_lock(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.try_acquire()
    except DirectoryUnusable as error:
        raise JournalUnavailable(f"journal: {error}") from None
    return lock


def _describe(error: OSError) -> str:
    """What the kernel said, without the file's name."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
