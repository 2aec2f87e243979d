"""Signed heads of a chain as it grows: when one is due, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consent.eventlog.journal_head import (
    NO_HEAD,
    NO_ID,
    HeadKind,
    JournalHead,
    WeakestMode,
    format_head,
    hash_head,
    sign_head,
)
from consent.eventlog.keys import SigningKey
from hosting.clock import Clock
from journal.format import PREFIX_BYTES, TAG_BYTES, FrameKind, JournalMode
from journal.start import StartNote
from sidecar.journal.head_outbox import HeadOutbox

HEAD_SECONDS: Final = 10.0
IDLE_HEAD_SECONDS: Final = 60.0
SEGMENT_MAX_SECONDS: Final = 86_400.0
TICK_SECONDS: Final = 1.0

_TICKS_PER_PERIOD: Final = 4
_CALL_ID_START: Final = 1
"""A record's version comes first (`consent.decision_record`)."""
_WEAKEST: Final = {
    JournalMode.SYNC: WeakestMode.SYNC,
    JournalMode.GROUP: WeakestMode.GROUP,
    JournalMode.ASYNC: WeakestMode.ASYNC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    """What a chain holds beside its records: who signs its heads, how often, who is told of them, and what its process says of itself.

    Attributes:
        key: The sidecar's own.
        origin: Name of the log that they are signed for.
        outbox: Takes each head once it is on the disk.
        head_seconds: The longest time between two heads while there is traffic.
        idle_head_seconds: The same while there is none.
        segment_max_seconds: The age at which a segment ends, and the next begins.
        start: What the chain says first; time, mode and `on_unavailable` are filled in where it is written. None for nothing.
    """

    key: SigningKey
    origin: str
    outbox: HeadOutbox
    head_seconds: float = HEAD_SECONDS
    idle_head_seconds: float = IDLE_HEAD_SECONDS
    segment_max_seconds: float = SEGMENT_MAX_SECONDS
    start: StartNote | None = None

    @property
    def tick_seconds(self) -> float:
        """How often somebody should look whether a head is due, or a segment old."""
        return min(TICK_SECONDS, self.head_seconds / _TICKS_PER_PERIOD)


class Place(NamedTuple):
    """How far a chain goes.

    Attributes:
        chain_id: 16 bytes.
        segment: Number of the segment.
        frame: Whole frames in it.
        chain_hash: 32 bytes, after the last of them.
    """

    chain_id: bytes
    segment: int
    frame: int
    chain_hash: bytes


class _Counts(NamedTuple):
    decisions: int
    answered: int
    unrecorded: int


class HeadMaker:
    """Counts what a chain records, and makes its heads. Callers see to it that one thread at a time is in here.

    Args:
        plan: None for a journal for whose end nobody vouches: then there are no heads.
        sidecar_id: Who writes.
        clock: The time.

    Attributes:
        decisions: Recorded since the chain's beginning.
        answered: Handed back to callers.
        unrecorded: Answered without a record.
    """

    def __init__(self, plan: ChainPlan | None, sidecar_id: str, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._number = 0
        self._previous_hash = NO_HEAD
        self._first_record: bytes | None = None
        self._last_record = b""
        self._weakest_mode = WeakestMode.SYNC
        self._counts_before = _Counts(0, 0, 0)
        self._made_boot_ms = clock.boot_ms()
        self._kept: list[JournalHead] = []
        self.sidecar_id = sidecar_id
        self.decisions = 0
        self.answered = 0
        self.unrecorded = 0

    @property
    def makes_heads(self) -> bool:
        """Whether there is anybody to sign them."""
        return self._plan is not None

    @property
    def frame_bytes(self) -> int:
        """Room that a head's frame takes, 0 where none are made."""
        if self._plan is None:
            return 0
        place = Place(bytes(16), 0, 0, bytes(32))
        return PREFIX_BYTES + len(format_head_frame(self._describe(HeadKind.SEGMENT_END, place))) + TAG_BYTES

    def note_mode(self, mode: JournalMode) -> None:
        """A mode that comes into effect."""
        self._weakest_mode = max(self._weakest_mode, _WEAKEST[mode])

    def note_records(self, first: bytes, last: bytes, decisions: int) -> None:
        """Records that were written, the first and the last of one frame."""
        self.decisions += decisions
        if self._first_record is None:
            self._first_record = first
        self._last_record = last

    def is_due(self, *, is_failing: bool) -> bool:
        """Whether a head is to be made now.

        Args:
            is_failing: The disk has failed. A head is then tried as often as under traffic, and finds out that it works again.
        """
        if self._plan is None:
            return False
        is_busy = is_failing or self._counts != self._counts_before
        period_seconds = self._plan.head_seconds if is_busy else self._plan.idle_head_seconds
        waited_ms = self._clock.boot_ms() - self._made_boot_ms
        return waited_ms >= (period_seconds - self._plan.tick_seconds) * 1000

    def make(self, kind: HeadKind, place: Place) -> JournalHead:
        """A signed head for the chain up to `place`. It counts once `keep` is called: a head that was not written is made anew.

        Raises:
            RuntimeError: Nobody signs here.
        """
        if self._plan is None:
            raise RuntimeError("a journal without a plan for heads makes none")
        return sign_head(self._describe(kind, place), self._plan.key, self._plan.origin)

    def keep(self, head: JournalHead) -> None:
        """The head is in the journal."""
        self._number = head.number + 1
        self._previous_hash = hash_head(head)
        self._first_record = None
        self._counts_before = _Counts(head.decisions, head.answered, head.unrecorded)
        self._made_boot_ms = self._clock.boot_ms()
        self._kept.append(head)

    def keep_recovery(self, head: JournalHead) -> None:
        """The recovery head of another chain is in this journal."""
        self._kept.append(head)

    def take_kept(self) -> list[JournalHead]:
        """Heads that were kept since the last call."""
        kept, self._kept = self._kept, []
        return kept

    def deliver(self, heads: Sequence[JournalHead]) -> None:
        """Hand them to whoever sends them on."""
        if heads and self._plan is not None:
            self._plan.outbox.add(heads)

    @property
    def _counts(self) -> _Counts:
        return _Counts(self.decisions, self.answered, self.unrecorded)

    def _describe(self, kind: HeadKind, place: Place) -> JournalHead:
        has_records = self._first_record is not None
        return JournalHead(
            sidecar_id=self.sidecar_id,
            chain_id=place.chain_id,
            number=self._number,
            kind=kind,
            at_ms=self._clock.now_ms(),
            segment=place.segment,
            frame=place.frame,
            chain_hash=place.chain_hash,
            decisions=self.decisions,
            first_id=read_call_id(self._first_record or b"") if has_records else NO_ID,
            last_id=read_call_id(self._last_record) if has_records else NO_ID,
            answered=self.answered,
            unrecorded=self.unrecorded,
            weakest_mode=self._weakest_mode,
            previous_head_hash=self._previous_hash,
        )


def format_head_frame(head: JournalHead) -> bytes:
    """The plaintext of a HEAD frame."""
    return bytes((FrameKind.HEAD,)) + format_head(head)


def read_call_id(record: bytes) -> bytes:
    """The call id of a `consent.decision_record`, 16 bytes; of anything shorter what there is, and zeros."""
    return record[_CALL_ID_START : _CALL_ID_START + len(NO_ID)].ljust(len(NO_ID), b"\x00")


def weakest_of(mode: JournalMode) -> WeakestMode:
    """What a head calls a mode."""
    return _WEAKEST[mode]
