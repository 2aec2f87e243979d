"""One chain counted: what its heads say was answered, against what lies in it.

Records are counted in the hour of the head that covers them, so that both sides of each comparison are about the same calls; those
behind the last head, which nothing covers yet, in the hour in which they were decided.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from auditor.journals import SidecarJournal
from auditor.reconcile.ledger import HeadRow, make_head_row
from auditor.reconcile.log_facts import NOTHING_DISPOSED, Disposed
from auditor.reconcile.times import MS_PER_HOUR
from consent.decision_record import CallRecord, parse_record
from consent.errors import ConsentError
from consent.eventlog.errors import EventLogError
from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode, parse_head
from journal.errors import CorruptSegment
from journal.format import FrameKind
from journal.reader import UNOPENED, FrameAt

ENDS: Final = frozenset({HeadKind.FINAL, HeadKind.RECOVERY})
"""Kinds of heads behind which a chain does not go on."""


@dataclass(slots=True)
class HourCount:
    """Decisions of one sidecar in one hour.

    Attributes:
        answered: As the sidecar's heads say.
        unrecorded: Answered without a record, as they say.
        journalled: Records in the journal.
        exported: Records that the shipper has passed; None where its position is not in the folder.
        uncovered: Of the records, those that no head covers yet.
    """

    answered: int = 0
    unrecorded: int = 0
    journalled: int = 0
    exported: int | None = None
    uncovered: int = 0

    def add(self, other: "HourCount") -> None:
        """Add another count to this one."""
        self.answered += other.answered
        self.unrecorded += other.unrecorded
        self.journalled += other.journalled
        self.uncovered += other.uncovered
        if other.exported is not None:
            self.add_exported(other.exported)

    def add_exported(self, count: int) -> None:
        """Count what was exported."""
        self.exported = (self.exported or 0) + count


class ShippedTo(NamedTuple):
    """How far the shipper is in a chain: segment, and byte in it."""

    segment: int
    offset: int

    def has_passed(self, frame: FrameAt) -> bool:
        """Whether a frame was shipped."""
        return (frame.segment, frame.end) <= self


class ShortHead(NamedTuple):
    """A head that says more than there is.

    Attributes:
        head: The first such one.
        recorded: Decisions found in the chain up to it.
        is_cut: Its count of records is more than there are; else that of answers is.
    """

    head: HeadRow
    recorded: int
    is_cut: bool


class CallSeen(NamedTuple):
    """A recorded call on its way to whoever compares single decisions.

    Attributes:
        call: The record.
        is_shipped: Whether the shipper has passed it; None where that is not known.
    """

    call: CallRecord
    is_shipped: bool | None


OnCall = Callable[[CallSeen], None]
OnHead = Callable[[JournalHead], None]
OnBytes = Callable[[int], None]


@dataclass(slots=True)
class ChainCount:
    """Counts one chain.

    Attributes:
        hours: By hour of Unix time.
        recorded: Decisions found, those disposed of included.
        not_exported: Of these, those that the shipper has not passed.
        short: What is missing; None where nothing is.
        last: The last head.
        is_opened: Every frame could be read.
        error: What ended the count early; empty where nothing did.
    """

    hours: dict[int, HourCount] = field(default_factory=lambda: defaultdict(HourCount))
    recorded: int = 0
    not_exported: int = 0
    short: ShortHead | None = None
    last: HeadRow | None = None
    is_opened: bool = True
    error: str = ""
    _waiting: int = 0
    _waiting_exported: int | None = None
    _disposed: int = 0

    def cover(self, head: HeadRow) -> None:
        """Take the next head: it covers everything found since the one before."""
        before = self.last
        hour = self.hours[head.at_ms // MS_PER_HOUR]
        hour.answered += head.answered - (before.answered if before else 0)
        hour.unrecorded += head.unrecorded - (before.unrecorded if before else 0)
        hour.journalled += self._waiting
        if self._waiting_exported is not None:
            hour.add_exported(self._waiting_exported)
        # Of what was disposed of, only the heads still say when it was.
        gone = min(self._disposed, max(0, head.decisions - (before.decisions if before else 0)))
        if gone:
            self._disposed -= gone
            hour.journalled += gone
            hour.add_exported(gone)
        self._waiting, self._waiting_exported, self.last = 0, None, head
        if self.short is None and head.decisions > self.recorded:
            self.short = ShortHead(head, self.recorded, is_cut=True)
        # What mode `async` answers is on its way to the journal, and must be there at the end.
        may_be_ahead = head.mode == WeakestMode.ASYNC and head.kind not in ENDS
        if self.short is None and head.answered > self.recorded + head.unrecorded and not may_be_ahead:
            self.short = ShortHead(head, self.recorded, is_cut=False)

    def take_disposed(self, decisions: int) -> None:
        """Take decisions of segments that are gone by right: they had been shipped."""
        self.recorded += decisions
        self._disposed += decisions

    def take_frame(self, frame: FrameAt, *, is_shipped: bool | None) -> None:
        """Take a frame."""
        self._take(frame.decisions, is_shipped=is_shipped)
        self.is_opened = self.is_opened and frame.kind != UNOPENED

    def finish(self, hour: int) -> None:
        """Nothing more comes: what no head covers is counted in this hour."""
        if self._waiting:
            counted = self.hours[hour]
            counted.journalled += self._waiting
            counted.uncovered += self._waiting
            if self._waiting_exported is not None:
                counted.add_exported(self._waiting_exported)
            self._waiting, self._waiting_exported = 0, None

    def _take(self, decisions: int, *, is_shipped: bool | None) -> None:
        self.recorded += decisions
        self._waiting += decisions
        if is_shipped is not None:
            self._waiting_exported = (self._waiting_exported or 0) + (decisions if is_shipped else 0)
            self.not_exported += 0 if is_shipped else decisions


def count_chain(
    journal: SidecarJournal,
    chain_id: bytes,
    heads: Iterator[HeadRow],
    *,
    disposed: Disposed = NOTHING_DISPOSED,
    shipped: ShippedTo | None = None,
    on_call: OnCall = lambda _: None,
    on_head: OnHead = lambda _: None,
    on_bytes: OnBytes = lambda _: None,
) -> ChainCount:
    """Count a chain, head by head.

    Args:
        journal: Whose it is.
        chain_id: 16 bytes.
        heads: The chain's in the log, by number.
        disposed: What of it is gone by right.
        shipped: How far the shipper is; None where that is not known.
        on_call: Told of every record that can be read.
        on_head: Told of every head in it, of whatever chain.
        on_bytes: Told of progress.
    """
    counted = ChainCount()
    walk = _Walk(counted, chain_id, heads)
    last_ms = 0
    numbers = [number for number in sorted(journal.chains().get(chain_id, {})) if number >= disposed.until_segment]
    counted.take_disposed(disposed.decisions)
    try:
        for frame in _frames(journal, chain_id, numbers):
            walk.reach(frame.segment, frame.frame)
            is_shipped = None if shipped is None else shipped.has_passed(frame)
            for call in _calls_of(frame):
                last_ms = call.now_ms
                on_call(CallSeen(call, is_shipped))
            counted.take_frame(frame, is_shipped=is_shipped)
            if frame.kind == FrameKind.HEAD:
                head = parse_head(frame.records[0])
                on_head(head)
                walk.pass_head(head)
            on_bytes(frame.end - frame.offset)
    except (CorruptSegment, ConsentError, EventLogError, OSError) as error:
        counted.error = f"{getattr(error, 'reason', 'SEGMENT_UNREADABLE')}: {error}"
    walk.finish()
    last_head_ms = counted.last.at_ms if counted.last else 0
    counted.finish(max(last_ms, last_head_ms) // MS_PER_HOUR)
    return counted


class _Walk:
    """Brings the heads of the log, and those that only the journal has, in between the frames that they cover."""

    def __init__(self, counted: ChainCount, chain_id: bytes, heads: Iterator[HeadRow]) -> None:
        self._counted = counted
        self._chain_id = chain_id
        self._heads = heads
        self._due = next(heads, None)

    def reach(self, segment: int, frame: int) -> None:
        """Cover with every head that stands before a frame."""
        while self._due is not None and (self._due.segment, self._due.frame) <= (segment, frame):
            self._counted.cover(self._due)
            self._due = next(self._heads, None)

    def pass_head(self, head: JournalHead) -> None:
        """Cover with a head that lies here, unless the log has it too and it was due already."""
        last = self._counted.last
        if head.chain_id == self._chain_id and (last is None or head.number > last.number):
            self._counted.cover(make_head_row(head))

    def finish(self) -> None:
        """Cover with the heads that are left: there is nothing in the chain up to where they stand."""
        self.reach(2**63, 0)


def _frames(journal: SidecarJournal, chain_id: bytes, numbers: list[int]) -> Iterator[FrameAt]:
    for number in numbers:
        reader = journal.reader((chain_id, number))
        try:
            while (frame := reader.next_frame()) is not None:
                yield frame
        finally:
            reader.release()


def _calls_of(frame: FrameAt) -> Iterator[CallRecord]:
    if frame.kind == FrameKind.RECORDS:
        for record in frame.records:
            yield parse_record(record)
