"""Spans of what happens to a request at the feed, and the trace that its entry carries on to the sidecars.

The spans explain and may be lost; the log is the record. Nothing here waits: spans are handed to a queue.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from consent.event import EventType
from feed.ports import Accepted
from hosting.clock import Clock, SystemClock
from hosting.telemetry import attributes
from hosting.telemetry.span_context import make_span_context
from hosting.telemetry.trace_context import (
    SAMPLED,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    TraceContext,
    derive_span_id,
    format_traceparent,
    parse_traceparent,
)

MAX_TRACED_RECORDS: Final = 100
"""Records of one `RecordDirectives` call that are traced one by one: an import of millions must not make as many spans."""

_SCOPE: Final = InstrumentationScope("consentry.feed")
_APPEND_USE: Final = b"csty-append-v1"
_NS_PER_MS: Final = 1_000_000
# What of gRPC's statuses is the server's failure, by OpenTelemetry's conventions for RPC; the others are answers.
_SERVER_FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)

Emit = Callable[[ReadableSpan], None]


class RequestSpan:
    """The span of one call of a source, from its arrival to its answer; made by `Tracing.begin_request`.

    Attributes:
        traceparent: For what is logged because of the call; empty where there is no trace.
    """

    def __init__(
        self, tracing: "Tracing", parent: TraceContext | None, own: TraceContext | None, described: dict[str, Any]
    ) -> None:
        self._tracing = tracing
        self._parent = parent
        self._own = own
        self._described = described
        self._start_ms = tracing.now_ms()
        self._untraced_after = MAX_TRACED_RECORDS
        context = own or parent
        self.traceparent = format_traceparent(context) if context is not None else ""

    def admit(self, records: int) -> int:
        """How many of the next records of the call are traced one by one."""
        admitted = min(records, self._untraced_after)
        self._untraced_after -= admitted
        return admitted

    def note_accepted(self, accepted: Accepted) -> None:
        """Say which request it became in the log."""
        self._described[attributes.REQUEST_ID] = accepted.request_id.hex()

    def note_records(self, records: int, refused: int) -> None:
        """Count records of the call."""
        for name, count in ((attributes.BATCH_SIZE, records), (attributes.BATCH_REFUSED, refused)):
            self._described[name] = self._described.get(name, 0) + count

    def end(self, status_code: str, refusal: str | None = None) -> None:
        """The call was answered.

        Args:
            status_code: Name of the gRPC status.
            refusal: Stable reason, where it was refused.
        """
        if self._own is None:
            return
        self._described[attributes.RPC_RESPONSE_STATUS_CODE] = status_code
        if refusal is not None:
            self._described[attributes.REQUEST_REFUSAL] = refusal
        has_failed = status_code in _SERVER_FAILURES
        self._tracing.emit(
            attributes.SPAN_REQUEST,
            self._own,
            self._parent,
            self._described,
            self._start_ms,
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR) if has_failed else Status(),
        )


class Tracing:
    """Makes the feed's spans.

    Without `send` it makes none, and a caller's trace goes on to the sidecars as it is: what they do is then a child of the caller's span.

    Args:
        send: Takes finished spans and never waits; None where spans are not exported.
        resource: Who sends.
        clock: The time.
    """

    def __init__(self, send: Emit | None = None, resource: Resource | None = None, clock: Clock | None = None) -> None:
        self._send = send
        self._resource = resource or Resource.get_empty()
        self._clock = clock or SystemClock()

    def now_ms(self) -> int:
        """Unix ms."""
        return self._clock.now_ms()

    def begin_request(self, method: str, source: str, event_type: EventType, traceparent: str) -> RequestSpan:
        """Begin the span of a call.

        Args:
            method: In full, as gRPC names it.
            source: Who asks.
            event_type: What it asks to be logged.
            traceparent: As the caller sent it, or empty.
        """
        parent = parse_traceparent(traceparent)
        if self._send is None:
            return RequestSpan(self, parent, None, {})
        trace_id, flags = (parent.trace_id, parent.flags) if parent else (secrets.token_bytes(TRACE_ID_BYTES), SAMPLED)
        own = TraceContext(trace_id, secrets.token_bytes(SPAN_ID_BYTES), flags)
        described = {
            attributes.SOURCE: source,
            attributes.EVENT_TYPE: event_type.name,
            attributes.RPC_SYSTEM_NAME: "grpc",
            attributes.RPC_METHOD: method,
        }
        return RequestSpan(self, parent, own, described)

    def lead(self, traceparent: str, request_id: bytes) -> str:
        """The `traceparent` that an entry carries: that of its append span, which is known before there is one.

        Args:
            traceparent: Of the request that leads to the entry, or empty: then the entry has none either.
            request_id: 16 bytes.
        """
        context = parse_traceparent(traceparent)
        if self._send is None or context is None:
            return traceparent
        return format_traceparent(context._replace(span_id=derive_span_id(_APPEND_USE, request_id)))

    def end_append(
        self,
        traceparents: tuple[str, str],
        accepted: Accepted,
        event_type: EventType,
        described: dict[str, str],
        start_ms: int,
    ) -> None:
        """Make the append span of an entry that is in the log.

        Args:
            traceparents: Of the request, and what `lead` made of it.
            accepted: Where it is.
            event_type: Of the entry.
            described: Log origin and source, by attribute.
            start_ms: When it was submitted, Unix ms.
        """
        parent, own = map(parse_traceparent, traceparents)
        if self._send is None or own is None:
            return
        all_described: dict[str, Any] = dict(described)
        all_described |= {
            attributes.LOG_SEQ: accepted.seq,
            attributes.EVENT_TYPE: event_type.name,
            attributes.REQUEST_ID: accepted.request_id.hex(),
        }
        if accepted.rejection:
            all_described[attributes.REQUEST_REFUSAL] = accepted.rejection
        self.emit(attributes.SPAN_APPEND, own, parent, all_described, start_ms)

    def emit(
        self,
        name: str,
        own: TraceContext,
        parent: TraceContext | None,
        described: dict[str, Any],
        start_ms: int,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status | None = None,
    ) -> None:
        """Hand on a span that ends now."""
        if self._send is None:
            return
        span = ReadableSpan(
            name,
            make_span_context(own, is_remote=False),
            make_span_context(parent, is_remote=kind is SpanKind.SERVER) if parent is not None else None,
            self._resource,
            described,
            kind=kind,
            instrumentation_scope=_SCOPE,
            status=status or Status(),
            start_time=start_ms * _NS_PER_MS,
            end_time=max(start_ms, self._clock.now_ms()) * _NS_PER_MS,
        )
        self._send(span)
