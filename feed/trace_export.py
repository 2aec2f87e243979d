"""Where the feed's spans go: a queue in front of the exporter that the standard variables ask for, or nowhere."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from feed.tracing import Tracing
from hosting.clock import Clock
from hosting.telemetry.exporter import build_exporter
from hosting.telemetry.resource import FEED_SERVICE_NAME, build_resource
from hosting.telemetry.span_queue import SpanQueue

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_CLOSE_SECONDS: Final = 2.0


@contextmanager
def open_tracing(origin: str, version: str, environ: Mapping[str, str], clock: Clock) -> Iterator[Tracing]:
    """Make the feed's spans, as the environment says; leaving the context sends what waits, for at most about 2 s.

    Args:
        origin: Name of the log.
        version: Of Consentry.
        environ: Spans are made where it names an OTLP endpoint, and neither `OTEL_SDK_DISABLED` nor `OTEL_TRACES_EXPORTER` says none.
        clock: The time.

    Raises:
        TelemetryMisconfigured: A variable cannot be followed.
    """
    if not _is_asked_for(environ):
        yield Tracing(clock=clock)
        return
    # The queue says itself, once, that its receiver is away; the SDK would say it at every attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    queue = SpanQueue(build_exporter(environ))
    try:
        yield Tracing(queue.put, build_resource(origin, version, environ, FEED_SERVICE_NAME), clock)
    finally:
        queue.close(_CLOSE_SECONDS)


def _is_asked_for(environ: Mapping[str, str]) -> bool:
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    is_elsewhere = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    return not (is_disabled or is_elsewhere) and any(environ.get(name, "").strip() for name in _ENDPOINTS)
