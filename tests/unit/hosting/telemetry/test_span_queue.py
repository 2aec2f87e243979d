"""Spans that may be lost: who makes them never waits, and what is lost is counted."""

import logging
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hosting.telemetry.errors import SpansRefused
from hosting.telemetry.span_queue import SpanQueue

WAIT_SECONDS = 20


class GatedExporter(SpanExporter):
    """Takes spans once its gate is open; before that it fails, or hangs if told so."""

    def __init__(self, *, hangs: bool = False, refuses: int = 0) -> None:
        self.gate = threading.Event()
        self.called = threading.Event()
        self.is_shut_down = False
        self._hangs = hangs
        self._refuses = refuses
        self._changed = threading.Condition()
        self._names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.called.set()
        if self._hangs:
            self.gate.wait()
        elif not self.gate.is_set():
            return SpanExportResult.FAILURE
        with self._changed:
            self._names += [span.name for span in spans]
            self._changed.notify_all()
        if self._refuses:
            raise SpansRefused(self._refuses)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_shut_down = True

    def wait_for(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._names) >= count, WAIT_SECONDS)
            return list(self._names)


def span(number: int) -> ReadableSpan:
    return ReadableSpan(f"span-{number}")


def test_spans_are_exported_in_their_order() -> None:
    exporter = GatedExporter()
    exporter.gate.set()
    queue = SpanQueue(exporter)
    for number in range(1_000):
        queue.put(span(number))
    assert exporter.wait_for(1_000) == [f"span-{number}" for number in range(1_000)]
    queue.close(WAIT_SECONDS)
    assert exporter.is_shut_down
    assert queue.lost_spans == 0


def test_put_does_not_wait_for_an_exporter_that_hangs_and_counts_what_is_lost() -> None:
    exporter = GatedExporter(hangs=True)
    queue = SpanQueue(exporter, max_waiting=10)
    queue.put(span(0))
    assert exporter.called.wait(WAIT_SECONDS)
    for number in range(1, 15):
        queue.put(span(number))
    assert queue.lost_spans == 5
    exporter.gate.set()
    assert len(exporter.wait_for(10)) == 10
    queue.close(WAIT_SECONDS)


def test_spans_wait_while_the_receiver_is_away_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    exporter = GatedExporter()
    queue = SpanQueue(exporter, retry_seconds=0.001)
    queue.put(span(1))
    assert exporter.called.wait(WAIT_SECONDS)
    queue.put(span(2))
    exporter.gate.set()
    assert exporter.wait_for(2)[:2] == ["span-1", "span-2"]
    queue.close(WAIT_SECONDS)
    assert caplog.messages == ["the span receiver does not take spans", "the span receiver takes spans again"]


def test_close_sends_what_waits() -> None:
    exporter = GatedExporter()
    exporter.gate.set()
    queue = SpanQueue(exporter)
    for number in range(700):
        queue.put(span(number))
    queue.close(WAIT_SECONDS)
    assert len(exporter.wait_for(0)) == 700


def test_rejected_spans_are_counted_and_not_sent_again() -> None:
    exporter = GatedExporter(refuses=1)
    exporter.gate.set()
    queue = SpanQueue(exporter)
    queue.put(span(1))
    exporter.wait_for(1)
    queue.close(WAIT_SECONDS)
    assert exporter.wait_for(0) == ["span-1"]
    assert queue.lost_spans == 1
