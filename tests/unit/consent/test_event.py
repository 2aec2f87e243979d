"""Canonical event bytes: pinned by vectors, round-tripped, and strict."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent import event as ev
from consent.errors import ConsentError, MalformedEvent, UnknownEventType
from consent.eventlog.acknowledgement import NO_STATE_ROOT, Receipt
from consent.eventlog.journal_head import DisposalGround, HeadKind, JournalDisposal, JournalHead, WeakestMode

VECTORS = Path(__file__).parents[2] / "vectors" / "event" / "canonical.json"

_TOKEN = bytes(range(16))
_OTHER = bytes(range(16, 32))
_HEAD = JournalHead(
    sidecar_id="pod-1",
    chain_id=_TOKEN,
    number=3,
    kind=HeadKind.PERIODIC,
    at_ms=16,
    segment=1,
    frame=2,
    chain_hash=bytes(range(32)),
    decisions=17,
    first_id=_TOKEN,
    last_id=_OTHER,
    answered=18,
    unrecorded=1,
    weakest_mode=WeakestMode.ASYNC,
    torn_bytes=5,
    previous_head_hash=bytes(range(32, 64)),
    signature=bytes(range(64)),
)
_DISPOSAL = JournalDisposal(
    sidecar_id="pod-1",
    chain_id=_TOKEN,
    first_segment=0,
    last_segment=6,
    chain_hash=bytes(range(32)),
    decisions=19,
    oldest_ms=20,
    newest_ms=21,
    ground=DisposalGround.SIZE,
    disposed_at_ms=22,
    signature=bytes(range(64)),
)
SAMPLES: dict[str, ev.Event] = {
    "directive": ev.DirectiveEvent(
        origin="consent.example/log",
        key_epoch=1,
        request_id=bytes(range(1, 17)),
        source="web",
        token=_TOKEN,
        kind=2,
        occurred_at_ms=1_767_225_600_000,
        purpose="direct_marketing",
        proof=1,
        assurance=1,
        flags=ev.DirectiveFlag.TIME_CLAMPED,
    ),
    "grant with every field": ev.DirectiveEvent(
        origin="consent.example/log",
        source="wéb",
        token=_TOKEN,
        kind=1,
        occurred_at_ms=-1,
        purpose="*",
        proof=3,
        assurance=2,
        subtree=True,
        explicit=True,
        granted_by=2,
        notice_version=2**63,
        recipient="partner.example",
        expires_at_ms=1_900_000_000_000,
    ),
    "link": ev.LinkEvent(origin="o", left=_TOKEN, right=_OTHER, proof=2, occurred_at_ms=5),
    "unlink": ev.UnlinkEvent(origin="o", left=_TOKEN, right=_OTHER, occurred_at_ms=6),
    "fact": ev.FactEvent(
        origin="o", token=_TOKEN, age_band=1, proof=3, occurred_at_ms=7, jurisdictions=("EU", "US-CA")
    ),
    "restriction": ev.RestrictionEvent(origin="o", token=_TOKEN, restricted=True, proof=0, occurred_at_ms=8),
    "policy": ev.PolicyEvent(origin="o", version=2, replaces_version=1, document=b'{"purposes":{}}'),
    "override": ev.OverrideEvent(
        origin="o", token=_TOKEN, objection_seq=9, occurred_at_ms=10, purpose="research", ground="legal claim"
    ),
    "erasure": ev.ErasureEvent(
        origin="o", key_epoch=1, tokens=(_TOKEN, _OTHER), seqs=(2, 3, 70_000), occurred_at_ms=14
    ),
    "key epoch": ev.KeyEpochEvent(origin="o", epoch=0, key_commitment=bytes(32)),
    "enrol": ev.EnrolEvent(
        origin="o",
        sidecar_id="pod-1",
        public_key=bytes(range(32)),
        enrolled_at_ms=14,
        possession=bytes(range(64)),
    ),
    "retire": ev.RetireEvent(origin="o", sidecar_id="pod-1", retired_at_ms=15),
    "state root": ev.StateRootEvent(origin="o", size=11, state_root_hash=bytes(range(32))),
    "received": ev.ReceivedEvent(origin="o", received_at_ms=12, request_type=1),
    "rejected": ev.RejectedEvent(origin="o", rejected_at_ms=13, rejection="PURPOSE_UNKNOWN"),
    "receipts": ev.ReceiptsEvent(
        origin="o",
        receipts=(
            Receipt("pod-1", 16, bytes(range(32)), NO_STATE_ROOT, 17, bytes(range(64))),
            Receipt("pod-2", 18, bytes(range(32)), bytes(range(32, 64)), -1, bytes(64)),
        ),
    ),
    "journal heads": ev.JournalHeadsEvent(
        origin="o", received_at_ms=19, heads=(_HEAD, replace(_HEAD, number=4, kind=4))
    ),
    "admin": ev.AdminEvent(
        origin="o", occurred_at_ms=20, action="S/M", role="administrator", actor="ops", outcome="OK", detail="policy 2"
    ),
    "disposal": ev.DisposalEvent(origin="o", received_at_ms=21, disposals=(_DISPOSAL,)),
    "alert": ev.AlertEvent(origin="o", raised_at_ms=22, alert="JOURNAL_SILENT", about="pod-1", is_over=True),
}


def test_format_event_samples_have_the_bytes_that_the_vectors_pin() -> None:
    pinned = json.loads(VECTORS.read_text(encoding="utf-8"))["events"]
    assert {name: ev.format_event(sample).hex() for name, sample in SAMPLES.items()} == {
        vector["name"]: vector["event_bytes"] for vector in pinned
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_parse_event_formatted_sample_is_the_sample(name: str) -> None:
    assert ev.parse_event(ev.format_event(SAMPLES[name])) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_parse_event_truncated_anywhere_is_refused(name: str) -> None:
    event_bytes = ev.format_event(SAMPLES[name])
    for end in range(len(event_bytes)):
        with pytest.raises(ConsentError):
            ev.parse_event(event_bytes[:end])


@pytest.mark.parametrize("name", SAMPLES)
def test_parse_event_with_a_byte_too_many_is_refused(name: str) -> None:
    with pytest.raises(MalformedEvent, match="left over"):
        ev.parse_event(ev.format_event(SAMPLES[name]) + b"\x00")


def test_parse_event_unknown_type_that_changes_answers_is_refused() -> None:
    with pytest.raises(UnknownEventType):
        ev.parse_event(b"\x01\x7f" + bytes(40))


def test_parse_event_newer_version_of_a_type_that_changes_answers_is_refused() -> None:
    event_bytes = ev.format_event(SAMPLES["directive"])
    with pytest.raises(UnknownEventType):
        ev.parse_event(b"\x02" + event_bytes[1:])


def test_parse_event_unknown_informative_type_is_passed_over() -> None:
    event = ev.parse_event(b"\x01\xfe" + b"whatever")
    assert isinstance(event, ev.OpaqueEvent)
    assert event.type_byte == 0xFE


def test_parse_event_string_not_in_nfc_is_refused() -> None:
    composed = ev.format_event(replace(SAMPLES["link"], source="é"))
    decomposed = composed.replace("é".encode(), "e\u0301".encode()).replace(b"\x00\x02e", b"\x00\x03e")
    with pytest.raises(MalformedEvent, match="NFC"):
        ev.parse_event(decomposed)


def test_parse_event_flag_of_another_value_is_refused() -> None:
    plain = ev.format_event(SAMPLES["restriction"])
    at = plain.index(_TOKEN) + 16
    with pytest.raises(MalformedEvent, match="flag"):
        ev.parse_event(plain[:at] + b"\x02" + plain[at + 1 :])


@given(st.binary(max_size=200))
def test_parse_event_any_bytes_raise_only_our_errors(event_bytes: bytes) -> None:
    try:
        event = ev.parse_event(event_bytes)
    except ConsentError:
        return
    if not isinstance(event, ev.OpaqueEvent):
        assert ev.format_event(event) == event_bytes


@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 400), st.integers(1, 255))
def test_parse_event_flipped_byte_is_another_event_or_refused(name: str, at: int, flip: int) -> None:
    event_bytes = bytearray(ev.format_event(SAMPLES[name]))
    event_bytes[at % len(event_bytes)] ^= flip
    try:
        event = ev.parse_event(bytes(event_bytes))
    except ConsentError:
        return
    assert event != SAMPLES[name]


def test_layouts_every_field_of_every_event_is_written_once() -> None:
    for event_class, layout in ev.LAYOUTS.items():
        written = [name for name, _ in layout]
        assert sorted(written) == sorted(field.name for field in fields(event_class))


def make_vectors() -> dict[str, Any]:
    """The content of the vector file, for a version that adds events: existing bytes never change."""
    events = [
        {"name": name, "type": f"0x{sample.TYPE:02x}", "event_bytes": ev.format_event(sample).hex()}
        for name, sample in SAMPLES.items()
    ]
    return {
        "about": "Canonical event bytes, hex. Fields: tests/unit/consent/test_event.py and docs/protocol.md.",
        "events": events,
    }
