"""The feed's spans: one tree for each request, ids that the entry knows in advance, and nothing that names a person."""

from hashlib import blake2b

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from consent.event import EventType
from feed.errors import PurposeUnknown
from feed.ports import Accepted
from feed.trace_export import open_tracing
from feed.tracing import MAX_TRACED_RECORDS, Tracing
from hosting.telemetry.attributes import ATTRIBUTES
from hosting.telemetry.errors import TelemetryMisconfigured
from hosting.telemetry.trace_context import parse_traceparent
from tests.fakes.clock import FakeClock
from tests.fakes.otlp_receiver import ReceivedSpan, SpanStore, make_receiver, read_spans
from tests.unit.feed.intake.desk import ANNA, ORIGIN, WEB, Desk, opt_out, token_of

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-00"
METHOD = "consentry.intake.v1.IntakeService/RecordDirective"
ACCEPTED = Accepted(bytes(range(16)), 9, 0)


@pytest.fixture
async def desk() -> Desk:
    return await Desk(is_traced=True).open()


def received(spans: list[ReadableSpan]) -> list[ReceivedSpan]:
    """What a receiver gets."""
    return list(read_spans(encode_spans(spans)))


async def test_append_span_is_what_the_entry_names_and_a_child_of_the_request(desk: Desk) -> None:
    accepted = await desk.recorder.record_directive(WEB, opt_out(), TRACEPARENT)
    (span,) = received(desk.spans)
    assert (span.name, span.kind) == ("consent.log.append", "INTERNAL")
    assert (span.trace_id, span.parent_span_id) == (TRACE_ID, SPAN_ID)
    derived = blake2b(accepted.request_id, digest_size=8, person=b"csty-append-v1").hexdigest()
    assert span.span_id == derived
    assert [entry.traceparent for entry in desk.log.entries[-2:]] == [f"00-{TRACE_ID}-{derived}-00"] * 2
    assert span.attributes == {
        "consent.log.origin": ORIGIN,
        "consent.log.seq": accepted.seq,
        "consent.source": "web",
        "consent.event.type": "DIRECTIVE",
        "consent.request.id": accepted.request_id.hex(),
    }


async def test_refused_request_has_one_append_span_with_the_reason(desk: Desk) -> None:
    with pytest.raises(PurposeUnknown):
        await desk.recorder.record_directive(WEB, opt_out(purpose="nonsense"), TRACEPARENT)
    (span,) = received(desk.spans)
    assert span.attributes["consent.event.type"] == "REJECTED"
    assert span.attributes["consent.request.refusal"] == "PURPOSE_UNKNOWN"


async def test_repeated_request_appends_nothing_and_has_no_append_span(desk: Desk) -> None:
    for _ in range(2):
        await desk.recorder.record_directive(WEB, opt_out(), TRACEPARENT)
    assert len(desk.spans) == 1


async def test_request_without_a_trace_has_no_append_span(desk: Desk) -> None:
    await desk.recorder.record_directive(WEB, opt_out())
    assert desk.spans == []
    assert desk.log.entries[-1].traceparent == ""


async def test_bulk_traces_the_first_records_only(desk: Desk) -> None:
    requests = [opt_out(f"k{number}") for number in range(5)]
    await desk.recorder.record_directives(WEB, requests, TRACEPARENT, traced=3)
    assert len({span.context.span_id for span in desk.spans if span.context}) == 3
    assert [bool(entry.traceparent) for entry in desk.log.entries[-10:]] == [True] * 6 + [False] * 4


async def test_spans_hold_no_identifier_and_no_token(desk: Desk) -> None:
    await desk.recorder.record_directive(WEB, opt_out(), TRACEPARENT)
    wire = encode_spans(desk.spans).SerializeToString()
    token = token_of(ANNA)
    for secret in (b"anna", b"example.com", token, token.hex().encode()):
        assert secret not in wire


def test_request_span_is_a_child_of_the_caller_and_parent_of_what_follows() -> None:
    spans, clock = list[ReadableSpan](), FakeClock(1_000)
    request = Tracing(spans.append, clock=clock).begin_request(METHOD, "web", EventType.DIRECTIVE, TRACEPARENT)
    request.note_accepted(ACCEPTED)
    clock.advance(5)
    request.end("OK")
    (span,) = received(spans)
    assert (span.name, span.kind, span.trace_id, span.parent_span_id) == (
        "consent.request",
        "SERVER",
        TRACE_ID,
        SPAN_ID,
    )
    assert (span.start_ns, span.end_ns) == (1_000_000_000, 1_005_000_000)
    assert request.traceparent == f"00-{TRACE_ID}-{span.span_id}-00"
    assert span.attributes == {
        "consent.source": "web",
        "consent.event.type": "DIRECTIVE",
        "consent.request.id": ACCEPTED.request_id.hex(),
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }


