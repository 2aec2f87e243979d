"""Answers out of messages: whatever does not clearly say ALLOW is a deny."""

import uuid
from typing import Any

import pytest
from consentry.decision.v1 import decision_pb2
from consentry_client.answers import decode_message, read_batch, read_check
from consentry_client.decision import Decision, Effect, Reason
from consentry_client.failure import OUT_OF_TIME, UNREADABLE, Failure
from hypothesis import given
from hypothesis import strategies as st

ID = uuid.UUID(int=2**127 + 5)
ALLOWED: dict[str, Any] = {
    "effect": decision_pb2.EFFECT_ALLOW,
    "reason": decision_pb2.REASON_GRANTED,
    "decision_id": ID.bytes,
}


def test_read_check_of_whole_answer_takes_every_field() -> None:
    answer = decision_pb2.CheckResponse(
        **ALLOWED, deciding_seq=3, log_size=9, policy_version=2, staleness_ms=40, valid_until_ms=1_767_225_600_000
    )
    assert read_check(answer) == Decision(Effect.ALLOW, Reason.GRANTED, ID, 3, 9, 2, 40, 1_767_225_600_000)


@pytest.mark.parametrize(
    "changed",
    [
        {"effect": decision_pb2.EFFECT_UNSPECIFIED},
        {"effect": 3},
        {"effect": -1},
        {"reason": decision_pb2.REASON_UNSPECIFIED},
        {"reason": decision_pb2.REASON_OPT_OUT},
        {"reason": decision_pb2.REASON_CACHE_INTEGRITY},
        {"reason": 4711},
        {"decision_id": b""},
        {"decision_id": bytes(15)},
        {"valid_until_ms": -1},
        {"valid_until_ms": 2**63 - 1},
    ],
    ids=lambda changed: next(iter(changed.items())),
)
def test_read_check_of_doubtful_allow_is_unreadable(changed: dict[str, Any]) -> None:
    assert read_check(decision_pb2.CheckResponse(**{**ALLOWED, **changed})) == UNREADABLE


@pytest.mark.parametrize("name", decision_pb2.Reason.keys())
def test_read_check_allows_only_with_reasons_that_allow(name: str) -> None:
    read = read_check(decision_pb2.CheckResponse(**{**ALLOWED, "reason": decision_pb2.Reason.Value(name)}))
    allowing = {
        "WITHHELD", "MANDATORY_BASIS", "GRANTED", "GRANTED_STALE", "NO_CHOICE_REQUIRED", "NO_CHOICE_REQUIRED_STALE",
        "DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN", "DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE",
        "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN", "ALL_PURPOSES_ALLOWED",
    }  # fmt: skip
    assert isinstance(read, Decision) is (name.removeprefix("REASON_") in allowing)


def test_read_check_of_deny_for_unknown_reason_stays_a_deny() -> None:
    read = read_check(decision_pb2.CheckResponse(effect=decision_pb2.EFFECT_DENY, reason=4711, valid_until_ms=5))  # type: ignore[arg-type]
    assert read == Decision(Effect.DENY, Reason.CLIENT_REASON_UNKNOWN)


@given(st.binary(max_size=80))
def test_read_check_of_any_bytes_allows_only_what_says_so(answer_bytes: bytes) -> None:
    answer = decode_message(decision_pb2.CheckResponse.FromString, answer_bytes)
    read = answer if isinstance(answer, Failure) else read_check(answer)
    if isinstance(read, Decision) and read.allowed:
        assert isinstance(answer, decision_pb2.CheckResponse)
        assert answer.effect == decision_pb2.EFFECT_ALLOW
        assert read.decision_id is not None


def test_decode_message_of_failure_is_that_failure() -> None:
    assert decode_message(decision_pb2.CheckResponse.FromString, OUT_OF_TIME) is OUT_OF_TIME


def test_decode_message_of_garbage_is_unreadable() -> None:
    assert decode_message(decision_pb2.CheckResponse.FromString, b"\xff\xff\xff") == UNREADABLE


def batch(**changed: Any) -> decision_pb2.CheckBatchResponse:
    fields: dict[str, Any] = {
        "effects": [decision_pb2.EFFECT_ALLOW, decision_pb2.EFFECT_DENY],
        "reasons": [decision_pb2.REASON_GRANTED, decision_pb2.REASON_OPT_OUT],
        "deciding_seqs": [4, 6],
        "valid_until_ms": [1000, 0],
        "log_size": 9,
        "policy_version": 2,
        "staleness_ms": 40,
        "decision_id": ID.bytes,
    }
    return decision_pb2.CheckBatchResponse(**{**fields, **changed})


def test_read_batch_of_whole_answer_gives_one_decision_each() -> None:
    assert read_batch(batch(), 2) == [
        Decision(Effect.ALLOW, Reason.GRANTED, ID, 4, 9, 2, 40, 1000),
        Decision(Effect.DENY, Reason.OPT_OUT, uuid.UUID(int=ID.int + 1), 6, 9, 2, 40, 0),
    ]


def test_read_batch_at_the_end_of_the_id_range_wraps() -> None:
    read = read_batch(batch(decision_id=b"\xff" * 16), 2)
    assert isinstance(read, list)
    assert [one.decision_id for one in read if isinstance(one, Decision)] == [
        uuid.UUID(int=2**128 - 1),
        uuid.UUID(int=0),
    ]


@pytest.mark.parametrize("items", [0, 1, 3])
def test_read_batch_with_other_number_of_answers_is_unreadable(items: int) -> None:
    assert read_batch(batch(), items) == UNREADABLE


@pytest.mark.parametrize("array", ["effects", "reasons", "deciding_seqs", "valid_until_ms"])
def test_read_batch_with_one_short_array_is_unreadable(array: str) -> None:
    assert read_batch(batch(**{array: [1]}), 2) == UNREADABLE


def test_read_batch_with_one_doubtful_item_spoils_no_other() -> None:
    read = read_batch(batch(effects=[decision_pb2.EFFECT_UNSPECIFIED, decision_pb2.EFFECT_DENY]), 2)
    assert isinstance(read, list)
    assert read[0] == UNREADABLE
    assert isinstance(read[1], Decision)
