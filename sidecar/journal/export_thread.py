"""Exporting where waiting can be given up."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from enum import Enum
from queue import SimpleQueue
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hosting.telemetry.errors import SpansRefused

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 2.0


class Outcome(Enum):
    """What became of an export."""

    TAKEN = "taken"
    #: The receiver is away, or wants none of it for now.
    FAILED = "failed"
    #: The receiver says that it has rejected some of the spans, and not which.
    REFUSED = "refused"


_Job = tuple[Sequence[ReadableSpan], "Future[Outcome]"]


class ExportThread:
    """Runs an exporter in a thread of its own, one export at a time.

    The SDK's exporters wait and try again inside `export`, for as long as their timeout says; a process that shall stop must
    not wait for that.

    Args:
        exporter: Of the SDK.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon: it may hang in a call that nothing can interrupt, and must not hold up the process's end.
        threading.Thread(target=self._run, name="span-exporter", daemon=True).start()

    def export(self, spans: Sequence[ReadableSpan], stop: threading.Event) -> Outcome:
        """What became of the spans; FAILED also where `stop` was set 2 s ago and the receiver has not answered yet."""
        job: Future[Outcome] = Future()
        self._jobs.put((spans, job))
        patience_seconds = _GRACE_SECONDS
        while patience_seconds > 0:
            try:
                return job.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if stop.is_set():
                    patience_seconds -= _LOOK_SECONDS
        job.cancel()
        return Outcome.FAILED

    def close(self) -> None:
        """Interrupt what is going on, as far as the exporter can, and end the thread."""
        self._jobs.put(None)
        self._exporter.shutdown()

    def _run(self) -> None:
        while (request := self._jobs.get()) is not None:
            spans, job = request
            if job.set_running_or_notify_cancel():
                job.set_result(self._export(spans))

    def _export(self, spans: Sequence[ReadableSpan]) -> Outcome:
        try:
            is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except SpansRefused:
            return Outcome.REFUSED
        except Exception as error:  # noqa: BLE001 - the boundary to the SDK: whatever it raises, the spans are sent again
            logger.error("the span exporter failed", extra={"fields": {"type": type(error).__name__}})
            return Outcome.FAILED
        return Outcome.TAKEN if is_taken else Outcome.FAILED
