"""Decision messages to and from the words of `sidecar.check`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from google.protobuf.message import DecodeError, Message

from consent.decide import Decision, RuleResult
from consent.vocabulary.directive import ANY, AgeBand, Facts
from consent.vocabulary.reason import OPERATIONAL_REASONS, Effect, Reason
from sidecar.check import MAX_WAIT_MS, NEVER_SEQ, Answer, Caller, Detail, Identifier, Question, normalise_name
from sidecar.errors import InvalidArgument
from sidecar.ports import EntryProof, LogHead, SidecarStatus, SyncState

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_BATCH_SUBJECTS = 10_000
MAX_IDENTIFIERS = 32
MAX_NAMES = 100
MAX_NAME_CHARACTERS = 256
MAX_VALUE_CHARACTERS = 1024
_CACHED_BYTES = 512
_CACHED_PURPOSES = 8

REASON_TO_WIRE = {reason: decision_pb2.Reason.Value(f"REASON_{reason.value}") for reason in Reason}
_EFFECT_TO_WIRE = {Effect.ALLOW: decision_pb2.EFFECT_ALLOW, Effect.DENY: decision_pb2.EFFECT_DENY}
_STATE_TO_WIRE = {state: decision_pb2.SyncState.Value(f"SYNC_STATE_{state.value}") for state in SyncState}
_KNOWN_AGE_BANDS = frozenset(int(band) for band in AgeBand)

M = TypeVar("M", bound=Message)


def decode(message_type: type[M], message_bytes: bytes) -> M:
    """Parse a message.

    Raises:
        InvalidArgument: The bytes are not one, or too many.
    """
    if len(message_bytes) > MAX_MESSAGE_BYTES:
        raise InvalidArgument(f"{message_type.DESCRIPTOR.name} is larger than {MAX_MESSAGE_BYTES} bytes")
    try:
        return message_type.FromString(message_bytes)
    except DecodeError:
        raise InvalidArgument(
            f"{message_type.DESCRIPTOR.name} cannot be decoded: malformed, or a string is not UTF-8"
        ) from None


def read_subject(subject: decision_pb2.Subject, field: str) -> tuple[Identifier, ...]:
    """The identifiers of one person; raises InvalidArgument beyond the limits."""
    if len(subject.identifiers) > MAX_IDENTIFIERS:
        raise InvalidArgument(f"{field}.identifiers: more than {MAX_IDENTIFIERS}")
    return tuple(_read_identifier(identifier, field) for identifier in subject.identifiers)


def _read_identifier(identifier: event_pb2.Identifier, field: str) -> Identifier:
    if len(identifier.value) > MAX_VALUE_CHARACTERS or len(identifier.token) > MAX_VALUE_CHARACTERS:
        raise InvalidArgument(f"{field}.identifiers: a value is longer than {MAX_VALUE_CHARACTERS} characters")
    return Identifier(identifier.namespace, identifier.value, identifier.token, identifier.key_epoch)


def read_question(
    purposes: Sequence[str], context: decision_pb2.Context, consistency: decision_pb2.Consistency, origin: str
) -> Question:
    """What is asked about each subject.

    Args:
        purposes: Of the message.
        context: Of the message.
        consistency: Of the message.
        origin: Name of the log held: a token of another log can never be satisfied.

    Raises:
        InvalidArgument: Beyond the limits.
    """
    context.DiscardUnknownFields()
    context_bytes = context.SerializeToString()
    is_ordinary = len(context_bytes) <= _CACHED_BYTES and len(purposes) <= _CACHED_PURPOSES
    read = _read_repeated if is_ordinary else _read_repeated.__wrapped__
    question = read(tuple(purposes), context_bytes)
    token = consistency.min
    if not token.seq:
        return question
    min_seq = min(token.seq, NEVER_SEQ) if token.origin in ("", origin) else NEVER_SEQ
    return replace(question, min_seq=min_seq, wait_ms=min(consistency.wait_ms, MAX_WAIT_MS))


# A service asks the same few questions about ever new people.
@lru_cache(maxsize=1024)
def _read_repeated(purposes: tuple[str, ...], context_bytes: bytes) -> Question:
    context = decision_pb2.Context.FromString(context_bytes)
    age_band = int(context.age_band)
    is_understood = age_band in _KNOWN_AGE_BANDS
    return Question(
        purposes=_read_names(purposes, "purposes"),
        facts=Facts(age_band if is_understood else 0, _read_names(context.jurisdictions, "context.jurisdictions")),
        sec_gpc=context.sec_gpc,
        recipient=_read_names((context.recipient,), "context.recipient")[0] or ANY,
        data_categories=tuple(sorted(_read_names(context.data_categories, "context.data_categories"))),
        is_understood=is_understood,
    )


def _read_names(names: Sequence[str], field: str) -> tuple[str, ...]:
    if len(names) > MAX_NAMES:
        raise InvalidArgument(f"{field}: more than {MAX_NAMES}")
    if any(len(name) > MAX_NAME_CHARACTERS for name in names):
        raise InvalidArgument(f"{field}: a name is longer than {MAX_NAME_CHARACTERS} characters")
    return tuple(map(normalise_name, names))


Group = tuple[Question, list[tuple[Identifier, ...]]]


def read_batch(batch: decision_pb2.CheckBatchRequest, origin: str) -> list[Group]:
    """The groups of a batch; raises InvalidArgument where it is empty or beyond the limits."""
    count = sum(len(group.values) + len(group.subjects) for group in batch.groups)
    if count == 0:
        raise InvalidArgument("groups: the batch has no subject")
    if count > MAX_BATCH_SUBJECTS:
        raise InvalidArgument(f"groups: {count} subjects, the most is {MAX_BATCH_SUBJECTS}")
    return [_read_group(group, batch.consistency, origin, number) for number, group in enumerate(batch.groups)]


def _read_group(
    group: decision_pb2.BatchGroup, consistency: decision_pb2.Consistency, origin: str, number: int
) -> Group:
    field = f"groups[{number}]"
    if group.values and group.subjects:
        raise InvalidArgument(f"{field}: values and subjects exclude each other")
    if any(len(value) > MAX_VALUE_CHARACTERS for value in group.values):
        raise InvalidArgument(f"{field}.values: one is longer than {MAX_VALUE_CHARACTERS} characters")
    question = read_question(group.purposes, group.context, consistency, origin)
    namespace = group.namespace
    subjects: list[tuple[Identifier, ...]] = [(Identifier(namespace, value),) for value in group.values]
    return question, subjects or [read_subject(subject, f"{field}.subjects") for subject in group.subjects]


def write_check(answer: Answer, caller: Caller) -> decision_pb2.CheckResponse:
    """The answer to a Check, with as much detail as the caller may see."""
    decision = answer.decisions[0]
    reason, seq = _disclose(decision, caller.detail)
    return decision_pb2.CheckResponse(
        effect=_EFFECT_TO_WIRE[decision.effect],
        reason=reason,
        deciding_seq=seq,
        log_size=answer.log_size,
        policy_version=answer.policy_version,
        staleness_ms=answer.staleness_ms,
        valid_until_ms=decision.valid_until_ms,
        decision_id=answer.call_id,
    )


def write_batch(answers: Sequence[Answer], caller: Caller) -> decision_pb2.CheckBatchResponse:
    """The answers to a batch; where its groups saw different states, the oldest is named."""
    decisions = [decision for answer in answers for decision in answer.decisions]
    disclosed = [_disclose(decision, caller.detail) for decision in decisions]
    return decision_pb2.CheckBatchResponse(
        effects=[_EFFECT_TO_WIRE[decision.effect] for decision in decisions],
        reasons=[reason for reason, _ in disclosed],
        deciding_seqs=[seq for _, seq in disclosed],
        valid_until_ms=[decision.valid_until_ms for decision in decisions],
        log_size=min(answer.log_size for answer in answers),
        policy_version=min(answer.policy_version for answer in answers),
        staleness_ms=max(answer.staleness_ms for answer in answers),
        decision_id=answers[0].call_id,
    )


def _disclose(decision: Decision, detail: Detail) -> tuple["decision_pb2.Reason.ValueType", int]:
    if detail is Detail.FULL or decision.reason in OPERATIONAL_REASONS:
        return REASON_TO_WIRE[decision.reason], decision.deciding_seq
    return decision_pb2.REASON_WITHHELD, 0


def write_explanation(
    check: decision_pb2.CheckResponse, rules: Sequence[RuleResult], proof: EntryProof | None, head: LogHead
) -> decision_pb2.ExplainResponse:
    """An answer with the rules tried and, where an event decided, its proof."""
    response = decision_pb2.ExplainResponse(
        check=check,
        rules=[
            decision_pb2.RuleTrace(rule=rule.rule, purpose=rule.purpose, fired=rule.fired, note=RULE_NOTES[rule.rule])
            for rule in rules
        ],
        proof_unavailable=proof is None and check.deciding_seq > 0,
    )
    if proof is not None:
        entry = proof.entry
        response.deciding_event.CopyFrom(
            decision_pb2.DecidingEvent(
                seq=check.deciding_seq,
                entry=event_pb2.Entry(type=entry.type_byte, opening=entry.opening, event_bytes=entry.event_bytes),
                inclusion_proof=proof.audit_path,
                tree_size=head.size,
                root_hash=head.frontier.root_hash(),
                checkpoint=head.checkpoint.note if head.checkpoint is not None else b"",
            )
        )
    return response


def write_status(status: SidecarStatus) -> decision_pb2.GetStatusResponse:
    """What the sidecar says of itself."""
    return decision_pb2.GetStatusResponse(
        sidecar_id=status.sidecar_id,
        tenant=status.tenant,
        log_origin=status.origin,
        log_size=status.head.size,
        root_hash=status.head.frontier.root_hash(),
        policy_version=status.head.tenant.policy_version,
        staleness_ms=status.staleness_ms,
        cache_generation=status.generation,
        sync_state=_STATE_TO_WIRE[status.sync_state],
        last_error_reason=status.last_error_reason,
        subjects=status.subject_count,
        journal_backlog_records=status.journal_backlog_records,
        version=status.version,
        journal_mode=status.journal_mode,
        enrolled=status.is_enrolled,
        sidecar_key_id=status.key_id,
        unconfirmed_receipts=status.unconfirmed_receipts,
    )


RULE_NOTES = {
    1: "no subject or no purpose, or one that cannot be read",
    2: "a purpose that is not in the policy",
    3: "a caller who may not ask for the purpose",
    4: "a cache that fails its integrity check",
    5: "processing is restricted (GDPR Art. 18)",
    6: "the regime prohibits the purpose",
    7: "the purpose rests on a mandatory legal basis",
    8: "no verified data is held",
    9: "the entry demanded is not known yet",
    10: "the data is too old for the purpose",
    11: "a live denial reaches the purpose",
    12: "a minor without valid consent",
    13: "a Global Privacy Control signal without an account's consent",
    14: "a special category of data without explicit consent",
    15: "a usable grant covers the purpose",
    16: "grants exist and none is usable",
    17: "the regime decides",
}
"""When each rule fires."""
