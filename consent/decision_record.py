"""The decision record: everything that `decide` saw and said, in the form that journals keep and auditors replay.

One record covers one call with one situation and one question; a batch has many items in it. The blocks for situation and question
repeat from call to call, so that a writer can keep their bytes.
"""

import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from consent import encoding as wire
from consent.errors import ConsentError
from consent.vocabulary.reason import Effect, Reason

RECORD_VERSION = 1
NO_AGE = -1

_HEAD = struct.Struct(">B16sqqq16s8s8sBI")
_ITEM = struct.Struct(">BBBBQq")
_REASON_CODES = {reason: code for code, reason in enumerate(Reason, start=2)}
_REASONS = {code: reason for reason, code in _REASON_CODES.items()}


class MalformedRecord(ConsentError):
    """A journal holds bytes that are no decision record. Unexpected: they were authenticated before they were parsed."""

    reason = "MALFORMED_RECORD"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the sidecar held.

    Attributes:
        origin: Name of the log; empty before the first snapshot.
        log_size: Entries known.
        root_hash: 32-byte root of the log at that size.
        policy_version: Version in force, 0 for none.
        checkpoint_time_ms: Unix ms of the newest verified checkpoint for that size, None for none.
        is_intact: The cache passed its integrity checks.
    """

    origin: str
    log_size: int
    root_hash: bytes
    policy_version: int
    checkpoint_time_ms: int | None
    is_intact: bool = True


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """What was asked, apart from whom it was about.

    Attributes:
        caller: Name of the listener or certificate.
        is_caller_permitted: The result of rule 3.
        purposes: As asked.
        jurisdictions: As asked.
        age_band: As asked.
        sec_gpc: As asked.
        recipient: As asked, `*` for the controller.
        data_categories: As asked, sorted.
        min_seq: The consistency demanded, 0 for none.
    """

    caller: str
    is_caller_permitted: bool
    purposes: tuple[str, ...]
    jurisdictions: tuple[str, ...]
    age_band: int
    sec_gpc: bool
    recipient: str
    data_categories: tuple[str, ...]
    min_seq: int


class Item(NamedTuple):
    """One subject of a call, and the answer.

    Attributes:
        pseudonyms: 16-byte audit pseudonyms of the identifiers, in the order asked.
        is_well_formed: As in `decide.Request`.
        effect: The answer.
        reason: Why.
        deciding_seq: Seq of the deciding event, 0 for none.
        valid_until_ms: As answered.
    """

    pseudonyms: tuple[bytes, ...]
    is_well_formed: bool
    effect: Effect
    reason: Reason
    deciding_seq: int
    valid_until_ms: int


class CallRecord(NamedTuple):
    """One call.

    Attributes:
        call_id: 16 bytes; an item's decision id is this plus its index, as a 128-bit number.
        now_ms: Unix ms at which the decision was made.
        age_ms: Age of the checkpoint then, `NO_AGE` without a snapshot.
        latency_us: From the request's arrival to the record.
        trace_id: 16 bytes of the caller's trace, or of one made for this call.
        parent_span_id: 8 bytes, zero without a caller's trace.
        span_id: 8 bytes of the call's own span.
        trace_flags: W3C trace flags.
        situation: `format_situation`'s bytes.
        question: `format_question`'s bytes.
        items: The answers.
    """

    call_id: bytes
    now_ms: int
    age_ms: int
    latency_us: int
    trace_id: bytes
    parent_span_id: bytes
    span_id: bytes
    trace_flags: int
    situation: bytes
    question: bytes
    items: tuple[Item, ...]


_SITUATION = wire.record(
    Situation,
    (
        ("origin", wire.STRING),
        ("log_size", wire.U64),
        ("root_hash", wire.HASH),
        ("policy_version", wire.U64),
        ("checkpoint_time_ms", wire.optional(wire.TIME)),
        ("is_intact", wire.FLAG),
    ),
)
_QUESTION = wire.record(
    AskedQuestion,
    (
        ("caller", wire.STRING),
        ("is_caller_permitted", wire.FLAG),
        ("purposes", wire.sequence(wire.STRING)),
        ("jurisdictions", wire.sequence(wire.STRING)),
        ("age_band", wire.U8),
        ("sec_gpc", wire.FLAG),
        ("recipient", wire.STRING),
        ("data_categories", wire.sequence(wire.STRING)),
        ("min_seq", wire.U64),
    ),
)


def item_id(call_id: bytes, index: int) -> bytes:
    """The decision id of one item: the call's id plus the index, wrapping at 128 bits."""
    if index == 0:
        return call_id
    return ((int.from_bytes(call_id, "big") + index) % (1 << 128)).to_bytes(16, "big")


