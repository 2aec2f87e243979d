"""Spans of a call, made from its decision record: always the same ones, so that a span sent twice can be told.

No tracer, sampler or limit of the SDK takes part: nothing can thin them.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from consent.decision_record import NO_AGE, CallRecord, Item, item_id, parse_question, parse_situation
from consent.vocabulary.reason import Effect
from hosting.telemetry import attributes
from hosting.telemetry import trace_context as span_ids

MAX_EVENTS_PER_SPAN: Final = 500

_SCOPE: Final = InstrumentationScope("consentry.sidecar")
_SPAN_ID_USE: Final = b"csty-span-v1"
_NS_PER_MS: Final = 1_000_000
_NS_PER_US: Final = 1_000

Attributes = dict[str, Any]


def derive_span_id(call_id: bytes, part: int = 0) -> bytes:
    """The id of a span that belongs to a call.

    Args:
        call_id: 16 bytes.
        part: 0 for the call's own span, 1, 2, … for the parts of a large batch.

    Returns:
        8 bytes, never all zero.
    """
    return span_ids.derive_span_id(_SPAN_ID_USE, call_id + part.to_bytes(4, "big"))


def project(call: CallRecord, resource: Resource) -> list[ReadableSpan]:
    """The spans of a call.

    One for a single decision; for a batch one with an event for each item, and where there are more than
    `MAX_EVENTS_PER_SPAN` items, that one and a child span for each so many events.

    Args:
        call: The decision record.
        resource: Who sends.

    Raises:
        MalformedRecord: A block in the record is not valid.
    """
    context = _context_of(call)
    parent = _parent_of(call)
    end_ns = call.now_ms * _NS_PER_MS
    build = partial(
        ReadableSpan,
        resource=resource,
        instrumentation_scope=_SCOPE,
        start_time=end_ns - call.latency_us * _NS_PER_US,
        end_time=end_ns,
    )
    shared = _attributes_of(call)
    if len(call.items) == 1:
        shared |= _describe(call.items[0])
        return [build(attributes.SPAN_CHECK, context, parent, attributes=shared, kind=SpanKind.SERVER)]
    shared |= _count(call.items)
    events = _events_of(call, end_ns)
    if len(events) <= MAX_EVENTS_PER_SPAN:
        return [build(attributes.SPAN_CHECK, context, parent, attributes=shared, kind=SpanKind.SERVER, events=events)]
    spans = [build(attributes.SPAN_CHECK, context, parent, attributes=shared, kind=SpanKind.SERVER)]
    for part, start in enumerate(range(0, len(events), MAX_EVENTS_PER_SPAN), start=1):
        end = start + MAX_EVENTS_PER_SPAN
        described: Attributes = {attributes.BATCH_OFFSET: start} | _count(call.items[start:end])
        child = _child_of(context, derive_span_id(call.call_id, part))
        spans.append(build(attributes.SPAN_ITEMS, child, context, attributes=described, events=events[start:end]))
    return spans


def _context_of(call: CallRecord) -> SpanContext:
    span_id = call.span_id if any(call.span_id) else derive_span_id(call.call_id)
    return SpanContext(
        trace_id=int.from_bytes(call.trace_id, "big"),
        span_id=int.from_bytes(span_id, "big"),
        is_remote=False,
        trace_flags=TraceFlags(call.trace_flags),
    )


def _parent_of(call: CallRecord) -> SpanContext | None:
    if not any(call.parent_span_id):
        return None
    return SpanContext(
        trace_id=int.from_bytes(call.trace_id, "big"),
        span_id=int.from_bytes(call.parent_span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(call.trace_flags),
    )


def _child_of(context: SpanContext, span_id: bytes) -> SpanContext:
    return SpanContext(
        context.trace_id, int.from_bytes(span_id, "big"), is_remote=False, trace_flags=context.trace_flags
    )


def _attributes_of(call: CallRecord) -> Attributes:
    described: Attributes = {attributes.DECISION_ID: _format_id(call.call_id)}
    described |= _describe_circumstances(call.situation, call.question)
    if call.age_ms != NO_AGE:
        described[attributes.STALENESS_MS] = call.age_ms
    return described


@lru_cache(maxsize=256)
def _describe_circumstances(situation_block: bytes, question_block: bytes) -> Attributes:
    """What repeats from call to call; not to be changed by the caller."""
    situation = parse_situation(situation_block)
    question = parse_question(question_block)
    described: Attributes = {
        attributes.PURPOSE: question.purposes,
        attributes.CALLER: question.caller,
        attributes.LOG_SIZE: situation.log_size,
        attributes.POLICY_VERSION: situation.policy_version,
        attributes.RPC_SYSTEM_NAME: "grpc",
        attributes.RPC_RESPONSE_STATUS_CODE: "OK",
    }
    if situation.origin:
        described[attributes.LOG_ORIGIN] = situation.origin
    return described


def _describe(item: Item) -> Attributes:
    # The deciding event's seq is left out: it is the same in every decision about a person, a mark to follow them by.
    return {
        attributes.DECISION_EFFECT: item.effect.value,
        attributes.DECISION_REASON: item.reason.value,
        attributes.SUBJECT_PSEUDONYM: [pseudonym.hex() for pseudonym in item.pseudonyms],
    }


def _count(items: Sequence[Item]) -> Attributes:
    denied = sum(item.effect is Effect.DENY for item in items)
    return {attributes.BATCH_SIZE: len(items), attributes.BATCH_DENIED: denied}


def _events_of(call: CallRecord, at_ns: int) -> list[Event]:
    events = []
    for index, item in enumerate(call.items):
        described = {attributes.DECISION_ID: _format_id(item_id(call.call_id, index))} | _describe(item)
        events.append(Event(attributes.EVENT_DECISION, described, at_ns))
    return events


def _format_id(decision_id: bytes) -> str:
    """A decision id as people see it everywhere: a UUID's text."""
    text = decision_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
