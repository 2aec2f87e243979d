"""Trails: what they prove, and every way in which the feed could make one up."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consent.event import DirectiveEvent, EventType
from consent.eventlog.errors import (
    EventLogError,
    InvalidAcknowledgement,
    InvalidPossession,
    InvalidProof,
    InvalidTrail,
    MalformedTrail,
)
from consent.eventlog.merkle import commit
from consent.trail import Trail, verify_trail
from consent.trail_file import format_trail, parse_trail
from tests.fakes.signing_feed import LOG_KEY, START_MS, STOLEN_KEY, TRUST
from tests.fakes.trails import TrailLog, make_sidecar_key, make_trail


def test_verify_trail_says_since_when_the_entry_is_in_force_everywhere() -> None:
    verified = verify_trail(make_trail(), TRUST)
    assert isinstance(verified.event, DirectiveEvent)
    assert (verified.seq, verified.received_at_ms) == (5, START_MS + 1)
    assert [(word.sidecar_id, word.enrolled_seq, word.size, word.applied_at_ms) for word in verified.sidecars] == [
        ("pod-1", 2, 5, START_MS + 5),
        ("pod-2", 3, 6, START_MS + 9),
    ]
    assert (verified.lacking, verified.in_force_everywhere_at_ms) == ((), START_MS + 9)


def test_verify_trail_sidecar_without_a_receipt_is_named() -> None:
    log = TrailLog()
    log.enrol("pod-1")
    log.enrol("pod-2")
    seq = log.opt_out()
    receipts_seq = log.log_receipts(log.sign("pod-1", seq))
    verified = verify_trail(log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq), log.sidecar("pod-2")]), TRUST)
    assert (verified.lacking, verified.in_force_everywhere_at_ms) == (("pod-2",), None)


def test_verify_trail_without_sidecars_is_in_force_nowhere() -> None:
    log = TrailLog()
    verified = verify_trail(log.trail(log.opt_out(), []), TRUST)
    assert (verified.lacking, verified.in_force_everywhere_at_ms) == ((), None)


def test_verify_trail_erased_outcome_is_proven_by_its_commitment() -> None:
    trail = make_trail()
    erased = tuple(
        replace(entry, opening=b"", event_bytes=b"", commitment=commit(entry.opening, entry.event_bytes))
        if entry.seq == trail.seq
        else entry
        for entry in trail.entries
    )
    verified = verify_trail(replace(trail, entries=erased), TRUST)
    assert (verified.event, verified.type_byte) == (None, EventType.DIRECTIVE)
    assert verified.in_force_everywhere_at_ms == START_MS + 9


def receipt_of_an_earlier_size(log: TrailLog) -> Trail:
    seq = log.opt_out()
    receipts_seq = log.log_receipts(log.sign("pod-1", seq - 1))
    return log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq - 1)])


def receipt_by_another_key(log: TrailLog) -> Trail:
    seq = log.opt_out()
    log.keys["pod-1"] = make_sidecar_key("pod-1", seed=9)
    receipts_seq = log.log_receipts(log.sign("pod-1", seq))
    return log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq)])


def receipt_of_another_sidecar(log: TrailLog) -> Trail:
    log.enrol("pod-2")
    seq = log.opt_out()
    receipts_seq = log.log_receipts(log.sign("pod-2", seq))
    return log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq)])


def receipt_of_another_history(log: TrailLog) -> Trail:
    seq = log.opt_out()
    receipts_seq = log.log_receipts(log.sign("pod-1", seq, root_hash=bytes(32)))
    return log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq)])


def receipt_before_the_enrolment(log: TrailLog) -> Trail:
    seq = log.opt_out()
    receipts_seq = log.log_receipts(log.sign("pod-1", seq))
    log.enrol("pod-1", log.keys["pod-1"])
    return log.trail(seq, [log.sidecar("pod-1", receipts_seq, seq)])


def enrolment_without_the_key(log: TrailLog) -> Trail:
    log.enrol("pod-2", make_sidecar_key("pod-2"), possession=bytes(64))
    return log.trail(log.opt_out(), [log.sidecar("pod-2")])


def enrolment_of_another(log: TrailLog) -> Trail:
    log.enrol("pod-2")
    log.enrol_seqs["pod-1"] = log.enrol_seqs["pod-2"]
    return log.trail(log.opt_out(), [log.sidecar("pod-1")])


def request_in_place_of_its_outcome(log: TrailLog) -> Trail:
    return log.trail(log.opt_out() - 1, [log.sidecar("pod-1")])


def outcome_left_out(log: TrailLog) -> Trail:
    trail = log.trail(log.opt_out(), [log.sidecar("pod-1")])
    return replace(trail, entries=tuple(entry for entry in trail.entries if entry.seq != trail.seq))


def entry_of_another_place(log: TrailLog) -> Trail:
    trail = log.trail(log.opt_out(), [])
    return replace(trail, entries=(replace(log.entry(2), seq=trail.seq, audit_path=trail.entries[0].audit_path),))


def sidecar_twice(log: TrailLog) -> Trail:
    return log.trail(log.opt_out(), [log.sidecar("pod-1"), log.sidecar("pod-1")])


def entry_twice(log: TrailLog) -> Trail:
    trail = log.trail(log.opt_out(), [])
    return replace(trail, entries=trail.entries * 2)


@pytest.mark.parametrize(
    ("forge", "error"),
    [
        (receipt_of_an_earlier_size, InvalidTrail),
        (receipt_by_another_key, InvalidAcknowledgement),
        (receipt_of_another_sidecar, InvalidTrail),
        (receipt_of_another_history, InvalidProof),
        (receipt_before_the_enrolment, InvalidTrail),
        (enrolment_without_the_key, InvalidPossession),
        (enrolment_of_another, InvalidTrail),
        (request_in_place_of_its_outcome, InvalidTrail),
        (outcome_left_out, InvalidTrail),
        (entry_of_another_place, InvalidProof),
        (sidecar_twice, MalformedTrail),
        (entry_twice, MalformedTrail),
    ],
)
def test_verify_trail_forged_is_refused_by_name(forge: Callable[[TrailLog], Trail], error: type[EventLogError]) -> None:
    log = TrailLog()
    log.enrol("pod-1")
    with pytest.raises(error):
        verify_trail(forge(log), TRUST)


def test_verify_trail_checkpoint_by_another_key_is_refused() -> None:
    log = TrailLog()
    trail = log.trail(log.opt_out(), [])
    assert LOG_KEY != STOLEN_KEY
    with pytest.raises(EventLogError) as caught:
        verify_trail(replace(trail, checkpoint_note=log.feed.checkpoint(log_key=STOLEN_KEY)), TRUST)
    assert caught.value.reason == "INSUFFICIENT_SIGNATURES"


def test_trail_file_round_trips() -> None:
    trail = make_trail()
    assert parse_trail(format_trail(trail)) == trail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format":1e999}',
        b"[" * 100_000,
        b"1" * 5_000,
        format_trail(make_trail()).replace(b'"seq":5,', b'"seq":true,'),
        format_trail(make_trail()).replace(b'"receipts_seq":7', b'"receipts_seq":-7'),
        format_trail(make_trail()).replace(b"consentry/trail/v1", b"consentry/trail/v2"),
        format_trail(make_trail()).replace(b'"sidecar_id":"pod-1"', b'"sidecar_id":1'),
        format_trail(make_trail()).replace(b'{"audit_path":[', b'{"audit_path":["!",'),
        format_trail(make_trail()).replace(b'"entries":[', b'"entries":[1,'),
        format_trail(make_trail()) + b"\n",
        format_trail(make_trail()).replace(b'"seq":5', b'"seq": 5'),
    ],
)
def test_parse_trail_malformed_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedTrail):
        parse_trail(content)
