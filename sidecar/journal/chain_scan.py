"""Reading the chain of an earlier process to its end: how far it is whole, and which heads lie in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode, parse_head
from journal.directory import SegmentSizes
from journal.errors import CorruptSegment, JournalError
from journal.format import CHAIN_START, FrameKind, SegmentHeader, format_segment_name
from journal.reader import HEADER_FRAME, FrameAt, SegmentReader
from sidecar.journal.heads import Place, weakest_of
from sidecar.ports import KeyProvider

_PAUSE_AFTER_FRAMES: Final = 64


@dataclass(slots=True)
class ChainScan:
    """What was found in a chain, up to the first damage.

    Attributes:
        place: Where its whole frames end.
        sidecar_id: Who wrote it; empty where no header could be read.
        decisions: Recorded up to there; None where that is not known, since what came before is gone and no head tells.
        first_record: The first record behind the last head, None where there is none.
        last_record: The last one.
        weakest_mode: The weakest that a header or a head names, a `WeakestMode`.
        torn_bytes: Bytes of an unfinished frame behind the end.
        last_head: The last of the chain's own, also where it lies behind a damage.
        recovered: Other chains whose recovery head lies in this one.
        fault: The first damage that is no torn tail, None for none.
    """

    place: Place
    sidecar_id: str = ""
    decisions: int | None = None
    first_record: bytes | None = None
    last_record: bytes = b""
    weakest_mode: int = WeakestMode.SYNC
    torn_bytes: int = 0
    last_head: JournalHead | None = None
    recovered: set[bytes] = field(default_factory=set)
    fault: JournalError | None = None

    @property
    def is_ended(self) -> bool:
        """Whether the process that wrote it had closed it."""
        return self.last_head is not None and self.last_head.kind == HeadKind.FINAL


class ChainScanner:
    """Reads one chain.

    Args:
        directory: The journal's.
        chain_id: Which chain.
        sizes: Its segments.
        keys: Opens them.
        pause: Called now and then, so that the thread of the checks is not held up; it may raise to end the scan.
        take: Told of each head, in the order in which they lie there.
    """

    def __init__(
        self,
        directory: Path,
        chain_id: bytes,
        sizes: SegmentSizes,
        keys: KeyProvider,
        pause: Callable[[], None],
        take: Callable[[JournalHead], None],
    ) -> None:
        self._directory = directory
        self._chain_id = chain_id
        self._sizes = sizes
        self._keys = keys
        self._pause = pause
        self._take = take
        self._scan = ChainScan(Place(chain_id, 0, 0, CHAIN_START))

    def read(self, from_segment: int) -> ChainScan:
        """Read the segments from `from_segment` on.

        Raises:
            OSError: A file cannot be read.
            SidecarError: No key opens a segment (`WrongCacheKey`), or none can be had now (`KeyServiceError`).
        """
        numbers = sorted(number for number in self._sizes if number >= from_segment)
        self._scan = scan = ChainScan(Place(self._chain_id, 0, 0, CHAIN_START))
        scan.decisions = 0 if numbers and numbers[0] == 0 else None
        expected_hash = CHAIN_START if scan.decisions == 0 else b""
        for at, number in enumerate(numbers):
            try:
                expected_hash = self._read_segment(number, expected_hash, is_last=at + 1 == len(numbers))
            except CorruptSegment as error:
                scan.fault = scan.fault or error
                expected_hash = b""
            if at and number != numbers[at - 1] + 1:
                scan.fault = scan.fault or self._break(number, "segments before it are missing")
        return scan

    def _read_segment(self, number: int, expected_hash: bytes, *, is_last: bool) -> bytes:
        """Read one segment; the chain hash at its end, the expected one where its header never reached the disk."""
        reader = SegmentReader(self._directory / format_segment_name(self._chain_id, number), self._keys)
        try:
            header = reader.read_header()
            if header is None:
                self._scan.torn_bytes = self._sizes[number] if is_last else 0
                return expected_hash
            if expected_hash and header.previous_chain_hash != expected_hash:
                self._scan.fault = self._scan.fault or self._break(number, "does not follow the segment before it")
            self._note_header(header, reader)
            while (frame := reader.next_frame()) is not None:
                self._note_frame(frame)
                if reader.frame % _PAUSE_AFTER_FRAMES == 0:
                    self._pause()
            if is_last and self._scan.fault is None:
                self._scan.torn_bytes = max(0, self._sizes[number] - reader.offset)
            return reader.chain_hash
        finally:
            reader.release()

    def _note_header(self, header: SegmentHeader, reader: SegmentReader) -> None:
        scan = self._scan
        scan.sidecar_id = header.sidecar_id
        if scan.fault is None:
            scan.place = Place(self._chain_id, header.number, 0, reader.chain_hash)
            scan.weakest_mode = max(scan.weakest_mode, weakest_of(header.mode))

    def _note_frame(self, frame: FrameAt) -> None:
        scan = self._scan
        if frame.kind == FrameKind.HEAD:
            self._note_head(frame)
        if scan.fault is not None:
            return
        scan.place = Place(self._chain_id, frame.segment, frame.frame + 1, frame.chain_hash)
        if scan.decisions is not None:
            scan.decisions += frame.decisions
        if frame.kind == FrameKind.RECORDS and frame.records:
            scan.first_record = scan.first_record or frame.records[0]
            scan.last_record = frame.records[-1]

    def _note_head(self, frame: FrameAt) -> None:
        scan = self._scan
        try:
            head = parse_head(frame.records[0])
        except InvalidJournalHead as error:
            scan.fault = scan.fault or CorruptSegment(
                str(error), format_segment_name(frame.chain_id, frame.segment), frame.frame, frame.offset
            )
            return
        self._take(head)
        if head.chain_id != self._chain_id:
            scan.recovered.add(head.chain_id)
            return
        scan.last_head = head
        if scan.fault is None:
            scan.first_record = None
            scan.weakest_mode = max(scan.weakest_mode, head.weakest_mode)
            if scan.decisions is None:
                # Its count runs from the chain's beginning, so it tells what came before the first segment read.
                scan.decisions = head.decisions

    def _break(self, number: int, text: str) -> CorruptSegment:
        return CorruptSegment(text, format_segment_name(self._chain_id, number), HEADER_FRAME, 0)
