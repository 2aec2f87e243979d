"""W3C trace context: the sidecar's record of a decision joins the trace of the request that asked."""

import logging
import re

from consentry_client.exchange import Metadata

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra `otel` is not installed
    _PROPAGATOR = None
else:
    _PROPAGATOR = TraceContextTextMapPropagator()

_LOG = logging.getLogger("consentry_client")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?")


def trace_metadata(traceparent: str | None) -> Metadata:
    """Returns the metadata that carry a trace: the given one, else the current span's where OpenTelemetry is there.

    A traceparent of another form is left out, with a note in the log: a trace must never change an answer.
    """
    if traceparent is not None:
        if isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent):
            return (("traceparent", traceparent),)
        _LOG.debug("a traceparent of another form than W3C's was left out")
        return ()
    if _PROPAGATOR is None or not trace.get_current_span().get_span_context().is_valid:
        return ()
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return tuple(carrier.items())
