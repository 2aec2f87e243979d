"""Sending spans that may be lost, from a thread of its own: whoever makes them never waits."""

import logging
import threading
from collections import deque
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hosting.telemetry.errors import SpansRefused

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 8_192
"""Spans that wait while the receiver is away; what comes beyond them is lost, and counted."""
MAX_SPANS: Final = 512
"""Of one export."""

_GATHER_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 5.0


class SpanQueue:
    """Exports spans in the order in which they were put in.

    For spans that are not themselves the record. The spans of decisions go another way, by which none is lost: the journal and its
    shipper.

    Args:
        exporter: Where they go; closed with the queue.
        max_waiting: How many may wait.
        retry_seconds: How long after a failed export the next one is tried.
    """

    def __init__(
        self, exporter: SpanExporter, *, max_waiting: int = MAX_WAITING, retry_seconds: float = _RETRY_SECONDS
    ) -> None:
        self._exporter = exporter
        self._max_waiting = max_waiting
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._waiting: deque[ReadableSpan] = deque()
        self._lost = 0
        self._is_failing = False
        # A daemon: an exporter may hang in a call that nothing can interrupt, and must not hold up the process's end.
        self._thread = threading.Thread(target=self._run, name="span-queue", daemon=True)
        self._thread.start()

    @property
    def lost_spans(self) -> int:
        """How many found no room, or were rejected by the receiver."""
        return self._lost

    def put(self, span: ReadableSpan) -> None:
        """Send a span soon; never waits for anything."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                self._lost += 1
                return
            self._waiting.append(span)
            if len(self._waiting) == 1:
                self._changed.notify()

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, for at most about this long, and stop. Blocks meanwhile."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_seconds)
        self._exporter.shutdown()

    def _run(self) -> None:
        while self._wait_for_spans():
            # Some at once cost hardly more than one.
            self._closing.wait(_GATHER_SECONDS)
            with self._changed:
                spans = [self._waiting[at] for at in range(min(MAX_SPANS, len(self._waiting)))]
            if self._export(spans):
                with self._changed:
                    for _ in spans:
                        self._waiting.popleft()
            elif self._closing.wait(self._retry_seconds):
                # Asked to stop: one more try, since what is lost now is lost.
                self._export(spans)
                return

    def _wait_for_spans(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            return bool(self._waiting)

    def _export(self, spans: list[ReadableSpan]) -> bool:
        try:
            is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except SpansRefused as error:
            # It has had its say about them; the others are there.
            self._lost += error.count
            is_taken = True
        except Exception as error:  # noqa: BLE001 - the boundary to the SDK
            logger.error("the span exporter failed", extra={"fields": {"type": type(error).__name__}})
            is_taken = False
        if is_taken and self._is_failing:
            logger.warning("the span receiver takes spans again", extra={"fields": {"lost_spans": self._lost}})
        elif not is_taken and not self._is_failing:
            logger.warning(
                "the span receiver does not take spans", extra={"fields": {"waiting_at_most": self._max_waiting}}
            )
        self._is_failing = not is_taken
        return is_taken
