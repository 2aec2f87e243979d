"""Spans from records: complete, always the same, and free of anything that names a person."""

import uuid
from dataclasses import replace as replace_fields

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from consent.decision_record import (
    NO_AGE,
    CallRecord,
    Item,
    MalformedRecord,
    format_situation,
    item_id,
    parse_record,
)
from consent.vocabulary.reason import Effect, Reason
from consent.vocabulary.subject import Pseudonymiser, Tokeniser
from hosting.telemetry.attributes import ATTRIBUTES
from sidecar.telemetry.spans import MAX_EVENTS_PER_SPAN, derive_span_id, project
from tests.fakes.journal_material import CALLER_SPAN_ID, NOW_MS, SITUATION, TRACE_ID, make_call, make_record
from tests.fakes.otlp_receiver import ReceivedSpan, read_spans

RESOURCE = Resource({"service.name": "consentry-sidecar"})


def test_project_of_one_decision_is_one_server_span() -> None:
    (span,) = project(make_call(1), RESOURCE)
    assert (span.name, span.kind, span.status.status_code) == ("consent.check", SpanKind.SERVER, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "consent.decision.id": str(uuid.UUID(bytes=make_call(1).call_id)),
        "consent.decision.effect": "ALLOW",
        "consent.decision.reason": "GRANTED",
        "consent.subject.pseudonym": ["00000000000000000000000000000001"],
        "consent.purpose": ("marketing.email", "analytics"),
        "consent.caller": "mailer",
        "consent.log.origin": "log.example/consents",
        "consent.log.size": 42,
        "consent.policy.version": 7,
        "consent.staleness_ms": 1_500,
        "rpc.system.name": "grpc",
        "rpc.response.status_code": "OK",
    }
    assert span.end_time == (NOW_MS + 1) * 1_000_000
    assert span.start_time == span.end_time - 250_000
    assert span.resource is RESOURCE


def test_project_denial_is_an_answer_and_no_error() -> None:
    (span,) = project(make_call(3), RESOURCE)
    assert (span.attributes or {})["consent.decision.reason"] == "OPT_OUT"
    assert span.status.status_code is StatusCode.UNSET


def test_project_joins_the_callers_trace() -> None:
    (span,) = project(make_call(1), RESOURCE)
    assert span.context is not None
    assert span.parent is not None
    assert span.context.trace_id == span.parent.trace_id == int.from_bytes(TRACE_ID, "big")
    assert span.parent.span_id == int.from_bytes(CALLER_SPAN_ID, "big")
    assert span.parent.is_remote
    assert span.context.trace_flags.sampled


def test_project_without_a_callers_trace_has_no_parent() -> None:
    (span,) = project(make_call(1, parent_span_id=bytes(8)), RESOURCE)
    assert span.parent is None


def test_project_of_unsampled_call_is_not_thinned() -> None:
    (span,) = project(make_call(1)._replace(trace_flags=0), RESOURCE)
    assert len(encoded([span])) == 1


def test_project_twice_gives_the_same_spans() -> None:
    for call in (make_call(1), make_call(1, items=1_200), make_call(5)._replace(span_id=bytes(8))):
        assert encoded(project(call, RESOURCE)) == encoded(project(call, RESOURCE))


def test_project_of_a_record_read_back_is_the_same() -> None:
    call = make_call(7, items=3)
    assert encoded(project(parse_record(make_record(7, items=3)), RESOURCE)) == encoded(project(call, RESOURCE))


def test_project_without_a_span_id_derives_it_from_the_decision() -> None:
    call = make_call(1)._replace(span_id=bytes(8))
    (span,) = project(call, RESOURCE)
    assert span.context is not None
    assert span.context.span_id == int.from_bytes(derive_span_id(call.call_id), "big")


def test_derive_span_id_differs_by_call_and_part_and_is_never_zero() -> None:
    derived = {derive_span_id(make_call(number).call_id, part) for number in range(50) for part in range(5)}
    assert len(derived) == 250
    assert bytes(8) not in derived


@pytest.mark.parametrize("items", [2, MAX_EVENTS_PER_SPAN])
def test_project_of_a_small_batch_is_one_span_with_all_events(items: int) -> None:
    call = make_call(0, items=items)
    (span,) = project(call, RESOURCE)
    assert [(event.attributes or {})["consent.decision.id"] for event in span.events] == ids_of(call)
    assert (span.attributes or {})["consent.batch.size"] == items
    assert (span.attributes or {})["consent.batch.denied"] == (items + 2) // 3
    assert "consent.decision.effect" not in (span.attributes or {})


