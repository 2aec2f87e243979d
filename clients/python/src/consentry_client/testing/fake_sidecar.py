"""A sidecar that answers what a test tells it to."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2

from consentry_client.decision import Effect, Reason
from consentry_client.exchange import CHECK, CHECK_BATCH, CHECK_STREAM, EXPLAIN, GET_STATUS
from consentry_client.subject import Identifier, SubjectLike, as_identifiers, as_texts
from consentry_client.testing.fake_server import FakeServer, Handler, Handlers, abort

_BATCH_ITEMS_MAX = 10_000
_Answer = tuple[Effect, Reason]
_UNKNOWN: _Answer = (Effect.DENY, Reason.NO_CONSENT_SUBJECT_UNKNOWN)


@dataclass(frozen=True, slots=True)
class FakeCall:
    """One call that the fake received; a message of a stream counts as a call.

    Attributes:
        method: `Check`, `CheckBatch`, `CheckStream`, `Explain` or `GetStatus`.
        subjects: Who was asked about, each with its identifiers.
        purposes: What for.
        context: The situation, as it came in.
        consistency: The demand for an entry, as it came in.
        metadata: Metadata of the call, `traceparent` among them.
    """

    method: str
    subjects: tuple[tuple[Identifier, ...], ...] = ()
    purposes: tuple[str, ...] = ()
    context: decision_pb2.Context = field(default_factory=decision_pb2.Context)
    consistency: decision_pb2.Consistency = field(default_factory=decision_pb2.Consistency)
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)


class FakeSidecar(FakeServer):
    """Denies everything but what it was told to allow, like a real one that knows nobody.

    Identifiers are compared as they are, without normalising. Of several identifiers or purposes one deny is enough.

    Attributes:
        calls: Everything that was asked, in order.
        log_size: Entries that it says it knows; a demand for a later one is answered NOT_YET_CONSISTENT.
        policy_version: Version that it says it applies.
    """

    def __init__(self, *, log_size: int = 1, policy_version: int = 1) -> None:
        super().__init__()
        self.calls: list[FakeCall] = []
        self.log_size = log_size
        self.policy_version = policy_version
        self._answers: dict[tuple[Identifier, str], _Answer] = {}

    def allow(self, subject: SubjectLike, purpose: str | Iterable[str], reason: Reason = Reason.GRANTED) -> None:
        """Answers ALLOW from now on for these identifiers and purposes."""
        self._program(subject, purpose, (Effect.ALLOW, reason))

    def deny(self, subject: SubjectLike, purpose: str | Iterable[str], reason: Reason = Reason.OPT_OUT) -> None:
        """Answers DENY from now on for these identifiers and purposes; the purpose `*` denies every one."""
        self._program(subject, purpose, (Effect.DENY, reason))

    def _program(self, subject: SubjectLike, purpose: str | Iterable[str], answer: _Answer) -> None:
        if answer[1].startswith("CLIENT_"):
            raise ValueError("a sidecar has no client-only reason")
        with self._lock:
            for identifier in as_identifiers(subject):
                for name in as_texts("purpose", purpose):
                    self._answers[identifier, name] = answer

    def _handlers(self) -> Handlers:
        unary = grpc.unary_unary_rpc_method_handler
        handlers: dict[str, Handler] = {
            CHECK: unary(self._check, decision_pb2.CheckRequest.FromString, _serialize),
            CHECK_BATCH: unary(self._check_batch, decision_pb2.CheckBatchRequest.FromString, _serialize),
            EXPLAIN: unary(self._explain, decision_pb2.ExplainRequest.FromString, _serialize),
            GET_STATUS: unary(self._get_status, decision_pb2.GetStatusRequest.FromString, _serialize),
            CHECK_STREAM: grpc.stream_stream_rpc_method_handler(
                self._check_stream, decision_pb2.CheckStreamRequest.FromString, _serialize
            ),
        }
        service = CHECK.split("/")[1]
        return {service: {path.split("/")[2]: handler for path, handler in handlers.items()}}

    def _check(self, request: decision_pb2.CheckRequest, context: grpc.ServicerContext) -> decision_pb2.CheckResponse:
        self._note("Check", [request.subject], request, context)
        self._fail_if_told(context)
        return self._answer_check(request)

    def _explain(
        self, request: decision_pb2.ExplainRequest, context: grpc.ServicerContext
    ) -> decision_pb2.ExplainResponse:
        self._note("Explain", [request.check.subject], request.check, context)
        self._fail_if_told(context)
        answer = self._answer_check(request.check)
        fired = decision_pb2.RuleTrace(rule=17, fired=True, note="the fake was told so")
        return decision_pb2.ExplainResponse(check=answer, rules=[fired], proof_unavailable=True)

    def _get_status(
        self, request: decision_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> decision_pb2.GetStatusResponse:
        with self._lock:
            self.calls.append(FakeCall("GetStatus", metadata=_read_metadata(context)))
        self._fail_if_told(context)
        return decision_pb2.GetStatusResponse(
            sidecar_id="fake",
            tenant="test",
            log_origin="fake.example/log",
            log_size=self.log_size,
            root_hash=bytes(32),
            policy_version=self.policy_version,
            staleness_ms=0,
            sync_state=decision_pb2.SYNC_STATE_IN_SYNC,
            journal_mode="group",
            version="fake",
        )

    def _check_batch(
        self, request: decision_pb2.CheckBatchRequest, context: grpc.ServicerContext
    ) -> decision_pb2.CheckBatchResponse:
        self._note_batch("CheckBatch", request, context)
        self._fail_if_told(context)
        if _count_items(request) > _BATCH_ITEMS_MAX:
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
        return self._answer_batch(request)

    def _check_stream(
        self, requests: Iterator[decision_pb2.CheckStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[decision_pb2.CheckStreamResponse]:
        for request in requests:
            self._note_batch("CheckStream", request.batch, context)
            self._fail_if_told(context)
            answer = decision_pb2.CheckStreamResponse(correlation=request.correlation)
            if _count_items(request.batch) > _BATCH_ITEMS_MAX:
                answer.error_reason = "BATCH_TOO_LARGE"
            else:
                answer.batch.CopyFrom(self._answer_batch(request.batch))
            yield answer

    def _answer_check(self, request: decision_pb2.CheckRequest) -> decision_pb2.CheckResponse:
        effect, reason = self._decide(_read_subject(request.subject), request.purposes, request.consistency)
        return decision_pb2.CheckResponse(
            effect=_EFFECTS[effect],
            reason=decision_pb2.Reason.Value(f"REASON_{reason}"),
            log_size=self.log_size,
            policy_version=self.policy_version,
            decision_id=uuid.uuid4().bytes,
        )

    def _answer_batch(self, request: decision_pb2.CheckBatchRequest) -> decision_pb2.CheckBatchResponse:
        answers = [
            self._decide(subject, group.purposes, request.consistency)
            for group in request.groups
            for subject in _read_group(group)
        ]
        return decision_pb2.CheckBatchResponse(
            effects=[_EFFECTS[effect] for effect, _ in answers],
            reasons=[decision_pb2.Reason.Value(f"REASON_{reason}") for _, reason in answers],
            deciding_seqs=[0] * len(answers),
            valid_until_ms=[0] * len(answers),
            log_size=self.log_size,
            policy_version=self.policy_version,
            decision_id=uuid.uuid4().bytes,
        )

    def _decide(
        self, subject: tuple[Identifier, ...], purposes: Iterable[str], consistency: decision_pb2.Consistency
    ) -> _Answer:
        asked = sorted(set(purposes))
        if not subject or not asked or any(not one.value and not one.token for one in subject):
            return Effect.DENY, Reason.INVALID_REQUEST
        if consistency.min.seq > self.log_size:
            return Effect.DENY, Reason.NOT_YET_CONSISTENT
        answers = [self._decide_purpose(subject, purpose) for purpose in asked]
        denied = [answer for answer in answers if answer[0] is Effect.DENY]
        if denied:
            return denied[0]
        return answers[0] if len(set(answers)) == 1 else (Effect.ALLOW, Reason.ALL_PURPOSES_ALLOWED)

    def _decide_purpose(self, subject: tuple[Identifier, ...], purpose: str) -> _Answer:
        with self._lock:
            told = [self._answers.get((one, name)) for one in subject for name in ("*", purpose)]
        known = [answer for answer in told if answer is not None]
        denied = [answer for answer in known if answer[0] is Effect.DENY]
        return (denied or known or [_UNKNOWN])[0]

    def _note_batch(self, method: str, request: decision_pb2.CheckBatchRequest, context: grpc.ServicerContext) -> None:
        for group in request.groups:
            call = FakeCall(
                method,
                tuple(_read_group(group)),
                tuple(group.purposes),
                group.context,
                request.consistency,
                _read_metadata(context),
            )
            with self._lock:
                self.calls.append(call)

    def _note(
        self,
        method: str,
        subjects: Iterable[decision_pb2.Subject],
        request: decision_pb2.CheckRequest,
        context: grpc.ServicerContext,
    ) -> None:
        call = FakeCall(
            method,
            tuple(_read_subject(subject) for subject in subjects),
            tuple(request.purposes),
            request.context,
            request.consistency,
            _read_metadata(context),
        )
        with self._lock:
            self.calls.append(call)


_EFFECTS = {Effect.ALLOW: decision_pb2.EFFECT_ALLOW, Effect.DENY: decision_pb2.EFFECT_DENY}


def _serialize(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def read_identifier(message: event_pb2.Identifier) -> Identifier:
    """Reads an identifier as a server gets it."""
    if message.token:
        return Identifier.of_token(message.token, message.key_epoch)
    return Identifier(message.namespace, message.value)


def _read_subject(message: decision_pb2.Subject) -> tuple[Identifier, ...]:
    return tuple(read_identifier(identifier) for identifier in message.identifiers)


def _read_group(group: decision_pb2.BatchGroup) -> Iterator[tuple[Identifier, ...]]:
    for value in group.values:
        yield (Identifier(group.namespace, value),)
    for subject in group.subjects:
        yield _read_subject(subject)


def _count_items(request: decision_pb2.CheckBatchRequest) -> int:
    return sum(len(group.values) + len(group.subjects) for group in request.groups)


def _read_metadata(context: grpc.ServicerContext) -> Mapping[str, str | bytes]:
    return dict(context.invocation_metadata())
