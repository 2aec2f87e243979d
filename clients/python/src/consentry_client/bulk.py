"""The course of a bulk job: many items over one stream, in order, with bounded look-ahead, without I/O.

A window of batches is in flight. The head's answer is read, its items are handed out, the next batch is taken and sent.
A broken stream sends the unanswered batches once more; what fails again is denied and the job goes on.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from consentry.decision.v1 import decision_pb2

from consentry_client.answers import decode_message
from consentry_client.decision import Decision, Reason
from consentry_client.exchange import Call, Drop, Emit, Outcome, Receive, Send, Take
from consentry_client.failure import OUT_OF_TIME, UNREADABLE, Failure
from consentry_client.inquiry import Inquiry
from consentry_client.question import Question
from consentry_client.repetition import Patience
from consentry_client.requests import Subjects, cut_batches
from consentry_client.settings import BATCH_ITEMS_MAX, require_count, require_duration
from consentry_client.subject import SubjectLike, as_identifiers
from consentry_client.tracing import trace_metadata

T = TypeVar("T")
_SENDS_MAX = 2
_LOOK_AHEAD_BATCHES_MAX = 64

BulkStep = Call | Drop | Emit | Receive | Send | Take
BulkCourse = Generator[BulkStep, Any, None]


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """How much a bulk job takes ahead.

    Attributes:
        batch_items: Items of one message, 1 to 10,000; a slow source is better served by fewer.
        look_ahead_batches: Most batches taken from the source and not yet handed out, 1 to 64.
        max_age_seconds: An item whose ALLOW is older when its turn comes is asked about again.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    batch_items: int = 1_000
    look_ahead_batches: int = 4
    max_age_seconds: float = 5.0

    def __post_init__(self) -> None:
        require_count("batch_items", self.batch_items, BATCH_ITEMS_MAX)
        require_count("look_ahead_batches", self.look_ahead_batches, _LOOK_AHEAD_BATCHES_MAX)
        require_duration("max_age_seconds", self.max_age_seconds)


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    """One batch on its way."""

    correlation: int
    items: Sequence[T]
    subjects: Subjects
    sends: int = 0
    sent_at: float = 0.0
    first_failure: Failure | None = None


class BulkJob(Generic[T]):
    """One run of `filter_allowed`.

    Args:
        inquiry: The client's courses.
        question: What is asked about every item.
        key: Gives an item's subject.
        on_denied: Told of every item that is not handed out; may raise to end the job.
        limits: Sizes.
    """

    def __init__(
        self,
        inquiry: Inquiry,
        question: Question,
        key: Callable[[T], SubjectLike],
        on_denied: Callable[[T, Decision], object] | None,
        limits: BulkLimits,
    ) -> None:
        self._inquiry = inquiry
        self._question = question
        self._key = key
        self._on_denied = on_denied
        self._limits = limits
        self._monotonic = inquiry.settings.monotonic
        self._timeout_seconds = question.give_deadline(inquiry.settings.batch_timeout_seconds)
        self._metadata = trace_metadata(question.traceparent)
        # A job, unlike a request, can wait for a sidecar that is just starting.
        self._patience = Patience(is_worth_waiting=True)
        self._waits = False
        self._window: deque[_Flight[T]] = deque()
        self._correlation = 0

    def run(self) -> BulkCourse:
        """Takes from the source until it ends, and emits what is allowed, in the source's order."""
        is_source_open = True
        while True:
            while is_source_open and len(self._window) < self._limits.look_ahead_batches:
                items: list[T] = yield Take(self._limits.batch_items)
                is_source_open = len(items) == self._limits.batch_items
                yield from self._dispatch(items)
            if not self._window:
                return
            outcome: Outcome = yield Receive(self._timeout_seconds)
            if isinstance(outcome, Failure):
                yield from self._recover(outcome)
            else:
                yield from self._take_answer(outcome)

    def _dispatch(self, items: Sequence[T]) -> BulkCourse:
        subjects = [as_identifiers(self._key(item)) for item in items]
        for run in cut_batches(subjects, self._limits.batch_items):
            self._correlation += 1
            flight = _Flight(self._correlation, items[run.start : run.stop], subjects[run.start : run.stop])
            if self._timeout_seconds <= 0:
                yield from self._deny(flight, OUT_OF_TIME)
                continue
            self._window.append(flight)
            yield from self._send(flight)

    def _send(self, flight: _Flight[T]) -> BulkCourse:
        flight.sends += 1
        flight.sent_at = self._monotonic()
        message = decision_pb2.CheckStreamRequest(
            correlation=flight.correlation, batch=self._inquiry.encode_batch(flight.subjects, self._question)
        )
        yield Send(message.SerializeToString(), self._metadata, self._waits)

    def _take_answer(self, outcome: bytes) -> BulkCourse:
        answer = decode_message(decision_pb2.CheckStreamResponse.FromString, outcome)
        if isinstance(answer, Failure) or answer.correlation != self._window[0].correlation:
            # Nobody can tell any more which answer belongs to which batch.
            yield from self._recover(UNREADABLE)
            return
        self._patience.note(outcome, waited=False)
        self._waits = False
        flight = self._window.popleft()
        batch = _read_refusal(answer) or answer.batch
        decisions = self._inquiry.settle_batch(batch, len(flight.items), self._question)
        yield from self._hand_out(flight, decisions)

    def _recover(self, failure: Failure) -> BulkCourse:
        """Ends a stream that failed: unanswered batches go out once more where that is safe, all others are denied."""
        yield Drop()
        self._patience.note(failure, self._waits)
        unanswered, self._window = self._window, deque()
        repeats = failure.is_worth_repeating
        self._waits = repeats and self._patience.is_worth_waiting
        for flight in unanswered:
            flight.first_failure = flight.first_failure or failure
            if repeats and flight.sends < _SENDS_MAX:
                self._window.append(flight)
        # Older batches were sent at least as often as younger ones: the denied come first, so the order holds.
        for flight in unanswered:
            if flight not in self._window:
                yield from self._deny(flight, failure)
        for flight in self._window:
            yield from self._send(flight)

    def _deny(self, flight: _Flight[T], failure: Failure) -> BulkCourse:
        cause = flight.first_failure if failure.reason is Reason.CLIENT_DEADLINE_EXCEEDED else failure
        decisions = self._inquiry.settle_batch(cause or failure, len(flight.items), self._question)
        yield from self._hand_out(flight, decisions)

    def _hand_out(self, flight: _Flight[T], decisions: Sequence[Decision]) -> BulkCourse:
        """Emits the allowed items of a batch; an ALLOW that grew too old meanwhile is asked for again.

        A slow consumer gets answers for about twice what it used up in the last round, so that the questions asked
        in all stay within a small multiple of the items.
        """
        first, answered_at = 0, flight.sent_at
        for index, item in enumerate(flight.items):
            used = index - first
            is_old = self._monotonic() - answered_at > self._limits.max_age_seconds
            if used >= len(decisions) or (is_old and decisions[used].allowed):
                answered_at = self._monotonic()
                ahead = flight.subjects[index : index + max(1, 2 * used)]
                decisions = yield from self._inquiry.check_batch(ahead, self._question)
                first = index
            decision = decisions[index - first]
            if decision:
                yield Emit(item)
            elif self._on_denied is not None:
                self._on_denied(item, decision)


def _read_refusal(answer: decision_pb2.CheckStreamResponse) -> Failure | None:
    """Returns the failure of a batch that was refused; an answer with neither is a batch of the wrong length."""
    return Failure(Reason.CLIENT_REFUSED, error_reason=answer.error_reason) if answer.error_reason else None
