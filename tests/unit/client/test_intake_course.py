"""The course of a person's request, driven without any feed."""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2
from consentry_client import (
    Assurance,
    ConsistencyToken,
    DirectiveKind,
    GrantedBy,
    Identifier,
    IntakeError,
    Proof,
    device,
    email,
    phone,
    user,
)
from consentry_client.evidence import evidence_digest
from consentry_client.exchange import Call, Outcome, Pause
from consentry_client.failure import classify_status
from consentry_client.intake_course import Acceptance, IntakeSettings, record_directive, record_link

UNAVAILABLE = classify_status("UNAVAILABLE")
ANSWER = intake_pb2.RecordDirectiveResponse(
    request_id=uuid.UUID(int=9).bytes,
    token=event_pb2.ConsistencyToken(origin="log", seq=3),
    accepted_at_ms=1_767_225_600_000,
    replayed=True,
)
REFUSALS = {
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "ALREADY_EXISTS",
    "UNAUTHENTICATED",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
}
EVIDENCE = bytes(range(32))
SECRET = "ada@example.com"
OPT_OUT, GRANT = DirectiveKind.OPT_OUT, DirectiveKind.GRANT


class Desk:
    """Plays the feed; records calls and pauses, and lets time pass."""

    def __init__(self, *outcomes: Outcome, seconds: float = 0.1, **settings: Any) -> None:
        self.now = 50.0
        self.seconds = seconds
        self.outcomes = list(outcomes)
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        chosen: dict[str, Any] = {"timeout_seconds": 10.0, "attempts_max": 5, "jitter": lambda: 1.0} | settings
        self.settings = IntakeSettings(monotonic=lambda: self.now, **chosen)

    def record(self, kind: DirectiveKind = DirectiveKind.OPT_OUT, subject: Any = None, **options: Any) -> Acceptance:
        return self.run(record_directive(self.settings, kind, subject or email(SECRET), "p", options))  # type: ignore[arg-type]

    def run(self, course: Any) -> Acceptance:
        try:
            step = next(course)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = course.send(None)
                else:
                    self.calls.append(step)
                    self.now += self.seconds
                    step = course.send(self.outcomes.pop(0))
        except StopIteration as end:
            accepted: Acceptance = end.value
            return accepted

    @property
    def directive(self) -> intake_pb2.Directive:
        return intake_pb2.RecordDirectiveRequest.FromString(self.calls[0].request_bytes).directive

    @property
    def keys(self) -> Sequence[str]:
        return [intake_pb2.RecordDirectiveRequest.FromString(call.request_bytes).idempotency_key for call in self.calls]


ACCEPTED = ANSWER.SerializeToString()


def test_record_directive_accepted_tells_reference_and_token() -> None:
    accepted = Desk(ACCEPTED).record(idempotency_key="k")
    assert accepted == Acceptance(
        uuid.UUID(int=9), ConsistencyToken("log", 3), datetime(2026, 1, 1, tzinfo=UTC), True, "k"
    )


def test_record_directive_while_feed_is_away_repeats_with_the_same_key() -> None:
    desk = Desk(UNAVAILABLE, UNAVAILABLE, ACCEPTED)
    desk.record()
    assert len(set(desk.keys)) == 1
    assert uuid.UUID(desk.keys[0]).version == 4
    assert desk.pauses == [0.05, 0.1]


@pytest.mark.parametrize(
    ("settings", "pauses"),
    [({"attempts_max": 1}, []), ({"attempts_max": 3}, [0.05, 0.1]), ({"timeout_seconds": 0.28}, [0.05])],
    ids=["one", "three", "no-time-for-a-third"],
)
def test_record_directive_does_not_pause_after_its_last_attempt(settings: dict[str, Any], pauses: list[float]) -> None:
    desk = Desk(*[UNAVAILABLE] * 9, **settings)
    with pytest.raises(IntakeError):
        desk.record()
    assert desk.pauses == pauses


def test_record_directive_pauses_grow_to_a_limit_and_are_spread() -> None:
    desk = Desk(*[UNAVAILABLE] * 10, attempts_max=10, timeout_seconds=1000.0, jitter=lambda: 0.5)
    with pytest.raises(IntakeError):
        desk.record()
    assert desk.pauses[:3] == [0.025, 0.05, 0.1]
    assert max(desk.pauses) == 1.0


@pytest.mark.parametrize("attempts_max", [1, 3])
def test_record_directive_without_feed_gives_up_after_its_attempts(attempts_max: int) -> None:
    desk = Desk(*[UNAVAILABLE] * 9, attempts_max=attempts_max)
    with pytest.raises(IntakeError) as caught:
        desk.record(idempotency_key="k")
    assert len(desk.calls) == attempts_max
    assert caught.value.reason == "CLIENT_UNAVAILABLE"
    assert caught.value.error == "UNAVAILABLE"
    assert caught.value.outcome_unknown
    assert caught.value.idempotency_key == "k"