def format_situation(situation: Situation) -> bytes:
    """The bytes of a situation, good for as long as the sidecar holds the same."""
    return _SITUATION.write(situation)


def parse_situation(block: bytes) -> Situation:
    """Read them back; raises MalformedRecord."""
    situation: Situation = _read(_SITUATION, block)
    return situation


def format_question(question: AskedQuestion) -> bytes:
    """The bytes of a question, good for every subject it is asked about."""
    return _QUESTION.write(question)


def parse_question(block: bytes) -> AskedQuestion:
    """Read them back; raises MalformedRecord."""
    question: AskedQuestion = _read(_QUESTION, block)
    return question


def _read(field: wire.Field, block: bytes) -> Any:
    try:
        return wire.read_whole(field, block)
    except wire.Truncated as error:
        raise MalformedRecord(f"decision record: {error}") from None


def format_record(call: CallRecord) -> bytes:
    """The bytes of a record."""
    head = _HEAD.pack(
        RECORD_VERSION,
        call.call_id,
        call.now_ms,
        call.age_ms,
        call.latency_us,
        call.trace_id,
        call.parent_span_id,
        call.span_id,
        call.trace_flags,
        len(call.items),
    )
    parts = [head, wire.BLOB.write(call.situation), wire.BLOB.write(call.question)]
    for pseudonyms, is_well_formed, effect, reason, deciding_seq, valid_until_ms in call.items:
        is_allow = effect is Effect.ALLOW
        parts.append(
            _ITEM.pack(len(pseudonyms), is_well_formed, is_allow, _REASON_CODES[reason], deciding_seq, valid_until_ms)
        )
        parts.extend(pseudonyms)
    return b"".join(parts)


def parse_record(record: bytes) -> CallRecord:
    """Read a record back.

    Raises:
        MalformedRecord: Not what `format_record` writes.
    """
    try:
        version, *head, count = _HEAD.unpack_from(record)
        if version != RECORD_VERSION:
            raise MalformedRecord(f"decision record of version {version} is not known here")
        situation, at = wire.BLOB.read(record, _HEAD.size)
        question, at = wire.BLOB.read(record, at)
        items = []
        for _ in range(count):
            item, at = _parse_item(record, at)
            items.append(item)
    except (struct.error, wire.Truncated):
        raise MalformedRecord("decision record is cut short") from None
    if at != len(record):
        raise MalformedRecord("decision record has bytes left over")
    return CallRecord._make((*head, situation, question, tuple(items)))


def _parse_item(record: bytes, at: int) -> tuple[Item, int]:
    pseudonym_count, is_well_formed, is_allow, code, deciding_seq, valid_until_ms = _ITEM.unpack_from(record, at)
    at += _ITEM.size
    end = at + 16 * pseudonym_count
    reason = _REASONS.get(code)
    if reason is None or is_well_formed > 1 or is_allow > 1 or end > len(record):
        raise MalformedRecord("decision record: an item is not valid")
    pseudonyms = tuple(record[start : start + 16] for start in range(at, end, 16))
    effect = Effect.ALLOW if is_allow else Effect.DENY
    return Item(pseudonyms, bool(is_well_formed), effect, reason, deciding_seq, valid_until_ms), end
