"""What collectors are fed with: each entry of the log and each frame of each journal, once, in order."""

from typing import NamedTuple

from auditor.evidence.model import Report
from consent.decision_record import AskedQuestion, CallRecord
from consent.event import (
    AdminEvent,
    AlertEvent,
    DisposalEvent,
    EnrolEvent,
    Event,
    EventType,
    JournalHeadsEvent,
    ReceivedEvent,
    RejectedEvent,
    RetireEvent,
)
from consent.eventlog.attestation import Attestation


class EntrySeen(NamedTuple):
    """An entry of the log.

    Attributes:
        seq: From 1.
        type_name: Of its event.
        event: The event.
        event_bytes: Its canonical bytes; empty once the payload was erased.
        attestations: Signatures beside it.
        logged_at_ms: Unix ms: the newest time by the feed's clock in the log up to here, because most entries carry none of their own;
            0 before the first.
        size_bytes: Of opening, event and attestations, about.
        is_in_period: Whether `logged_at_ms` is.
    """

    seq: int
    type_name: str
    event: Event
    event_bytes: bytes
    attestations: tuple[Attestation, ...]
    logged_at_ms: int
    size_bytes: int
    is_in_period: bool


class SegmentSeen(NamedTuple):
    """A segment of a journal, before its frames.

    Attributes:
        sidecar_id: Whose, as its folder is named.
        chain_id: 16 bytes.
        number: In its chain.
        created_ms: Unix ms, as its header says.
        mode: As its header says.
        size_bytes: Of the file.
    """

    sidecar_id: str
    chain_id: bytes
    number: int
    created_ms: int
    mode: str
    size_bytes: int


class CallSeen(NamedTuple):
    """A decision record.

    Attributes:
        segment: The segment that it is in.
        frame: Number of its frame.
        place: In the frame.
        record: Its bytes.
        call: The record.
        question: What it asked.
        is_in_period: Whether its own time is.
    """

    segment: SegmentSeen
    frame: int
    place: int
    record: bytes
    call: CallRecord
    question: AskedQuestion
    is_in_period: bool


class NoteSeen(NamedTuple):
    """A frame of a journal that holds no decisions.

    Attributes:
        segment: The segment that it is in.
        frame: Its number.
        kind: A `FrameKind`.
        content: Its bytes.
    """

    segment: SegmentSeen
    frame: int
    kind: int
    content: bytes


class Collector:
    """Takes what one group of controls needs out of the stream. Memory must not grow with the number of decisions or directives."""

    def see_entry(self, seen: EntrySeen) -> None:
        """An entry of the log; those before and after the period too."""

    def see_segment(self, seen: SegmentSeen) -> None:
        """A segment of a journal begins."""

    def see_call(self, seen: CallSeen) -> None:
        """A decision record."""

    def see_note(self, seen: NoteSeen) -> None:
        """Another frame of a journal."""

    def write(self, report: Report) -> None:
        """Put what was found into the report; nothing comes after that."""


def feed_time_of(event: Event) -> int | None:
    """The time by the feed's clock that an event carries, Unix ms; None for the others."""
    match event:
        case ReceivedEvent() | JournalHeadsEvent() | DisposalEvent():
            return event.received_at_ms
        case RejectedEvent():
            return event.rejected_at_ms
        case AdminEvent():
            return event.occurred_at_ms
        case AlertEvent():
            return event.raised_at_ms
        case EnrolEvent():
            return event.enrolled_at_ms
        case RetireEvent():
            return event.retired_at_ms
        case _:
            return None


def type_name_of(type_byte: int) -> str:
    """Name of an event type."""
    try:
        return EventType(type_byte).name
    except ValueError:
        return f"0x{type_byte:02x}"
