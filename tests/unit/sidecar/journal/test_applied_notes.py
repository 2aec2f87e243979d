"""What is noted of entries that came into force, and that nothing depends on it."""

import logging

import pytest

from consent.event import DirectiveEvent, Event, EventType, ReceivedEvent, format_event
from consent.vocabulary.directive import Kind
from journal.applied import MAX_ENTRIES, AppliedBatch, AppliedEntry, parse_applied
from journal.format import FrameKind
from sidecar.errors import JournalUnavailable
from sidecar.journal.applied_notes import AppliedNotes
from sidecar.ports import EMPTY_HEAD, LoggedEvent, VerifiedBatch
from tests.fakes.clock import FakeClock

ORIGIN = "log.example/consents"
TRACE_ID, SPAN_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
TRACEPARENT = f"00-{TRACE_ID.hex()}-{SPAN_ID.hex()}-00"
START_MS = 1_767_225_600_000


class Pages:
    """A journal that keeps notes in memory, or cannot keep them."""

    def __init__(self) -> None:
        self.is_full = False
        self.attempts = 0
        self.applied: list[AppliedBatch] = []

    def note(self, kind: FrameKind, content: bytes) -> None:
        self.attempts += 1
        if self.is_full:
            raise JournalUnavailable("journal: the disk is full")
        assert kind is FrameKind.APPLIED
        self.applied.append(parse_applied(content))


def directive(seq: int, traceparent: str = TRACEPARENT) -> LoggedEvent:
    event = DirectiveEvent(
        origin=ORIGIN, token=bytes(15) + b"\x01", kind=Kind.OPT_OUT, purpose="newsletter", occurred_at_ms=START_MS
    )
    return logged(seq, event, traceparent)


def logged(seq: int, event: Event, traceparent: str) -> LoggedEvent:
    return LoggedEvent(seq, event, format_event(event), traceparent)


def note(pages: Pages, *events: LoggedEvent) -> None:
    clock = FakeClock(START_MS + 7)
    AppliedNotes(pages, clock, ORIGIN).note(VerifiedBatch(events, EMPTY_HEAD), START_MS)


def test_note_names_the_traced_entries_that_change_answers() -> None:
    received = ReceivedEvent(origin=ORIGIN, received_at_ms=START_MS, request_type=EventType.DIRECTIVE)
    pages = Pages()
    note(pages, logged(1, received, TRACEPARENT), directive(2), directive(3, ""), directive(4, "anna@example.com"))
    entry = AppliedEntry(2, EventType.DIRECTIVE, TRACE_ID, SPAN_ID, 0)
    assert pages.applied == [AppliedBatch(ORIGIN, START_MS, START_MS + 7, 0, (entry,))]


def test_note_of_nothing_traced_writes_nothing() -> None:
    pages = Pages()
    note(pages, directive(1, ""), directive(2, "00-rubbish"))
    assert pages.attempts == 0


def test_note_of_very_many_names_the_first_of_them() -> None:
    pages = Pages()
    note(pages, *(directive(seq) for seq in range(1, MAX_ENTRIES + 5)))
    assert [entry.seq for entry in pages.applied[0].entries] == list(range(1, MAX_ENTRIES + 1))


def test_note_that_the_journal_cannot_keep_stops_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pages, clock = Pages(), FakeClock(START_MS)
    notes = AppliedNotes(pages, clock, ORIGIN)
    for pages.is_full in (True, True, False, True):
        notes.note(VerifiedBatch([directive(1)], EMPTY_HEAD), START_MS)
    assert len(pages.applied) == 1
    assert len(caplog.records) == 2
