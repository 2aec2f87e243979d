"""Our trace contexts as OpenTelemetry's."""

from opentelemetry.trace import SpanContext, TraceFlags

from hosting.telemetry.trace_context import TraceContext


def make_span_context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    """The SDK's form of a context; `is_remote` says that the span is another process's."""
    return SpanContext(
        trace_id=int.from_bytes(context.trace_id, "big"),
        span_id=int.from_bytes(context.span_id, "big"),
        is_remote=is_remote,
        trace_flags=TraceFlags(context.flags),
    )
