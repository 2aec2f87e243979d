"""One chain of segments, walked from its first byte to its last and compared with every head that the log has of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from auditor.errors import FolderUnusable
from auditor.findings import Finding, Findings, Severity
from auditor.journals import SidecarJournal
from auditor.verify.head_index import HeadIndex, LoggedHead, disposed_until
from auditor.verify.reasons import Reason
from auditor.verify.record_check import RecordCheck
from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import NO_ID, HeadKind, JournalHead, hash_head, parse_head
from journal.errors import CorruptSegment
from journal.format import CHAIN_START, FrameKind, format_segment_name
from journal.reader import HEADER_FRAME, UNOPENED, FrameAt, SegmentReader

_PROGRESS_FRAMES = 4_096


@dataclass(slots=True)
class ChainReport:
    """What was walked over.

    Attributes:
        segments: How many.
        frames: Whole ones.
        decisions: As the frames' prefixes say.
        size_bytes: Of the segments.
        is_opened: Every segment was opened with its key.
        created_ms: Unix ms at which the first segment says it was begun.
    """

    segments: int = 0
    frames: int = 0
    decisions: int = 0
    size_bytes: int = 0
    is_opened: bool = True
    created_ms: int = 0


class _Position(NamedTuple):
    segment: int
    frame: int


def verify_chain(
    journal: SidecarJournal,
    chain_id: bytes,
    index: HeadIndex,
    records: RecordCheck,
    findings: Findings,
    advance: Callable[[int], None],
) -> ChainReport:
    """Verify a chain that lies in the folder: its bytes against the logged heads, and with keys every frame too.

    Args:
        journal: Whose it is.
        chain_id: 16 bytes.
        index: Heads and disposals in the log; takes the heads that lie in the chain.
        records: Takes the records.
        findings: Takes what is found.
        advance: Told how many bytes more are behind it.

    Raises:
        FolderUnusable: A file cannot be read.
    """
    walk = _ChainWalk(journal, chain_id, index, records, findings, advance)
    try:
        walk.run()
    except OSError as error:
        raise FolderUnusable(f"{error.filename or journal.directory}: {error.strerror}") from None
    return walk.report


class _ChainWalk:
    """State of one walk.

    `_hash` is the chain hash at which the next segment must go on, and `_decisions` the count so far; each is None where damage before
    it leaves nothing to compare with.
    """

    def __init__(
        self,
        journal: SidecarJournal,
        chain_id: bytes,
        index: HeadIndex,
        records: RecordCheck,
        findings: Findings,
        advance: Callable[[int], None],
    ) -> None:
        self.report = ChainReport()
        self._journal = journal
        self._chain_id = chain_id
        self._index = index
        self._records = records
        self._findings = findings
        self._advance = advance
        self._heads: Iterator[LoggedHead] = index.logged(journal.sidecar_id, chain_id)
        self._head = next(self._heads, None)
        self._matched: LoggedHead | None = None
        self._hash: bytes | None = CHAIN_START
        self._decisions: int | None = 0
        self._ids: tuple[bytes, bytes] | None = (NO_ID, NO_ID)
        self._written: JournalHead | None = None
        self._ahead = self._behind = 0
        self._end = _Position(0, 0)
        self._is_damaged = False
        self._keyless: set[int] = set()
        self._told = 0
        self._disposals = index.disposals(journal.sidecar_id, chain_id)

    def run(self) -> None:
        sizes = self._journal.chains().get(self._chain_id, {})
        numbers = sorted(sizes)
        self._explain_beginning(numbers[0])
        due = numbers[0]
        for number in numbers:
            if number != due:
                self._miss(due, number - 1)
            self._walk_segment(number)
            self.report.segments += 1
            self.report.size_bytes += sizes[number]
            due = number + 1
        self._finish()

    # Beginning.

    def _explain_beginning(self, first: int) -> None:
        if not first:
            return
        if disposed_until(self._disposals) < first:
            self._miss(0, first - 1)
            return
        self._lose()
        # Where a crash came between record and deletion, more is here than the disposal leaves.
        last = next((said for said in self._disposals if said.last_segment == first - 1), None)
        self._hash = last.chain_hash if last else None
        gone = [said for said in self._disposals if said.last_segment < first]
        self._decisions = sum(said.decisions for said in gone) if last else None
        text = f"segments 0 to {first - 1} were disposed of, as the log says: {self._decisions or 'some'} decisions"
        self._note(Reason.DISPOSED, text, format_segment_name(self._chain_id, first))

    def _miss(self, first: int, last: int) -> None:
        names = format_segment_name(self._chain_id, first)
        text = f"{names} and up to number {last}: not in the folder, and the log has no disposal of them"
        self._find(Reason.SEGMENT_MISSING, text, names)
        self._lose()

    # Segments.

    def _walk_segment(self, number: int) -> None:
        self._is_damaged, self._told = False, 0
        path = self._journal.path_of((self._chain_id, number))
        reader = self._journal.reader((self._chain_id, number))
        try:
            self._walk_frames(number, reader)
        except CorruptSegment as error:
            self._report_corrupt(error)
        else:
            self._end = _Position(number, max(reader.frame, 0))
            self._report_rest(reader, path.name)
            self._report_cut(reader, number)
            if reader.frame != HEADER_FRAME and not self._is_damaged:
                self._hash = reader.chain_hash
                self._compare_disposals(number, reader.chain_hash)
        finally:
            self._tell(reader)
            reader.release()
        if self._is_damaged:
            self._lose()

    def _walk_frames(self, number: int, reader: SegmentReader) -> None:
        header = reader.read_header()
        if header is None:
            return
        name = format_segment_name(self._chain_id, number)
        self.report.created_ms = self.report.created_ms or header.created_ms
        if header.sidecar_id != self._journal.sidecar_id:
            self._find(Reason.SEGMENT_MISPLACED, f"{name}: is of the journal of another sidecar", name)
        if self._hash is not None and header.previous_chain_hash != self._hash:
            self._report_break(number)
        before = reader.chain_hash
        self._match_heads(_Position(number, 0), before)
        while (frame := reader.next_frame()) is not None:
            self._take(frame, before)
            before = frame.chain_hash
            self._match_heads(_Position(number, frame.frame + 1), before)
            if frame.frame % _PROGRESS_FRAMES == 0:
                self._tell(reader)

    def _report_break(self, number: int) -> None:
        name = format_segment_name(self._chain_id, number)
        text, place = f"{name}: its header does not go on where the segment before it ends", name
        if self._end.segment in self._keyless:
            # Which of the two is wrong, their bytes alone do not tell.
            place = f"{format_segment_name(self._chain_id, number - 1)}: frame {self._first_unproven(number - 1)}"
            text += f": that header, or something from {place} on, was changed"
        self._find(Reason.CHAIN_BROKEN, text, place)
        self._decisions = None

    def _first_unproven(self, segment: int) -> int:
        """The first frame of a segment that no logged head has vouched for."""
        is_there = self._matched is not None and self._matched.head.segment == segment
        return self._matched.head.frame if self._matched and is_there else HEADER_FRAME

    def _tell(self, reader: SegmentReader) -> None:
        self._advance(reader.offset - self._told)
        self._told = reader.offset

    def _compare_disposals(self, number: int, chain_hash: bytes) -> None:
        for said in self._disposals:
            if said.last_segment == number and said.chain_hash != chain_hash:
                name = format_segment_name(self._chain_id, number)
                self._find(Reason.DISPOSAL_MISMATCH, f"{name}: is not what the log's disposal of it says", name)

    def _take(self, frame: FrameAt, chain_hash: bytes) -> None:
        self.report.frames += 1
        self.report.decisions += frame.decisions
        if self._head is None:
            self._behind += frame.decisions
        if frame.kind == FrameKind.RECORDS:
            self._take_records(frame)
        elif frame.kind == FrameKind.HEAD:
            self._take_head(frame, chain_hash)
        elif frame.kind == UNOPENED:
            self._keyless.add(frame.segment)
            self._ids = self._written = None
        if self._decisions is not None:
            self._decisions += frame.decisions

    def _take_records(self, frame: FrameAt) -> None:
        taken = self._records.take(self._journal.sidecar_id, frame)
        self._findings.add(*taken.findings)
        if taken.decisions != frame.decisions and not taken.findings:
            text = f"{_place(frame)}: says {frame.decisions} decisions and holds {taken.decisions}"
            self._find(Reason.COUNT_MISMATCH, text, _place(frame))
        if taken.last_id and self._ids is not None:
            first_id = taken.first_id if self._ids[0] == NO_ID else self._ids[0]
            self._ids = (first_id, taken.last_id)
        if not taken.ahead:
            return
        if self._head is None:
            self._ahead += taken.ahead
            return
        # A head that the log holds was made later than this record, so the log had grown beyond it by then.
        text = f"{_place(frame)}: decided on a larger log than this folder has: the log is an older copy"
        self._find(Reason.LOG_TOO_SHORT, text, _place(frame))

    def _take_head(self, frame: FrameAt, chain_hash: bytes) -> None:
        try:
            head = parse_head(frame.records[0])
        except InvalidJournalHead as error:
            self._find(Reason.HEAD_MISMATCH, f"{_place(frame)}: {error}", _place(frame))
            return
        self._index.add_written(_place(frame), head)
        if head.chain_id != self._chain_id:
            return
        said = (head.sidecar_id, head.segment, head.frame, head.chain_hash)
        true = (self._journal.sidecar_id, frame.segment, frame.frame, chain_hash)
        is_count_right = self._decisions in (None, head.decisions)
        is_after = self._written is None or head.previous_head_hash == hash_head(self._written)
        are_ids_right = self._ids in (None, (head.first_id, head.last_id))
        if said != true or not is_count_right or not are_ids_right or not is_after:
            self._find(
                Reason.HEAD_MISMATCH, f"{_place(frame)}: the head there does not say what lies before it", _place(frame)
            )
        self._decisions = head.decisions
        self._written = head
        self._ids = (NO_ID, NO_ID)

    # Heads in the log.

    def _match_heads(self, at: _Position, chain_hash: bytes) -> None:
        """Compare every logged head that was made here; those of a place that the walk has passed cannot be compared."""
        while self._head is not None and _position(self._head) <= at:
            logged = self._head
            if _position(logged) == at and not self._is_damaged:
                self._match(logged, at, chain_hash)
            self._head = next(self._heads, None)

    def _match(self, logged: LoggedHead, at: _Position, chain_hash: bytes) -> None:
        head = logged.head
        name = format_segment_name(self._chain_id, at.segment)
        if head.chain_hash != chain_hash:
            first = self._first_unproven(at.segment)
            text = (
                f"{name}: frames {first} to {at.frame - 1} are not those of head {head.number},"
                f" which entry {logged.seq} of the log holds"
            )
            self._find(Reason.HEAD_MISMATCH, text, f"{name}: frame {first}")
            self._is_damaged = True
            return
        if self._decisions not in (None, head.decisions):
            text = (
                f"{name}: {self._decisions} decisions before frame {at.frame}; head {head.number} says {head.decisions}"
            )
            self._find(Reason.COUNT_MISMATCH, text, f"{name}: frame {at.frame}")
        self._decisions = head.decisions
        self._matched = logged
        self._behind = 0

    # Ends.

    def _report_corrupt(self, error: CorruptSegment) -> None:
        reason = Reason.HEADER_CHANGED if error.frame == HEADER_FRAME else Reason.FRAME_CHANGED
        place = f"{error.segment}: frame {error.frame} at byte {error.offset}"
        self._find(reason, str(error), place)
        self._is_damaged = True

    def _report_rest(self, reader: SegmentReader, name: str) -> None:
        torn_bytes = reader.rest_bytes()
        if torn_bytes or reader.frame == HEADER_FRAME:
            place = f"{name}: frame {reader.frame} at byte {reader.offset}"
            self._note(
                Reason.TORN_TAIL, f"{place}: {torn_bytes} bytes of an unfinished frame; no answer left for it", place
            )

    def _report_cut(self, reader: SegmentReader, number: int) -> None:
        """Heads that the log has for frames of this segment which are not there any more."""
        if self._head is None or self._head.head.segment != number or self._is_damaged:
            return
        name, logged = format_segment_name(self._chain_id, number), self._head
        place = f"{name}: frame {max(reader.frame, 0)} at byte {reader.offset}"
        text = (
            f"{place}: the segment ends here, and head {logged.head.number}, which entry {logged.seq} of the log holds,"
            f" was made after {logged.head.frame} frames"
        )
        self._find(Reason.JOURNAL_CUT, text, place)
        self._is_damaged = True

    def _finish(self) -> None:
        self.report.is_opened = not self._keyless
        if self._keyless:
            text = f"{len(self._keyless)} segments of chain {self._chain_id.hex()}: no key, so that their records were not read"
            self._note(Reason.SEGMENT_KEY_MISSING, text)
        if self._head is not None and self._head.head.segment > self._end.segment:
            logged = self._head
            text = (
                f"chain {self._chain_id.hex()} ends with segment {self._end.segment}; the log has head {logged.head.number}"
                f" (entry {logged.seq}) of segment {logged.head.segment}"
            )
            self._find(Reason.JOURNAL_CUT, text, format_segment_name(self._chain_id, self._end.segment + 1))
        if not self._is_damaged:
            self._report_last_head()
        self._report_tail()

    def _report_last_head(self) -> None:
        """What must follow a head: its own frame, and behind the end of a chain nothing else."""
        if self._matched is None or self._head is not None:
            return
        head = self._matched.head
        own_frames = 0 if head.kind == HeadKind.RECOVERY else 1
        due = _Position(head.segment, head.frame + own_frames)
        name = format_segment_name(self._chain_id, self._end.segment)
        if self._end < due:
            place = f"{name}: frame {self._end.frame}"
            text = f"{place}: the frame of head {head.number}, which the log holds, is not there"
            self._find(Reason.JOURNAL_CUT, text, place)
        elif self._end > due and head.kind in (HeadKind.FINAL, HeadKind.RECOVERY):
            place = f"{format_segment_name(self._chain_id, due.segment)}: frame {due.frame}"
            text = f"{place}: there is more behind the head that ended the chain (entry {self._matched.seq} of the log)"
            self._find(Reason.FRAMES_AFTER_END, text, place)

    def _report_tail(self) -> None:
        if self._matched is None or not self._behind:
            return
        head = self._matched.head
        text = (
            f"chain {self._chain_id.hex()}: {self._behind} decisions behind head {head.number}, the last one that the log has:"
            " until the next one is logged, only the seal vouches for them"
        )
        self._note(
            Reason.UNLOGGED_TAIL, text, f"{format_segment_name(self._chain_id, head.segment)}: frame {head.frame}"
        )
        if self._ahead:
            text = (
                f"chain {self._chain_id.hex()}: {self._ahead} of them were decided on a larger log than this folder has"
            )
            self._note(Reason.RECORDS_AHEAD, text)

    def _lose(self) -> None:
        self._hash = self._decisions = self._written = self._ids = None

    def _find(self, reason: Reason, text: str, place: str = "") -> None:
        self._findings.add(Finding(reason, text, sidecar_id=self._journal.sidecar_id, place=place))

    def _note(self, reason: Reason, text: str, place: str = "") -> None:
        self._findings.add(Finding(reason, text, Severity.NOTE, self._journal.sidecar_id, place))


def _position(logged: LoggedHead) -> _Position:
    return _Position(logged.head.segment, logged.head.frame)


def _place(frame: FrameAt) -> str:
    return f"{format_segment_name(frame.chain_id, frame.segment)}: frame {frame.frame} at byte {frame.offset}"
