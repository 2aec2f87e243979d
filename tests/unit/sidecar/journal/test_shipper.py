"""What the shipper does when things go wrong, with an exporter that fails as told; the real ones are in tests/integration."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hosting.telemetry.errors import SpansRefused
from journal.applied import AppliedBatch, AppliedEntry, format_applied
from journal.format import FrameKind, JournalMode
from sidecar.errors import KeyServiceUnavailable
from sidecar.journal import export_thread
from sidecar.journal.position import POSITION_FILE_NAME, load_positions
from sidecar.journal.segment import SegmentFile
from sidecar.journal.shipper import MAX_EVENTS, MAX_LONE_REFUSALS, MAX_SPANS, Shipper
from sidecar.journal.shipper_status import STATUS_FILE_NAME, load_status
from sidecar.journal.writer import FileJournal
from sidecar.telemetry.apply_spans import project_applied
from sidecar.telemetry.spans import project
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths

KEYS = SealingKeys()


class ScriptedExporter(SpanExporter):
    """Takes spans, or does what a script says instead."""

    def __init__(self, script: Callable[[int, Sequence[ReadableSpan]], bool] = lambda _attempt, _spans: True) -> None:
        self.attempts: list[list[ReadableSpan]] = []
        self.taken: list[ReadableSpan] = []
        self.is_shut_down = False
        self._script = script
        self.rejects: Callable[[ReadableSpan], bool] = lambda _: False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.attempts.append(list(spans))
        if not self._script(len(self.attempts), spans):
            return SpanExportResult.FAILURE
        rejected = [span for span in spans if self.rejects(span)]
        self.taken += [span for span in spans if span not in rejected]
        if rejected:
            raise SpansRefused(len(rejected))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_shut_down = True


class Delays:
    """Backoff that takes no time and is written down."""

    def __init__(self) -> None:
        self.waits = 0
        self.resets = 0

    def next_seconds(self) -> float:
        self.waits += 1
        return 0.0

    def reset(self) -> None:
        self.resets += 1


class Ship:
    """A journal and a shipper of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.delays = Delays()

    def write(self, *calls: tuple[int, int]) -> None:
        """Append the record of each (number, items) in a process of its own."""
        journal = FileJournal.open(self.directory, KEYS, "pod-1", JournalMode.GROUP, self.clock)
        for number, items in calls:
            journal.append_now(make_record(number, items), items)
        journal.close()

    def shipper(self, exporter: SpanExporter) -> Shipper:
        return Shipper(
            self.directory,
            KEYS,
            exporter,
            self.position_path,
            self.clock,
            project=partial(project, resource=Resource({})),
            project_applied=partial(project_applied, resource=Resource({}), sidecar_id="pod-1"),
            delays=self.delays,
        )

    @property
    def position_path(self) -> Path:
        return self.directory / POSITION_FILE_NAME

    def shipped(self) -> int:
        return sum(position.decisions for position in load_positions(self.position_path).values())


@pytest.fixture
def ship(tmp_path: Path) -> Ship:
    return Ship(tmp_path / "journal")


def test_drain_ships_everything_and_keeps_the_position(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(10)))
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    assert len(exporter.taken) == 10
    assert ship.shipped() == 10
    shipper.close()
    assert exporter.is_shut_down


def test_shipper_leaves_its_counts_for_the_sidecar(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(10)))

    def refuse_twice(attempt: int, _: Sequence[ReadableSpan]) -> bool:
        ship.clock.advance(1_000)
        return attempt > 2

    shipper = ship.shipper(ScriptedExporter(refuse_twice))
    assert shipper.drain(10)
    shipper.close()
    status = load_status(ship.directory / STATUS_FILE_NAME)
    assert status is not None
    assert (status.retries, status.failing_since_ms) == (2, 0)
    assert 0 < status.spans <= 10


def test_shipper_started_again_ships_only_what_is_new(ship: Ship) -> None:
    ship.write((1, 1), (2, 1))
    first = ship.shipper(ScriptedExporter())
    assert first.drain(10)
    first.close()
    ship.write((3, 1))
    exporter = ScriptedExporter()
    second = ship.shipper(exporter)
    assert second.drain(10)
    second.close()
    assert [span.context.span_id for span in exporter.taken if span.context] == [4]


