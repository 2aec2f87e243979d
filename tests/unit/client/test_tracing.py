"""Trace metadata."""

import pytest
from consentry_client.tracing import trace_metadata
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN = NonRecordingSpan(
    SpanContext(
        0x0AF7651916CD43DD8448EB211C80319C,
        0xB7AD6B7169203331,
        is_remote=False,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("vendor", "x")]),
    )
)


def test_trace_metadata_of_current_span_carries_parent_and_state() -> None:
    with trace.use_span(SPAN):
        assert dict(trace_metadata(None)) == {"traceparent": TRACEPARENT, "tracestate": "vendor=x"}


def test_trace_metadata_without_span_is_empty() -> None:
    assert trace_metadata(None) == ()


def test_trace_metadata_of_given_parent_wins() -> None:
    other = TRACEPARENT.replace("b7ad", "c7ad")
    with trace.use_span(SPAN):
        assert trace_metadata(other) == (("traceparent", other),)


@pytest.mark.parametrize("traceparent", ["", "x", TRACEPARENT.upper(), TRACEPARENT + "\n", "00-ä", TRACEPARENT[:-1]])
def test_trace_metadata_of_other_form_is_left_out(traceparent: str) -> None:
    assert trace_metadata(traceparent) == ()