def test_record_directive_never_outlasts_its_deadline() -> None:
    desk = Desk(*[UNAVAILABLE] * 99, seconds=0.4, attempts_max=99)
    with pytest.raises(IntakeError):
        desk.record(timeout_seconds=1.0)
    assert [round(call.timeout_seconds, 3) for call in desk.calls] == [1.0, 0.55, 0.05]


def test_record_directive_with_no_time_left_sends_nothing() -> None:
    desk = Desk()
    with pytest.raises(IntakeError) as caught:
        desk.record(timeout_seconds=0)
    assert not caught.value.outcome_unknown
    assert desk.calls == []


@pytest.mark.parametrize(
    ("outcome", "reason", "unknown"),
    [
        (classify_status("INVALID_ARGUMENT", "IDENTIFIER_INVALID"), "IDENTIFIER_INVALID", False),
        (classify_status("PERMISSION_DENIED"), "CLIENT_REFUSED", False),
        (classify_status("UNAVAILABLE", "LOG_WRITE_FAILED"), "LOG_WRITE_FAILED", True),
        (classify_status("DEADLINE_EXCEEDED"), "CLIENT_DEADLINE_EXCEEDED", True),
        (classify_status("INTERNAL"), "CLIENT_ERROR", True),
        (b"\xff\xff\xff", "CLIENT_ANSWER_UNREADABLE", True),
        (b"", "CLIENT_ANSWER_UNREADABLE", True),
    ],
    ids=["refused", "forbidden", "said-unavailable", "late", "bug", "garbage", "empty"],
)
def test_record_directive_not_clearly_accepted_raises_once(outcome: Outcome, reason: str, unknown: bool) -> None:
    desk = Desk(outcome)
    with pytest.raises(IntakeError) as caught:
        desk.record()
    assert caught.value.reason == reason
    assert caught.value.outcome_unknown is unknown
    assert SECRET not in str(caught.value)
    assert len(desk.calls) == 1


@pytest.mark.parametrize("error_reason", ["", "SHUTTING_DOWN"])
@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode])
def test_record_directive_answered_with_any_status_is_known_only_where_it_was_refused(
    code: str, error_reason: str
) -> None:
    with pytest.raises(IntakeError) as caught:
        Desk(classify_status(code, error_reason), attempts_max=1).record(idempotency_key="k")
    assert caught.value.outcome_unknown is (code not in REFUSALS)
    assert caught.value.idempotency_key == "k"


def test_record_directive_refused_when_repeated_may_have_been_recorded_before() -> None:
    with pytest.raises(IntakeError) as caught:
        Desk(UNAVAILABLE, classify_status("RESOURCE_EXHAUSTED", "OVERLOADED")).record()
    assert caught.value.reason == "OVERLOADED"
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("key", ["k" * 128, "ä" * 128, "a key"])
def test_record_directive_with_key_that_the_feed_takes_sends_it(key: str) -> None:
    desk = Desk(ACCEPTED)
    desk.record(idempotency_key=key)
    assert desk.keys == [key]


@pytest.mark.parametrize(
    "changed",
    [
        {"request_id": b"short"},
        {"token": None},
        {"token": event_pb2.ConsistencyToken(origin="log")},
        {"accepted_at_ms": 0},
        {"accepted_at_ms": 2**63 - 1},
    ],
    ids=str,
)
def test_record_directive_with_doubtful_acceptance_raises(changed: dict[str, Any]) -> None:
    fields = {field.name: value for field, value in ANSWER.ListFields()} | changed
    with pytest.raises(IntakeError) as caught:
        Desk(intake_pb2.RecordDirectiveResponse(**fields).SerializeToString()).record()
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("kind", list(DirectiveKind))
def test_record_directive_sends_every_kind(kind: DirectiveKind) -> None:
    desk = Desk(ACCEPTED)
    desk.record(kind)
    assert event_pb2.DirectiveKind.Name(desk.directive.kind) == f"DIRECTIVE_KIND_{kind.name}"


@pytest.mark.parametrize(
    ("kind", "subject", "given", "expected"),
    [
        (OPT_OUT, email("a@example.com"), None, event_pb2.ASSURANCE_CONTACT_POINT),
        (GRANT, phone("+4930000000"), None, event_pb2.ASSURANCE_CONTACT_POINT),
        (GRANT, user("1"), None, event_pb2.ASSURANCE_ACCOUNT),
        (OPT_OUT, device("1"), None, event_pb2.ASSURANCE_DEVICE),
        (OPT_OUT, Identifier("loyalty", "1"), None, event_pb2.ASSURANCE_CONTACT_POINT),
        (GRANT, Identifier("loyalty", "1"), None, event_pb2.ASSURANCE_DEVICE),
        (OPT_OUT, user("1"), Assurance.DEVICE, event_pb2.ASSURANCE_DEVICE),
    ],
)
def test_record_directive_takes_assurance_from_the_namespace(
    kind: DirectiveKind, subject: Identifier, given: Assurance | None, expected: int
) -> None:
    desk = Desk(ACCEPTED)
    desk.record(kind, subject=subject, assurance=given)
    assert desk.directive.assurance == expected


