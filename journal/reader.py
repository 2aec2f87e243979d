"""Reading segments back, and proving on the way that they are as they were written."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from journal.errors import CorruptJournal, CorruptSegment, TornTail
from journal.format import (
    KEY_PURPOSE,
    PREFIX_BYTES,
    ChainHash,
    FrameKind,
    SegmentChain,
    SegmentHeader,
    header_length,
    parse_header,
    parse_prefix,
    parse_segment_name,
    unpack_frame,
    verify_header,
)

HEADER_FRAME: Final = -1
"""Stands for the header where a frame's number is wanted."""
UNOPENED: Final = 0
"""The kind of a frame that was read without a key: no `FrameKind` has this number."""

_CHUNK_BYTES: Final = 1 << 18
# The last bytes of a whole frame are its tag, so these are never written: the file grew and its content did not follow.
_UNWRITTEN: Final = bytes(16)


class SegmentKeys(Protocol):
    """Opens the keys of segments; a sidecar's key provider is one."""

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        """The data key in clear; raises errors of its own where it has no key for that."""
        ...


class FrameAt(NamedTuple):
    """A verified frame, and where it is.

    Attributes:
        chain_id: 16 bytes.
        segment: Number of the segment in its chain.
        frame: Number in the segment.
        offset: Byte at which it begins.
        end: Byte after it.
        chain_hash: 32 bytes, after this frame.
        kind: A `FrameKind`, or what a later version calls so; `UNOPENED` without a key.
        decisions: How many it holds.
        records: `consent.decision_record` bytes; of every other kind its content as one; none without a key.
    """

    chain_id: bytes
    segment: int
    frame: int
    offset: int
    end: int
    chain_hash: bytes
    kind: int
    decisions: int
    records: tuple[bytes, ...]


class RecordAt(NamedTuple):
    """A verified record, and where it is.

    Attributes:
        segment: Number of the segment in its chain.
        frame: Number of the frame in the segment.
        place: Place in the frame.
        record: `consent.decision_record` bytes.
    """

    segment: int
    frame: int
    place: int
    record: bytes


class _OpenedSegment(NamedTuple):
    header: SegmentHeader
    chain: ChainHash