def test_shipper_with_a_damaged_position_ships_everything_again(ship: Ship, caplog: pytest.LogCaptureFixture) -> None:
    ship.write((1, 1), (2, 1))
    ship.position_path.write_text("{}")
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 2
    assert "everything is shipped again" in caplog.messages


def test_export_refused_is_repeated_in_smaller_parts_until_it_is_taken(
    ship: Ship, caplog: pytest.LogCaptureFixture
) -> None:
    ship.write(*((number, 1) for number in range(100)))
    exporter = ScriptedExporter(lambda _attempt, spans: len(spans) <= 10)
    shipper = ship.shipper(exporter)
    with caplog.at_level(logging.WARNING):
        assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 100
    assert len({span.context.span_id for span in exporter.taken if span.context}) == 100
    assert ship.delays.waits > 0
    assert ship.delays.resets >= 10
    assert caplog.messages.count("the span receiver takes spans again") >= 1


def test_exporter_that_raises_is_a_refusal(ship: Ship, caplog: pytest.LogCaptureFixture) -> None:
    def fail_once(attempt: int, spans: Sequence[ReadableSpan]) -> bool:
        if attempt == 1:
            raise ValueError("ada@example.org")
        return True

    ship.write((1, 1))
    exporter = ScriptedExporter(fail_once)
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 1
    assert "the span exporter failed" in caplog.messages
    assert "ada@example.org" not in caplog.text


def test_export_is_bounded_in_spans(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(MAX_SPANS + 88)))
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert [len(attempt) for attempt in exporter.attempts] == [MAX_SPANS, 88]


def test_export_is_bounded_in_events(ship: Ship) -> None:
    ship.write((1, 10_000))
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    events = [sum(len(span.events) for span in attempt) for attempt in exporter.attempts]
    assert sum(events) == 10_000
    assert max(events) <= MAX_EVENTS


def test_stop_while_the_receiver_is_away_keeps_what_was_not_taken(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(5)))
    stop = threading.Event()

    def refuse_and_stop(attempt: int, spans: Sequence[ReadableSpan]) -> bool:
        if attempt == 3:
            stop.set()
        return False

    shipper = ship.shipper(ScriptedExporter(refuse_and_stop))
    shipper.run(stop)
    shipper.close()
    assert ship.shipped() == 0
    exporter = ScriptedExporter()
    again = ship.shipper(exporter)
    assert again.drain(10)
    again.close()
    assert len(exporter.taken) == 5


def test_stop_between_two_exports_goes_on_after_it_in_the_same_process(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(5)))
    stop = threading.Event()

    def stop_at_once(attempt: int, spans: Sequence[ReadableSpan]) -> bool:
        stop.set()
        return attempt > 1

    exporter = ScriptedExporter(stop_at_once)
    shipper = ship.shipper(exporter)
    shipper.run(stop)
    assert exporter.taken == []
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 5


def test_drain_gives_up_when_its_time_is_over(ship: Ship) -> None:
    ship.write((1, 1))
    shipper = ship.shipper(ScriptedExporter(lambda _attempt, _spans: False))
    assert not shipper.drain(0.05)
    shipper.close()


def test_run_is_stopped_while_the_exporter_hangs(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_thread, "_GRACE_SECONDS", 0.2)
    ship.write((1, 1))
    stop, release = threading.Event(), threading.Event()

    def hang(attempt: int, spans: Sequence[ReadableSpan]) -> bool:
        stop.set()
        return release.wait(60)

    shipper = ship.shipper(ScriptedExporter(hang))
    shipper.run(stop)
    assert not release.is_set()
    release.set()
    shipper.close()
    assert ship.shipped() == 0


