"""Spans of entries that came into force, made from the journal's notes: always the same ones, as those of decisions."""

from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind

from consent.event import EventType
from hosting.telemetry import attributes
from hosting.telemetry.span_context import make_span_context
from hosting.telemetry.trace_context import TraceContext, derive_span_id
from journal.applied import AppliedBatch, AppliedEntry

_SCOPE: Final = InstrumentationScope("consentry.sidecar")
_APPLY_USE: Final = b"csty-apply-v1"
_NS_PER_MS: Final = 1_000_000
_TYPE_NAMES: Final = {member.value: member.name for member in EventType}


def project_applied(batch: AppliedBatch, resource: Resource, sidecar_id: str) -> list[ReadableSpan]:
    """The spans of a batch: one for each of its traced entries, child of the span that its `traceparent` names.

    Args:
        batch: What came into force.
        resource: Who sends.
        sidecar_id: Where it came into force.
    """
    return [_project_entry(entry, batch, resource, sidecar_id) for entry in batch.entries]


def _project_entry(entry: AppliedEntry, batch: AppliedBatch, resource: Resource, sidecar_id: str) -> ReadableSpan:
    subject = entry.trace_id + entry.seq.to_bytes(8, "big") + sidecar_id.encode()
    own = TraceContext(entry.trace_id, derive_span_id(_APPLY_USE, subject), entry.trace_flags)
    parent = TraceContext(entry.trace_id, entry.parent_span_id, entry.trace_flags)
    return ReadableSpan(
        attributes.SPAN_APPLY,
        make_span_context(own, is_remote=False),
        make_span_context(parent, is_remote=True),
        resource,
        {
            attributes.LOG_ORIGIN: batch.origin,
            attributes.LOG_SIZE: batch.log_size,
            attributes.LOG_SEQ: entry.seq,
            attributes.EVENT_TYPE: _TYPE_NAMES.get(entry.event_type, str(entry.event_type)),
        },
        kind=SpanKind.CONSUMER,
        instrumentation_scope=_SCOPE,
        # A clock that was set back in between must not make a span end before it begins.
        start_time=min(batch.started_ms, batch.at_ms) * _NS_PER_MS,
        end_time=batch.at_ms * _NS_PER_MS,
    )