def test_request_without_a_callers_trace_begins_one() -> None:
    spans = list[ReadableSpan]()
    tracing = Tracing(spans.append)
    contexts = set()
    for _ in range(2):
        request = tracing.begin_request(METHOD, "web", EventType.DIRECTIVE, "")
        contexts.add(parse_traceparent(request.traceparent))
        request.end("OK")
    assert len({context.trace_id for context in contexts if context}) == 2
    assert [span.parent_span_id for span in received(spans)] == ["", ""]


@pytest.mark.parametrize(
    ("status", "is_error"), [("INVALID_ARGUMENT", False), ("CANCELLED", False), ("UNAVAILABLE", True)]
)
def test_request_span_is_an_error_only_where_the_feed_failed(status: str, is_error: bool) -> None:
    spans = list[ReadableSpan]()
    Tracing(spans.append).begin_request(METHOD, "web", EventType.DIRECTIVE, "").end(status, "A_REASON")
    assert (spans[0].status.status_code.name == "ERROR") == is_error
    assert received(spans)[0].attributes["consent.request.refusal"] == "A_REASON"


def test_bulk_call_admits_so_many_records_and_counts_all() -> None:
    spans = list[ReadableSpan]()
    request = Tracing(spans.append).begin_request(METHOD, "web", EventType.DIRECTIVE, "")
    assert [request.admit(60) for _ in range(3)] == [60, MAX_TRACED_RECORDS - 60, 0]
    request.note_records(60, 2)
    request.note_records(60, 0)
    request.end("OK")
    (span,) = received(spans)
    assert (span.attributes["consent.batch.size"], span.attributes["consent.batch.refused"]) == (120, 2)


def test_tracing_that_is_off_hands_on_the_callers_trace_as_it_is() -> None:
    tracing = Tracing()
    request = tracing.begin_request(METHOD, "web", EventType.DIRECTIVE, TRACEPARENT)
    assert request.traceparent == tracing.lead(request.traceparent, bytes(16)) == TRACEPARENT
    assert tracing.begin_request(METHOD, "web", EventType.DIRECTIVE, "").traceparent == ""


async def test_every_attribute_sent_is_in_the_reference_with_its_carrier(desk: Desk) -> None:
    await desk.recorder.record_directive(WEB, opt_out("1"), TRACEPARENT)
    with pytest.raises(PurposeUnknown):
        await desk.recorder.record_directive(WEB, opt_out("2", purpose="nonsense"), TRACEPARENT)
    requests = list[ReadableSpan]()
    request = Tracing(requests.append).begin_request(METHOD, "web", EventType.DIRECTIVE, "")
    request.note_accepted(ACCEPTED)
    request.note_records(1, 0)
    request.end("UNAVAILABLE", "A_REASON")
    sent = {"append": desk.spans, "request": requests}
    for carrier, spans in sent.items():
        names = {name for span in received(spans) for name in span.attributes}
        assert names == {row.name for row in ATTRIBUTES if carrier in row.carriers}


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_open_tracing_follows_the_environment(environ: dict[str, str], is_on: bool) -> None:
    with open_tracing(ORIGIN, "0.1.0", environ, FakeClock()) as tracing:
        request = tracing.begin_request(METHOD, "web", EventType.DIRECTIVE, "")
        assert bool(request.traceparent) == is_on


def test_open_tracing_that_cannot_be_followed_stops_the_start() -> None:
    environ = ENDPOINT | {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}
    with (
        pytest.raises(TelemetryMisconfigured, match="OTEL_EXPORTER_OTLP_TIMEOUT"),
        open_tracing(ORIGIN, "0.1.0", environ, FakeClock()),
    ):
        pytest.fail("it must not start")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_open_tracing_sends_what_waits_when_it_closes(protocol: str) -> None:
    receiver = make_receiver(protocol, SpanStore())
    receiver.start()
    with open_tracing(ORIGIN, "0.1.0", receiver.environ, FakeClock()) as tracing:
        tracing.begin_request(METHOD, "web", EventType.DIRECTIVE, "").end("OK")
    receiver.stop()
    (span,) = receiver.store.spans
    assert (span.resource["service.name"], span.resource["service.instance.id"]) == ("consentry-feed", ORIGIN)