def test_damage_is_reported_and_the_rest_shipped(ship: Ship, caplog: pytest.LogCaptureFixture) -> None:
    ship.write((1, 1))
    (damaged,) = segment_paths(ship.directory)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
    ship.write((2, 1))
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 1
    (entry,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert vars(entry)["fields"] == {"reason": "CORRUPT_JOURNAL"}
    assert damaged.name in entry.getMessage()


def test_record_that_cannot_be_read_is_reported_and_passed_over(ship: Ship, caplog: pytest.LogCaptureFixture) -> None:
    journal = FileJournal.open(ship.directory, KEYS, "pod-1", JournalMode.GROUP, ship.clock)
    journal.append_now(b"\x63 of a later version", 1)
    journal.append_now(make_record(1), 1)
    journal.close()
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 1
    assert ship.shipped() == 2
    assert "a record cannot be shipped" in caplog.messages


def test_frames_of_another_kind_are_passed_over(ship: Ship) -> None:
    journal = FileJournal.open(ship.directory, KEYS, "pod-1", JournalMode.GROUP, ship.clock)
    segment = journal._chain._segment
    assert isinstance(segment, SegmentFile)
    segment.append(b"\x02 a signed head", 0)
    journal.append_now(make_record(1), 1)
    journal.close()
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert len(exporter.taken) == 1


def test_run_survives_a_journal_that_cannot_be_read(ship: Ship, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()

    class StopAfterThree(Delays):
        def next_seconds(self) -> float:
            if self.waits == 2:
                stop.set()
            return super().next_seconds()

    ship.delays = StopAfterThree()
    shipper = ship.shipper(ScriptedExporter())
    shipper.run(stop)
    assert not shipper.drain(1)
    shipper.close()
    assert caplog.messages.count("the journal cannot be read or its position kept") == 3


def test_run_waits_for_a_key_service_that_is_away(
    ship: Ship, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship.write((1, 1))
    stop = threading.Event()
    calls: list[str] = []
    unwrap = KEYS.unwrap

    def fail_twice(wrapped_key: bytes, purpose: str) -> bytearray:
        calls.append(purpose)
        if len(calls) < 3:
            raise KeyServiceUnavailable("away")
        return unwrap(wrapped_key, purpose)

    def take(_attempt: int, _spans: Sequence[ReadableSpan]) -> bool:
        stop.set()
        return True

    monkeypatch.setattr(KEYS, "unwrap", fail_twice)
    exporter = ScriptedExporter(take)
    shipper = ship.shipper(exporter)
    shipper.run(stop)
    shipper.close()
    assert len(exporter.taken) == 1
    assert caplog.messages.count("the journal cannot be opened now: away") == 2


def test_positions_of_chains_that_are_gone_are_dropped(ship: Ship) -> None:
    ship.write((1, 1))
    shipper = ship.shipper(ScriptedExporter())
    assert shipper.drain(10)
    (gone,) = segment_paths(ship.directory)
    gone.unlink()
    ship.write((2, 1))
    assert shipper.drain(10)
    shipper.close()
    assert len(load_positions(ship.position_path)) == 1


def test_shipper_ships_entries_that_came_into_force_among_decisions(ship: Ship) -> None:
    entry = AppliedEntry(7, 1, bytes(range(16)), bytes(range(8)), 1)
    journal = FileJournal.open(ship.directory, KEYS, "pod-1", JournalMode.GROUP, ship.clock)
    journal.append_now(make_record(1), 1)
    journal.note(FrameKind.APPLIED, format_applied(AppliedBatch("log.example/consents", 1, 2, 8, (entry,))))
    journal.note(FrameKind.APPLIED, b"of a version that is not known here")
    journal.append_now(make_record(2), 1)
    journal.close()
    exporter = ScriptedExporter()
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert [span.name for span in exporter.taken] == ["consent.check", "consent.apply", "consent.check"]
    assert ship.shipped() == 2


def test_span_that_the_receiver_rejects_is_found_named_and_passed_over(
    ship: Ship, caplog: pytest.LogCaptureFixture
) -> None:
    ship.write(*((number, 1) for number in range(100)))
    exporter = ScriptedExporter()
    exporter.rejects = lambda span: span_number(span) == 42
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert {span_number(span) for span in exporter.taken} == set(range(100)) - {42}
    assert sum(len(spans) == 1 and span_number(spans[0]) == 42 for spans in exporter.attempts) == MAX_LONE_REFUSALS
    assert shipper.refused_spans == 1
    (named,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(named)["fields"]["span_id"] == f"{43:016x}"


def test_spans_that_the_receiver_rejects_for_a_while_are_delivered(ship: Ship) -> None:
    ship.write(*((number, 1) for number in range(100)))
    exporter = ScriptedExporter()
    exporter.rejects = lambda span: len(exporter.attempts) < 10 and span_number(span) % 2 == 0
    shipper = ship.shipper(exporter)
    assert shipper.drain(10)
    shipper.close()
    assert {span_number(span) for span in exporter.taken} == set(range(100))
    assert shipper.refused_spans == 0


def span_number(span: ReadableSpan) -> int:
    assert span.context is not None
    number: int = span.context.span_id - 1
    return number
