"""One process's chain of segments: where each ends, and what becomes of it when the disk fails."""

import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from hosting.clock import Clock
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
from sidecar.journal.segment import SegmentFile
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

_RETRY_AFTER_MS: Final = 100


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
        sidecar_id: Named in each segment.
        mode: Named in each segment.
        clock: The time.
        segment_max_bytes: Where a segment ends and the next begins.

    Attributes:
        chain_id: Drawn at random, so that two processes never write one file.
        is_failing: Whether the last attempt to write or sync failed.

    Raises:
        JournalUnavailable: The first segment cannot be begun.
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyProvider,
        sidecar_id: str,
        mode: JournalMode,
        clock: Clock,
        segment_max_bytes: int,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._sidecar_id = sidecar_id
        self._mode = mode
        self._clock = clock
        self._segment_max_bytes = segment_max_bytes
        self._segment: SegmentFile | None = None
        self._retired: list[SegmentFile] = []
        self._next_number = 0
        self._chain_hash = CHAIN_START
        self._spare_key: _DataKey | None = None
        self._retry_at_ms = 0
        self.chain_id = secrets.token_bytes(CHAIN_ID_BYTES)
        self.is_failing = False
        self._begin_segment(prove=True)

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
        elif segment.size_bytes + frame_bytes > self._segment_max_bytes and segment.chain.frame:
            self._retire(segment)
            segment = self._begin_segment(prove=False)
        try:
            segment.append(plaintext, decisions)
        except OSError as error:
            self._abandon(segment)
            raise self._fail("cannot be written", _describe(error)) from None
        if self.is_failing:
            self.is_failing = False
            logger.warning("journal is written again")

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
        self._segment = segment
        return segment

    def _header(self, key: _DataKey) -> SegmentHeader:
        return SegmentHeader(
            chain_id=self.chain_id,
            number=self._next_number,
            created_ms=self._clock.now_ms(),
            mode=self._mode,
            previous_chain_hash=self._chain_hash,
            sidecar_id=self._sidecar_id,
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


def _describe(error: OSError) -> str:
    """What the kernel said, without the file's name."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
