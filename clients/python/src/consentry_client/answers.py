"""Answers out of protobuf messages. Whatever does not clearly say ALLOW is a deny."""

import uuid
from collections.abc import Callable
from typing import TypeVar

from consentry.decision.v1 import decision_pb2
from google.protobuf.message import DecodeError, Message

from consentry_client.decision import Decision, Effect, Reason
from consentry_client.failure import UNREADABLE, Failure

_M = TypeVar("_M", bound=Message)

_ID_BYTES = 16
_ID_MODULUS = 1 << 128
# Last millisecond of the year 9999: what a datetime can hold.
_TIME_MS_MAX = 253_402_300_799_999
_REASONS: dict[int, Reason] = {
    number: Reason(name.removeprefix("REASON_")) for name, number in decision_pb2.Reason.items()
}
# An ALLOW must come with one of these: an effect and a reason that contradict each other say nothing.
_REASONS_TO_ALLOW = frozenset(
    {
        Reason.WITHHELD,
        Reason.MANDATORY_BASIS,
        Reason.GRANTED,
        Reason.GRANTED_STALE,
        Reason.NO_CHOICE_REQUIRED,
        Reason.NO_CHOICE_REQUIRED_STALE,
        Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN,
        Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE,
        Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN,
        Reason.ALL_PURPOSES_ALLOWED,
    }
)


def decode_message(parse: Callable[[bytes], _M], outcome: bytes | Failure) -> _M | Failure:
    """Parses what came of a call; bytes that are no such message are an unreadable answer."""
    if isinstance(outcome, Failure):
        return outcome
    try:
        return parse(outcome)
    except DecodeError:
        return UNREADABLE


def read_check(answer: decision_pb2.CheckResponse) -> Decision | Failure:
    """Reads the answer to one question."""
    record = _read_id(answer.decision_id)
    return _read_item(answer.effect, answer.reason, answer.deciding_seq, answer.valid_until_ms, record, answer)


def read_batch(answer: decision_pb2.CheckBatchResponse, items: int) -> list[Decision | Failure] | Failure:
    """Reads the answers to a batch, one for each subject in order.

    An array of another length makes the whole batch unreadable: nobody could tell whose answer is whose.
    """
    arrays = (answer.effects, answer.reasons, answer.deciding_seqs, answer.valid_until_ms)
    if any(len(array) != items for array in arrays):
        return UNREADABLE
    first = _read_id(answer.decision_id)
    decisions = []
    for index, (effect, reason, seq, valid_until_ms) in enumerate(zip(*arrays, strict=True)):
        record = uuid.UUID(int=(first.int + index) % _ID_MODULUS) if first else None
        decisions.append(_read_item(effect, reason, seq, valid_until_ms, record, answer))
    return decisions


def _read_id(id_bytes: bytes) -> uuid.UUID | None:
    return uuid.UUID(bytes=id_bytes) if len(id_bytes) == _ID_BYTES else None


def _read_item(
    effect: int,
    reason_number: int,
    deciding_seq: int,
    valid_until_ms: int,
    record: uuid.UUID | None,
    shared: decision_pb2.CheckResponse | decision_pb2.CheckBatchResponse,
) -> Decision | Failure:
    reason = _REASONS.get(reason_number, Reason.CLIENT_REASON_UNKNOWN)
    if effect == decision_pb2.EFFECT_ALLOW:
        # 1. a reason that can allow, 2. an id, for without a record there is no permit, 3. a time that is one.
        if reason not in _REASONS_TO_ALLOW or record is None or not 0 <= valid_until_ms <= _TIME_MS_MAX:
            return UNREADABLE
    elif effect == decision_pb2.EFFECT_DENY:
        valid_until_ms = 0
    else:
        return UNREADABLE
    return Decision(
        effect=Effect.ALLOW if effect == decision_pb2.EFFECT_ALLOW else Effect.DENY,
        reason=reason,
        decision_id=record,
        deciding_seq=deciding_seq,
        log_size=shared.log_size,
        policy_version=shared.policy_version,
        staleness_ms=shared.staleness_ms,
        valid_until_ms=valid_until_ms,
    )