def test_project_of_1200_items_is_one_span_and_three_parts_with_every_event() -> None:
    call = make_call(0, items=1_200)
    whole, *parts = encoded(project(call, RESOURCE))
    assert (whole.name, whole.kind, len(whole.events)) == ("consent.check", "SERVER", 0)
    assert [(part.name, part.kind, len(part.events)) for part in parts] == [
        ("consent.check.items", "INTERNAL", 500),
        ("consent.check.items", "INTERNAL", 500),
        ("consent.check.items", "INTERNAL", 200),
    ]
    assert {part.parent_span_id for part in parts} == {whole.span_id}
    assert {part.trace_id for part in parts} == {whole.trace_id}
    assert len({span.span_id for span in (whole, *parts)}) == 4
    assert [part.attributes["consent.batch.offset"] for part in parts] == [0, 500, 1_000]
    events = [event for part in parts for event in part.events]
    assert [event.attributes["consent.decision.id"] for event in events] == ids_of(call)
    assert [event.attributes["consent.decision.effect"] for event in events[:4]] == ["DENY", "ALLOW", "ALLOW", "DENY"]
    assert {span.dropped for span in (whole, *parts)} == {0}


def test_project_of_an_empty_batch_is_one_span() -> None:
    (span,) = project(make_call(1, items=0), RESOURCE)
    assert (span.attributes or {})["consent.batch.size"] == 0


def test_project_before_the_first_snapshot_leaves_out_what_is_not_known() -> None:
    situation = format_situation(replace_fields(SITUATION, origin="", checkpoint_time_ms=None, policy_version=0))
    (span,) = project(make_call(1)._replace(situation=situation, age_ms=NO_AGE), RESOURCE)
    assert "consent.log.origin" not in (span.attributes or {})
    assert "consent.staleness_ms" not in (span.attributes or {})
    assert (span.attributes or {})["consent.policy.version"] == 0


def test_project_of_a_damaged_block_raises_our_error() -> None:
    with pytest.raises(MalformedRecord):
        project(make_call(1)._replace(question=b"\xff"), RESOURCE)


def test_project_survives_many_kinds_of_questions() -> None:
    """What repeats is kept; keeping it must not mix up calls."""
    for size in range(600):
        situation = format_situation(replace_fields(SITUATION, log_size=size))
        (span,) = project(make_call(size)._replace(situation=situation), RESOURCE)
        assert (span.attributes or {})["consent.log.size"] == size
    (first,) = project(make_call(1), RESOURCE)
    (batch,) = project(make_call(1, items=2), RESOURCE)
    assert "consent.batch.size" not in (first.attributes or {})
    assert "consent.decision.effect" not in (batch.attributes or {})


def test_spans_hold_no_identifier_no_token_and_no_mark_of_a_person() -> None:
    token = Tokeniser([bytes(32)]).token("email", "ada@example.org")
    pseudonym = Pseudonymiser(bytes(range(32))).pseudonym(token)
    deciding_seq = 770_077_007
    item = Item((pseudonym,), True, Effect.DENY, Reason.OPT_OUT, deciding_seq, 0)
    for items in ((item,), (item, item)):
        wire = encode_spans(project(make_call(1)._replace(items=items), RESOURCE)).SerializeToString()
        text = str(encode_spans(project(make_call(1)._replace(items=items), RESOURCE)))
        assert pseudonym.hex().encode() in wire
        for secret in (b"ada", b"example.org", token, token.hex().encode(), pseudonym):
            assert secret not in wire
        assert str(deciding_seq) not in text


def test_every_attribute_sent_is_in_the_reference_with_its_carrier() -> None:
    single = encoded(project(make_call(1), RESOURCE))
    small = encoded(project(make_call(1, items=2), RESOURCE))
    large = encoded(project(make_call(1, items=501), RESOURCE))
    sent = {
        "check": set(single[0].attributes),
        "batch": set(small[0].attributes) | set(large[0].attributes),
        "items": set(large[1].attributes),
        "event": set(small[0].events[0].attributes) | set(large[1].events[0].attributes),
    }
    listed = {carrier: {row.name for row in ATTRIBUTES if carrier in row.carriers} for carrier in sent}
    assert sent == listed


def ids_of(call: CallRecord) -> list[str]:
    return [str(uuid.UUID(bytes=item_id(call.call_id, index))) for index in range(len(call.items))]


def encoded(spans: list[ReadableSpan]) -> list[ReceivedSpan]:
    """What a receiver gets."""
    return list(read_spans(encode_spans(spans)))
