"""Our encoding of spans is the SDK's, field by field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode_by_sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hosting.telemetry.encoding import encode_spans
from tests.fakes.otlp_receiver import read_spans

RESOURCE = Resource({"service.name": "consentry-sidecar", "service.version": "1"})
SCOPE = InstrumentationScope("consentry.sidecar")
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(0, 2**64 - 1)
TEXTS = st.text(max_size=200)
VALUES = TEXTS | INT64 | st.booleans() | st.floats(allow_nan=False) | st.lists(TEXTS, max_size=3)
ATTRIBUTES = st.dictionaries(st.text(max_size=40), VALUES, max_size=5)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.integers(0, 255).map(TraceFlags),
)
STATUSES = st.just(Status()) | st.builds(Status, st.just(StatusCode.ERROR), TEXTS) | st.just(Status(StatusCode.OK))
SPANS = st.builds(
    ReadableSpan,
    TEXTS,
    CONTEXTS,
    st.none() | CONTEXTS,
    resource=st.just(RESOURCE),
    instrumentation_scope=st.just(SCOPE),
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, TEXTS, ATTRIBUTES, TIMES), max_size=3),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=TIMES,
    end_time=TIMES,
)


@given(spans=st.lists(SPANS, max_size=4))
def test_encoding_is_that_of_the_sdk(spans: list[ReadableSpan]) -> None:
    assert encode_spans(spans) == encode_by_sdk(spans)


@given(spans=st.lists(SPANS, max_size=2))
def test_encoding_does_not_depend_on_what_was_encoded_before(spans: list[ReadableSpan]) -> None:
    assert encode_spans(spans) == encode_spans(spans)


def test_equal_values_of_several_types_are_kept_apart() -> None:
    context = SpanContext(1, 1, is_remote=False)
    spans = [ReadableSpan("s", context, resource=RESOURCE, attributes={"a": value}) for value in (1, True, 1.0)]
    values = [span.attributes["a"] for span in read_spans(encode_spans(spans))]
    assert [(type(value), value) for value in values] == [(int, 1), (bool, True), (float, 1.0)]


def test_spans_of_several_senders_keep_theirs() -> None:
    context = SpanContext(1, 1, is_remote=False)
    resources = [RESOURCE, Resource({"service.name": "consentry-feed"})]
    spans = [ReadableSpan(f"s{at}", context, resource=resources[at % 2]) for at in range(4)]
    sent = [(span.name, span.resource["service.name"]) for span in read_spans(encode_spans(spans))]
    assert sent == [(span.name, span.resource.attributes["service.name"]) for span in spans]


@pytest.mark.parametrize("value", [b"bytes", [1], {"a": "b"}, None])
def test_attribute_that_none_of_ours_is_is_refused(value: object) -> None:
    span = ReadableSpan("s", SpanContext(1, 1, is_remote=False), resource=RESOURCE, attributes={"a": value})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        encode_spans([span])