class SegmentReader:
    """Reads one segment frame by frame, also while it is being written.

    Args:
        path: The file.
        keys: Opens its key. With None, header and frames are passed over as they lie: nothing shows yet that they are authentic, and the
            chain hash, compared with one that somebody signed, does.
    """

    def __init__(self, path: Path, keys: SegmentKeys | None) -> None:
        self._path = path
        self._keys = keys
        self._descriptor: int | None = None
        self._buffer = b""
        self._buffer_start = 0
        self._opened: _OpenedSegment | None = None
        self._offset = 0

    @property
    def offset(self) -> int:
        """Byte at which the next frame begins."""
        return self._offset

    @property
    def frame(self) -> int:
        """Number of the next frame, `HEADER_FRAME` while the header is not read."""
        return HEADER_FRAME if self._opened is None else self._opened.chain.frame

    @property
    def chain_hash(self) -> bytes:
        """After the last frame read; empty while the header is not read."""
        return b"" if self._opened is None else self._opened.chain.chain_hash

    def read_header(self) -> SegmentHeader | None:
        """The verified header, None while it is not whole.

        Raises:
            CorruptSegment: It was changed, or is none.
            Whatever `keys` raises: No key at hand opens the segment.
            OSError: The file cannot be read.
        """
        opened = self._open()
        return None if opened is None else opened.header

    def resume(self, offset: int, frame: int, chain_hash: bytes) -> None:
        """Go on at a place reached before, once the header is read."""
        opened = self._open()
        if opened is not None:
            self._offset = offset
            opened.chain.resume(frame, chain_hash)

    def next_frame(self) -> FrameAt | None:
        """The next frame, None where there is no whole one.

        Raises:
            CorruptSegment: What is there was not written there. The reader is of no use after that.
            Whatever `keys` raises.
            OSError: The file cannot be read.
        """
        opened = self._open()
        if opened is None:
            return None
        try:
            return self._read_frame(opened)
        except CorruptJournal as error:
            self._verify_written(error)
            return None

    def has_rest(self) -> bool:
        """Whether there are bytes after the last whole frame: one being written, or a torn tail."""
        return self._size_bytes() > self._offset

    def rest_bytes(self) -> int:
        """How many bytes those are, without the zeros of room that was reserved and never used."""
        return self._find_written_end() - self._offset

    def torn_tail(self) -> TornTail:
        """Describes the rest after the last whole frame."""
        return TornTail("the segment ends within it", self._path.name, self.frame, self._offset)

    def release(self) -> None:
        """Close the file; reading on opens it again."""
        self._buffer = b""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> _OpenedSegment | None:
        if self._opened is None:
            try:
                self._opened = self._read_opening()
            except CorruptJournal as error:
                self._verify_written(error)
        return self._opened

    def _read_opening(self) -> _OpenedSegment | None:
        opening = self._peek(_CHUNK_BYTES)
        length = header_length(opening)
        if length is None or len(opening) < length:
            return None
        header_bytes = opening[:length]
        header = parse_header(header_bytes)
        chain = self._begin_chain(header, header_bytes)
        if (header.chain_id, header.number) != parse_segment_name(self._path.name):
            raise CorruptJournal("the file bears the name of another segment")
        self._offset = length
        return _OpenedSegment(header, chain)

    def _begin_chain(self, header: SegmentHeader, header_bytes: bytes) -> ChainHash:
        if self._keys is None:
            return ChainHash(header_bytes, header.previous_chain_hash)
        data_key = self._keys.unwrap(header.wrapped_key, KEY_PURPOSE)
        verify_header(header_bytes, data_key)
        chain = SegmentChain(header_bytes, header.previous_chain_hash, data_key)
        data_key[:] = bytes(len(data_key))
        return chain

    def _read_frame(self, opened: _OpenedSegment) -> FrameAt | None:
        header, chain = opened
        prefix_bytes = self._peek(PREFIX_BYTES)
        if len(prefix_bytes) < PREFIX_BYTES:
            return None
        prefix = parse_prefix(prefix_bytes)
        size_bytes = PREFIX_BYTES + prefix.sealed_bytes
        frame_bytes = self._peek(size_bytes)
        if len(frame_bytes) < size_bytes:
            return None
        kind, records = unpack_frame(chain.open(frame_bytes)) if isinstance(chain, SegmentChain) else (UNOPENED, ())
        frame, offset = chain.frame, self._offset
        chain.advance(frame_bytes)
        self._offset += size_bytes
        place = (header.chain_id, header.number, frame, offset, self._offset)
        return FrameAt(*place, chain.chain_hash, kind, prefix.decisions, records)

    def _peek(self, size_bytes: int) -> bytes:
        """`size_bytes` from the current place, fewer only at the end of the file."""
        start = self._offset - self._buffer_start
        if not 0 <= start <= len(self._buffer) - size_bytes:
            self._buffer = os.pread(self._descriptor_open(), max(size_bytes, _CHUNK_BYTES), self._offset)
            self._buffer_start = self._offset
            start = 0
        return self._buffer[start : start + size_bytes]

    def _descriptor_open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def _size_bytes(self) -> int:
        return os.fstat(self._descriptor_open()).st_size

    def _verify_written(self, error: CorruptJournal) -> None:
        """A power cut can leave a file that is longer than what of it reached the disk; everything else is damage.

        What reached the disk then ends within the frame at which reading stopped, and zeros follow to the end of the file: zeros that
        somebody appended to a segment with more frames in it excuse nothing.
        """
        written_end = self._find_written_end()
        is_unwritten = self._size_bytes() - written_end >= len(_UNWRITTEN)
        if not is_unwritten or written_end >= self._offset + self._claimed_bytes():
            raise CorruptSegment(str(error), self._path.name, self.frame, self._offset) from None
        self._buffer = b""

    def _find_written_end(self) -> int:
        """Where the zeros begin with which the file ends, not before the current place."""
        end, descriptor = self._size_bytes(), self._descriptor_open()
        while end > self._offset:
            start = max(self._offset, end - _CHUNK_BYTES)
            written = os.pread(descriptor, end - start, start).rstrip(b"\x00")
            if written:
                return start + len(written)
            end = start
        return self._offset

    def _claimed_bytes(self) -> int:
        """How far what stands at the current place says that it reaches."""
        try:
            if self._opened is None:
                return header_length(self._peek(_CHUNK_BYTES)) or PREFIX_BYTES
            return PREFIX_BYTES + parse_prefix(self._peek(PREFIX_BYTES)).sealed_bytes
        except CorruptJournal:
            return PREFIX_BYTES


def read_frames(path: Path, keys: SegmentKeys) -> Iterator[FrameAt]:
    """All frames of a segment, verified; memory stays flat.

    Raises:
        CorruptSegment: A frame is not as it was written; all before it have been yielded.
        TornTail: The segment ends within a frame; all before it have been yielded. So may one that is still being written.
        Whatever `keys` raises: No key at hand opens the segment.
        OSError: The file cannot be read.
    """
    reader = SegmentReader(path, keys)
    try:
        while (frame := reader.next_frame()) is not None:
            yield frame
        if reader.has_rest() or reader.frame == HEADER_FRAME:
            raise reader.torn_tail()
    finally:
        reader.release()


def read_segment(path: Path, keys: SegmentKeys) -> Iterator[RecordAt]:
    """All decision records of a segment, as `read_frames`.

    Raises:
        CorruptSegment, TornTail, OSError, whatever `keys` raises: As `read_frames`.
    """
    for frame in read_frames(path, keys):
        for place, record in enumerate(frame.records if frame.kind == FrameKind.RECORDS else ()):
            yield RecordAt(frame.segment, frame.frame, place, record)
