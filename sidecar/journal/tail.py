"""Following a journal directory as it grows: every chain, every segment, from where the last reader stopped."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from hosting.clock import Clock
from journal.directory import SegmentSizes, list_segments, read_created_ms
from journal.errors import CorruptSegment, JournalError, TornTail
from journal.format import CHAIN_START, format_segment_name
from journal.reader import HEADER_FRAME, FrameAt, SegmentReader
from sidecar.errors import KeyServiceError, SidecarError, WrongCacheKey
from sidecar.journal.position import Position
from sidecar.ports import KeyProvider

Report = Callable[[JournalError | SidecarError], None]
"""Told once of each damage that was found (`CorruptSegment`, `WrongCacheKey`) and of each torn end (`TornTail`)."""

TORN_AFTER_MS: Final = 5_000
"""A frame that is unfinished for so long is no longer being written."""


class ChainTail:
    """Follows one chain.

    Damage is reported and the rest of its segment left out; a segment that does not follow the one before it is
    reported and read, since what it holds is authentic.

    Args:
        chain_id: Which chain.
        directory: Where its segments are.
        keys: Opens them.
        clock: The time.
        position: Where to go on, None for the beginning.
        report: Told of what was found.
    """

    def __init__(
        self,
        chain_id: bytes,
        directory: Path,
        keys: KeyProvider,
        clock: Clock,
        position: Position | None,
        report: Report,
    ) -> None:
        self._chain_id = chain_id
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._report = report
        self._resume_at = position
        self._number = -1 if position is None else position.segment
        # With nothing new behind the position, the segment need not be opened.
        self._drained_bytes = -1 if position is None else position.offset
        self._expected_hash = CHAIN_START
        self._reader: SegmentReader | None = None
        self._is_given_up = False
        self._rest_since: tuple[int, int] | None = None
        self._is_rest_reported = False

    def read(self, sizes: SegmentSizes) -> Iterator[FrameAt]:
        """New frames, as far as there are any.

        Args:
            sizes: The chain's segments, listed before this call.

        Raises:
            OSError: A file cannot be read.
        """
        while True:
            frame = self._next_frame(sizes.get(self._number, -1))
            if frame is not None:
                yield frame
            elif not self._move_on(sizes):
                self._watch_rest(sizes.get(self._number, -1))
                self.release()
                return

    def release(self) -> None:
        """Close the file that is open."""
        if self._reader is not None:
            self._reader.release()

    def _next_frame(self, size_bytes: int) -> FrameAt | None:
        if self._is_given_up or size_bytes in (-1, self._drained_bytes):
            return None
        try:
            frame = self._opened().next_frame()
        except FileNotFoundError:
            frame = None
        except (CorruptSegment, WrongCacheKey) as error:
            self._is_given_up = True
            self._report(error)
            return None
        if frame is None:
            # As listed: what was appended since then shows in the next listing.
            self._drained_bytes = size_bytes
        return frame

    def _opened(self) -> SegmentReader:
        if self._reader is not None:
            return self._reader
        reader = SegmentReader(self._directory / format_segment_name(self._chain_id, self._number), self._keys)
        header = reader.read_header()
        if header is None:
            reader.release()
            return reader
        if self._resume_at is not None:
            reader.resume(self._resume_at.offset, self._resume_at.frame, self._resume_at.chain_hash)
        elif self._expected_hash and header.previous_chain_hash != self._expected_hash:
            self._report_break("does not follow the segment before it")
        self._reader = reader
        return reader

    def _move_on(self, sizes: SegmentSizes) -> bool:
        """Go to the next segment, if there is one. The listing is older than the last read, so the segment before is done."""
        following = min((number for number in sizes if number > self._number), default=None)
        if following is None:
            return False
        if self._number in sizes:
            self._expected_hash = self._finish_segment()
        elif self._number >= 0 or following > 0:
            # The beginning of the chain has been disposed of, or taken away: what that means, an audit finds out.
            self._expected_hash = b""
        # Segments are disposed of from the beginning of a chain only, so a hole behind one that is there is no disposal.
        is_gap = self._number in sizes and following != self._number + 1
        self._number = following
        self._reader = self._resume_at = self._rest_since = None
        self._is_given_up = self._is_rest_reported = False
        self._drained_bytes = -1
        if is_gap:
            self._expected_hash = b""
            self._report_break("segments before it are missing")
        return True

    def _finish_segment(self) -> bytes:
        """The chain hash at the end of the current segment, empty where it is not known."""
        self.release()
        if self._is_given_up:
            return b""
        if self._reader is None:
            return b"" if self._resume_at is None else self._resume_at.chain_hash
        # Where it is gone since the listing, it was disposed of, and so read to its end before.
        with contextlib.suppress(FileNotFoundError):
            if self._reader.has_rest() and not self._is_rest_reported:
                self._report(self._reader.torn_tail())
        self.release()
        return self._reader.chain_hash

    def _watch_rest(self, size_bytes: int) -> None:
        """Report an unfinished frame that nobody finishes, and a file that has become shorter than what was read of it."""
        if self._is_given_up or self._is_rest_reported or size_bytes < 0:
            return
        read_bytes = self._reader.offset if self._reader else self._drained_bytes
        if size_bytes == read_bytes:
            self._rest_since = None
            return
        now_ms = self._clock.boot_ms()
        if self._rest_since is None or self._rest_since[0] != size_bytes:
            self._rest_since = (size_bytes, now_ms)
        elif now_ms - self._rest_since[1] >= TORN_AFTER_MS:
            self._is_rest_reported = True
            self._report(self._describe_rest(size_bytes, read_bytes))

    def _describe_rest(self, size_bytes: int, read_bytes: int) -> TornTail:
        if size_bytes > read_bytes and self._reader is not None:
            return self._reader.torn_tail()
        name = format_segment_name(self._chain_id, self._number)
        frame = self._resume_at.frame if self._resume_at else HEADER_FRAME
        text = "the segment ends before it" if size_bytes < read_bytes else "the segment ends within it"
        return TornTail(text, name, frame, size_bytes)

    def _report_break(self, text: str) -> None:
        name = format_segment_name(self._chain_id, self._number)
        self._report(CorruptSegment(text, name, HEADER_FRAME, 0))


class Tail:
    """Follows all chains of a directory, the oldest first.

    Args:
        directory: Exists.
        keys: Opens the segments.
        clock: The time.
        positions: Where to go on, by chain id; chains that are not in it are read from their beginning.
        report: Told of what was found.
    """

    def __init__(
        self, directory: Path, keys: KeyProvider, clock: Clock, positions: Mapping[bytes, Position], report: Report
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._positions = positions
        self._report = report
        self._chains: dict[bytes, ChainTail] = {}
        self._order: list[tuple[int, bytes]] = []

    @property
    def chain_ids(self) -> frozenset[bytes]:
        """The chains there were at the last read."""
        return frozenset(self._chains)

    def read(self, max_decisions: int) -> list[FrameAt]:
        """New frames of about `max_decisions` decisions together (at least one frame), none where there is nothing new.

        Raises:
            OSError: The directory or a file cannot be read.
            KeyServiceError: The key of a segment cannot be had now.
        """
        listing = list_segments(self._directory)
        self._meet(listing)
        frames = []
        room = max_decisions
        for _, chain_id in self._order:
            try:
                for frame in self._chains[chain_id].read(listing[chain_id]):
                    frames.append(frame)
                    room -= max(1, frame.decisions)
                    if room <= 0:
                        return frames
            except (OSError, KeyServiceError):
                # What was read already is not read again, so it must not be lost; the next call meets the error anew.
                if frames:
                    return frames
                raise
        return frames

    def close(self) -> None:
        """Close what is open."""
        for chain in self._chains.values():
            chain.release()

    def _meet(self, listing: Mapping[bytes, SegmentSizes]) -> None:
        """Take in chains that are new, and let go of those that are not there any more."""
        for chain_id in self._chains.keys() - listing.keys():
            self._chains.pop(chain_id).release()
        for chain_id in listing.keys() - self._chains.keys():
            first = self._directory / format_segment_name(chain_id, min(listing[chain_id]))
            try:
                created_ms = read_created_ms(first)
            except FileNotFoundError:
                # Disposed of since the listing: the next one has the chain as it is then, or not at all.
                continue
            position = self._positions.get(chain_id)
            tail = ChainTail(chain_id, self._directory, self._keys, self._clock, position, self._report)
            self._chains[chain_id] = tail
            self._order.append((created_ms, chain_id))
        self._order = sorted(entry for entry in self._order if entry[1] in self._chains)
