"""Spans of entries that came into force: children of what the entry names, and the same ones each time."""

from dataclasses import replace

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

from hosting.telemetry.attributes import ATTRIBUTES
from journal.applied import AppliedBatch, AppliedEntry
from sidecar.telemetry.apply_spans import project_applied
from tests.fakes.otlp_receiver import ReceivedSpan, read_spans

TRACE_ID, SPAN_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
ENTRY = AppliedEntry(7, 1, TRACE_ID, SPAN_ID, 0)
BATCH = AppliedBatch("log.example/consents", 1_000, 1_005, 8, (ENTRY, replace(ENTRY, seq=8, event_type=0x7F)))


def project(batch: AppliedBatch, sidecar_id: str = "pod-1") -> list[ReceivedSpan]:
    """What a receiver gets."""
    return list(read_spans(encode_spans(project_applied(batch, Resource({}), sidecar_id))))


def test_apply_spans_are_children_of_what_the_entries_name_also_where_the_caller_does_not_sample() -> None:
    first, second = project(BATCH)
    assert (first.name, first.kind, first.trace_id) == ("consent.apply", "CONSUMER", TRACE_ID.hex())
    assert first.parent_span_id == second.parent_span_id == SPAN_ID.hex()
    assert first.span_id != second.span_id
    assert (first.start_ns, first.end_ns) == (1_000_000_000, 1_005_000_000)
    assert first.attributes == {
        "consent.log.origin": "log.example/consents",
        "consent.log.size": 8,
        "consent.log.seq": 7,
        "consent.event.type": "DIRECTIVE",
    }
    assert second.attributes["consent.event.type"] == "127"
    assert set(first.attributes) == {row.name for row in ATTRIBUTES if "apply" in row.carriers}


def test_apply_spans_are_the_same_again_and_others_at_another_sidecar() -> None:
    assert project(BATCH) == project(BATCH)
    here, there = ({span.span_id for span in project(BATCH, name)} for name in ("pod-1", "pod-2"))
    assert here.isdisjoint(there)


def test_apply_span_does_not_end_before_it_begins_where_the_clock_was_set_back() -> None:
    (span, _) = project(replace(BATCH, started_ms=2_000))
    assert span.start_ns == span.end_ns
