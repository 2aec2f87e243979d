"""The course of a question from arguments to decision, without I/O; both clients run it."""

from collections.abc import Iterable, Sequence

from consentry.decision.v1 import decision_pb2

from consentry_client.answers import decode_message, read_batch, read_check
from consentry_client.context import Context
from consentry_client.decision import Decision
from consentry_client.errors import StatusError
from consentry_client.exchange import CHECK, CHECK_BATCH, EXPLAIN, GET_STATUS, Call, Course, Outcome
from consentry_client.explanation import Explanation, read_explanation
from consentry_client.failure import Failure
from consentry_client.question import Question
from consentry_client.repetition import Patience, ask
from consentry_client.requests import (
    Subjects,
    cut_batches,
    encode_consistency,
    encode_context,
    encode_group,
    encode_purposes,
    encode_subject,
)
from consentry_client.settings import Settings
from consentry_client.status import SidecarStatus, read_status
from consentry_client.subject import SubjectLike, as_identifiers
from consentry_client.tracing import trace_metadata


class Inquiry:
    """Courses of every kind of question, under one client's settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._patience = Patience()

    def check(self, subject: SubjectLike, question: Question) -> Course[Decision]:
        """One subject."""
        request = self._encode_check(subject, question)
        timeout_seconds = question.give_deadline(self.settings.timeout_seconds)
        outcome = yield from self._call(CHECK, request.SerializeToString(), timeout_seconds, question)
        return self._settle(self._read_check(outcome), question)

    def explain(self, subject: SubjectLike, question: Question) -> Course[Explanation]:
        """One subject, with the rules that were tried."""
        request = decision_pb2.ExplainRequest(check=self._encode_check(subject, question))
        timeout_seconds = question.give_deadline(self.settings.batch_timeout_seconds)
        outcome = yield from self._call(EXPLAIN, request.SerializeToString(), timeout_seconds, question)
        answer = decode_message(decision_pb2.ExplainResponse.FromString, outcome)
        if isinstance(answer, Failure):
            return Explanation(self._settle(answer, question))
        decision = read_check(answer.check)
        if isinstance(decision, Failure):
            return Explanation(self._settle(decision, question))
        return read_explanation(answer, decision)

    def check_many(self, subjects: Iterable[SubjectLike], question: Question) -> Course[list[Decision]]:
        """Many subjects, in batches one after the other; a batch that fails does not stop the next."""
        asked = [as_identifiers(subject) for subject in subjects]
        decisions: list[Decision] = []
        for run in cut_batches(asked, self.settings.batch_items):
            batch = asked[run.start : run.stop]
            decisions += yield from self.check_batch(batch, question)
        return decisions

    def check_batch(self, subjects: Subjects, question: Question) -> Course[list[Decision]]:
        """As many subjects as fit one message."""
        request_bytes = self.encode_batch(subjects, question).SerializeToString()
        timeout_seconds = question.give_deadline(self.settings.batch_timeout_seconds)
        outcome = yield from self._call(CHECK_BATCH, request_bytes, timeout_seconds, question)
        return self.settle_batch(
            decode_message(decision_pb2.CheckBatchResponse.FromString, outcome), len(subjects), question
        )

    def status(self, timeout_seconds: float | None = None) -> Course[SidecarStatus]:
        """What the sidecar holds.

        Raises:
            StatusError: It did not say.
        """
        question = Question((), timeout_seconds=timeout_seconds)
        outcome = yield from self._call(
            GET_STATUS, b"", question.give_deadline(self.settings.timeout_seconds), question
        )
        answer = decode_message(decision_pb2.GetStatusResponse.FromString, outcome)
        if isinstance(answer, Failure):
            raise StatusError(answer.reason, "the sidecar did not tell its status", answer.error)
        return read_status(answer)

    def encode_batch(self, subjects: Subjects, question: Question) -> decision_pb2.CheckBatchRequest:
        """Returns the request for one batch."""
        return decision_pb2.CheckBatchRequest(
            groups=[encode_group(subjects, question.purposes, self._combine_context(question))],
            consistency=encode_consistency(question.min_token, question.wait_seconds),
        )

    def settle_batch(
        self, answer: decision_pb2.CheckBatchResponse | Failure, items: int, question: Question
    ) -> list[Decision]:
        """Returns one decision for each subject of a batch, whatever came of it."""
        read: Sequence[Decision | Failure] | Failure
        read = answer if isinstance(answer, Failure) else read_batch(answer, items)
        if isinstance(read, Failure):
            return [self.settings.failure_policy.conclude(read, question.purposes, items)] * items
        return [self._settle(one, question) for one in read]

    def _combine_context(self, question: Question) -> Context | None:
        default = self.settings.default_context
        return question.context if default is None else default.combine(question.context)

    def _encode_check(self, subject: SubjectLike, question: Question) -> decision_pb2.CheckRequest:
        return decision_pb2.CheckRequest(
            subject=encode_subject(as_identifiers(subject)),
            purposes=encode_purposes(question.purposes),
            context=encode_context(self._combine_context(question)),
            consistency=encode_consistency(question.min_token, question.wait_seconds),
        )

    def _call(self, method: str, request_bytes: bytes, timeout_seconds: float, question: Question) -> Course[Outcome]:
        call = Call(method, request_bytes, timeout_seconds, trace_metadata(question.traceparent))
        return ask(call, self._patience, self.settings.monotonic)

    def _read_check(self, outcome: Outcome) -> Decision | Failure:
        answer = decode_message(decision_pb2.CheckResponse.FromString, outcome)
        return answer if isinstance(answer, Failure) else read_check(answer)

    def _settle(self, read: Decision | Failure, question: Question) -> Decision:
        if isinstance(read, Failure):
            return self.settings.failure_policy.conclude(read, question.purposes)
        return read