def test_record_directive_of_grant_sends_all_that_belongs_to_it() -> None:
    desk = Desk(ACCEPTED)
    desk.record(
        DirectiveKind.GRANT,
        proof=Proof.DOUBLE_OPT_IN,
        occurred_at=datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC),
        expires_at=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        subtree=True,
        notice_version=4,
        recipient="shop",
        explicit=True,
        granted_by=GrantedBy.GUARDIAN,
        evidence=EVIDENCE,
    )
    request = intake_pb2.RecordDirectiveRequest.FromString(desk.calls[0].request_bytes)
    assert request.evidence_digest == EVIDENCE
    assert desk.directive == intake_pb2.Directive(
        identifier=event_pb2.Identifier(namespace="email", value=SECRET),
        purpose="p",
        kind=event_pb2.DIRECTIVE_KIND_GRANT,
        occurred_at_ms=1_767_225_600_123,
        proof=event_pb2.PROOF_DOUBLE_OPT_IN,
        assurance=event_pb2.ASSURANCE_CONTACT_POINT,
        expires_at_ms=1_767_225_600_000,
        subtree=True,
        notice_version=4,
        recipient="shop",
        explicit=True,
        granted_by=event_pb2.GRANTED_BY_GUARDIAN,
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, TypeError),
        ({"granted_by": GrantedBy.SELF}, TypeError),
        ({"idempotencykey": "k"}, TypeError),
        ({"idempotency_key": ""}, ValueError),
        ({"idempotency_key": "k" * 129}, ValueError),
        ({"idempotency_key": "k\n"}, ValueError),
        ({"idempotency_key": "\ud800"}, ValueError),
        ({"occurred_at": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001 - the case
        ({"subject": [email(SECRET)]}, TypeError),
        ({"subject": SECRET}, TypeError),
        ({"kind": "opt-ot"}, ValueError),
        ({"kind": DirectiveKind.GRANT, "notice_version": -1}, ValueError),
        ({"evidence": EVIDENCE}, TypeError),
        ({"kind": DirectiveKind.GRANT, "proof": Proof.DOUBLE_OPT_IN}, ValueError),
        ({"kind": DirectiveKind.GRANT, "proof": Proof.AUTHENTICATED, "evidence": None}, ValueError),
        ({"kind": DirectiveKind.GRANT, "evidence": b""}, ValueError),
        ({"kind": DirectiveKind.GRANT, "evidence": bytes(31)}, ValueError),
        ({"kind": DirectiveKind.GRANT, "evidence": EVIDENCE.hex()}, TypeError),
    ],
    ids=str,
)
def test_record_directive_with_wrong_arguments_sends_nothing(options: dict[str, Any], error: type[Exception]) -> None:
    desk = Desk()
    with pytest.raises(error) as caught:
        desk.record(**options)
    assert SECRET not in str(caught.value)
    assert desk.calls == []


@pytest.mark.parametrize("proof", [Proof.NONE, Proof.LINK])
def test_record_grant_without_the_persons_proof_needs_no_evidence(proof: Proof) -> None:
    desk = Desk(ACCEPTED)
    desk.record(DirectiveKind.GRANT, proof=proof)
    assert intake_pb2.RecordDirectiveRequest.FromString(desk.calls[0].request_bytes).evidence_digest == b""


def test_evidence_digest_is_sha_256_of_something() -> None:
    assert evidence_digest(b"a confirm token") == hashlib.sha256(b"a confirm token").digest()
    with pytest.raises(ValueError, match="empty"):
        evidence_digest(b"")
    with pytest.raises(TypeError):
        evidence_digest("a confirm token")  # type: ignore[arg-type]


@pytest.mark.parametrize("proof", [Proof.DOUBLE_OPT_IN, Proof.AUTHENTICATED])
def test_record_link_that_carries_grants_needs_evidence(proof: Proof) -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="evidence is needed"):
        record_link(desk.settings, email(SECRET), user("17"), proof, {})
    assert desk.calls == []


@pytest.mark.parametrize("proof", list(Proof))
def test_record_link_sends_both_ends_and_proof(proof: Proof) -> None:
    desk = Desk(ACCEPTED)
    desk.run(
        record_link(desk.settings, email(SECRET), user("17"), proof, {"idempotency_key": "k", "evidence": EVIDENCE})
    )
    assert intake_pb2.RecordLinkRequest.FromString(desk.calls[0].request_bytes) == intake_pb2.RecordLinkRequest(
        idempotency_key="k",
        left=event_pb2.Identifier(namespace="email", value=SECRET),
        right=event_pb2.Identifier(namespace="user", value="17"),
        proof=event_pb2.Proof.Value(f"PROOF_{proof.name}"),
        evidence_digest=EVIDENCE,
    )
