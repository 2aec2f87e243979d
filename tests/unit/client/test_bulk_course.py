"""The course of a bulk job, driven without any stream."""

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from consentry.decision.v1 import decision_pb2
from consentry_client import BulkLimits, ConfigurationError, Decision, Reason, email
from consentry_client.bulk import BulkJob
from consentry_client.exchange import Call, Drop, Emit, Outcome, Receive, Send, Take
from consentry_client.failure import classify_status
from consentry_client.inquiry import Inquiry
from consentry_client.question import Question
from consentry_client.settings import resolve_settings

UNAVAILABLE = classify_status("UNAVAILABLE")
LATE = classify_status("DEADLINE_EXCEEDED")


def answer_batch(request: decision_pb2.CheckBatchRequest) -> decision_pb2.CheckBatchResponse:
    """Allows everybody whose number is even."""
    numbers = [int(value.partition("@")[0]) for value in request.groups[0].values]
    even = [number % 2 == 0 for number in numbers]
    return decision_pb2.CheckBatchResponse(
        effects=[decision_pb2.EFFECT_ALLOW if one else decision_pb2.EFFECT_DENY for one in even],
        reasons=[decision_pb2.REASON_GRANTED if one else decision_pb2.REASON_OPT_OUT for one in even],
        deciding_seqs=[0] * len(even),
        valid_until_ms=[0] * len(even),
        decision_id=uuid.UUID(int=1).bytes,
    )


class World:
    """Source, stream and consumer of one job; `fail` puts a failure in place of the n-th answer of the stream."""

    def __init__(self, items: int, limits: BulkLimits, seconds_per_item: float = 0.0, **options: Any) -> None:
        self.now = 100.0
        self.seconds_per_item = seconds_per_item
        self.source: Iterator[int] = iter(range(items))
        self.taken = 0
        self.emitted: list[int] = []
        self.denied: list[tuple[int, Decision]] = []
        self.sent: list[tuple[int, bool]] = []
        self.asked_again: list[int] = []
        self.drops = 0
        self.most_ahead = 0
        self.receives = 0
        self.stream: deque[bytes] = deque()
        self.failures: dict[int, Outcome] = {}
        self.change: Callable[[decision_pb2.CheckStreamResponse], None] = lambda _: None
        settings = resolve_settings("unix:///x", {"monotonic": lambda: self.now})
        self.job: BulkJob[int] = BulkJob(
            Inquiry(settings),
            Question.ask("p", **options),
            lambda number: email(f"{number}@example.com"),
            lambda item, decision: self.denied.append((item, decision)),
            limits,
        )

    def run(self) -> "World":
        course = self.job.run()
        reply: Any = None
        while True:
            try:
                step = course.send(reply)
            except StopIteration:
                return self
            reply = self.carry_out(step)

    def carry_out(self, step: Any) -> Any:
        match step:
            case Take():
                items = list(islice(self.source, step.count))
                self.taken += len(items)
                self.most_ahead = max(self.most_ahead, self.taken - len(self.emitted) - len(self.denied))
                return items
            case Send():
                return self.send(step)
            case Receive():
                return self.receive()
            case Drop():
                self.drops += 1
                self.stream.clear()
            case Emit():
                self.emitted.append(step.item)
                self.now += self.seconds_per_item
            case Call():
                request = decision_pb2.CheckBatchRequest.FromString(step.request_bytes)
                self.asked_again.append(len(request.groups[0].values))
                return answer_batch(request).SerializeToString()
            case _:
                pytest.fail(f"unknown step {step}")
        return None

    def send(self, step: Send) -> None:
        request = decision_pb2.CheckStreamRequest.FromString(step.message_bytes)
        self.sent.append((request.correlation, step.wait_for_ready))
        answer = decision_pb2.CheckStreamResponse(correlation=request.correlation, batch=answer_batch(request.batch))
        self.change(answer)
        self.stream.append(answer.SerializeToString())

    def receive(self) -> Outcome:
        self.receives += 1
        return self.failures[self.receives] if self.receives in self.failures else self.stream.popleft()

    @property
    def sent_order(self) -> list[int]:
        return [correlation for correlation, _ in self.sent]


SMALL = BulkLimits(batch_items=4, look_ahead_batches=2)


def even(*numbers: int) -> list[int]:
    return [number for number in range(*numbers) if number % 2 == 0]


@pytest.mark.parametrize("items", [0, 1, 4, 7, 8, 101])
def test_bulk_of_any_length_keeps_order_and_tells_every_denied(items: int) -> None:
    world = World(items, SMALL).run()
    assert world.emitted == even(items)
    assert [item for item, _ in world.denied] == [number for number in range(items) if number % 2]
    assert {decision.reason for _, decision in world.denied} <= {Reason.OPT_OUT}


def test_bulk_takes_no_more_than_its_look_ahead() -> None:
    world = World(1000, SMALL).run()
    assert world.most_ahead == 8


def test_bulk_after_a_broken_stream_sends_unanswered_batches_once_more() -> None:
    world = World(16, SMALL)
    world.failures = {2: UNAVAILABLE}
    world.run()
    assert world.emitted == even(16)
    assert world.sent == [(1, False), (2, False), (3, False), (2, True), (3, True), (4, False)]
    assert world.drops == 1


def test_bulk_that_breaks_twice_denies_the_batches_sent_twice_and_goes_on() -> None:
    world = World(16, SMALL)
    world.failures = {1: UNAVAILABLE, 2: UNAVAILABLE}
    world.run()
    assert world.emitted == even(8, 16)
    lost = [item for item, decision in world.denied if decision.failed]
    assert lost == list(range(8))
    assert world.sent_order == [1, 2, 1, 2, 3, 4]


def test_bulk_with_failure_that_is_not_safe_denies_the_window_without_repeating() -> None:
    world = World(16, SMALL)
    world.failures = {1: LATE}
    world.run()
    assert world.emitted == even(8, 16)
    assert world.denied[0][1].reason is Reason.CLIENT_DEADLINE_EXCEEDED
    assert world.sent_order == [1, 2, 3, 4]


def test_bulk_whose_server_stays_away_waits_once_and_then_fails_fast() -> None:
    world = World(24, SMALL)
    world.failures = dict(zip(range(1, 100), [UNAVAILABLE, LATE, *[UNAVAILABLE] * 97], strict=False))
    world.run()
    assert world.emitted == []
    assert [item for item, _ in world.denied] == list(range(24))
    assert {decision.reason for _, decision in world.denied} == {Reason.CLIENT_UNAVAILABLE}
    assert [waits for _, waits in world.sent].count(True) == 2


def test_bulk_with_answer_to_another_batch_denies_all_that_are_unanswered() -> None:
    world = World(16, SMALL)
    world.change = lambda answer: setattr(answer, "correlation", answer.correlation + (answer.correlation == 1))
    world.run()
    assert world.emitted == even(8, 16)
    assert world.denied[0][1].reason is Reason.CLIENT_ANSWER_UNREADABLE


@pytest.mark.parametrize(
    ("field", "reason", "error_reason"),
    [("error_reason", Reason.CLIENT_REFUSED, "BATCH_TOO_LARGE"), ("batch", Reason.CLIENT_ANSWER_UNREADABLE, "")],
)
def test_bulk_with_one_refused_batch_denies_that_one_alone(field: str, reason: Reason, error_reason: str) -> None:
    def refuse_second(answer: decision_pb2.CheckStreamResponse) -> None:
        if answer.correlation == 2:
            answer.ClearField("batch")
            answer.error_reason = error_reason

    world = World(12, SMALL)
    world.change = refuse_second
    world.run()
    assert world.emitted == even(4) + even(8, 12)
    refused = [(item, decision) for item, decision in world.denied if decision.failed]
    assert [item for item, _ in refused] == [4, 5, 6, 7]
    assert {(decision.reason, decision.error_reason) for _, decision in refused} == {(reason, error_reason)}
    assert world.drops == 0


def test_bulk_with_short_answer_denies_the_whole_batch() -> None:
    world = World(4, SMALL)
    world.change = lambda answer: answer.batch.ClearField("effects")
    world.run()
    assert world.emitted == []
    assert len(world.denied) == 4


def test_bulk_with_slow_consumer_asks_again_before_an_answer_is_used_too_late() -> None:
    world = World(40, BulkLimits(batch_items=40, look_ahead_batches=1, max_age_seconds=5.0), seconds_per_item=1.0)
    world.run()
    assert world.emitted == even(40)
    # Half of the items are allowed, one a second: about every sixth allowed item finds its answer too old.
    assert world.asked_again
    assert sum(world.asked_again) <= 3 * 40


def test_bulk_with_fast_consumer_asks_nothing_twice() -> None:
    world = World(400, BulkLimits(batch_items=40), seconds_per_item=0.001).run()
    assert world.asked_again == []


def test_bulk_with_old_answers_uses_none_of_them() -> None:
    world = World(6, BulkLimits(batch_items=6, max_age_seconds=5.0))
    world.change = lambda _: setattr(world, "now", world.now + 60)
    world.run()
    assert world.emitted == even(6)
    assert world.asked_again[0] == 1


def test_bulk_with_no_time_sends_nothing_and_denies_all() -> None:
    world = World(6, SMALL, timeout_seconds=0).run()
    assert world.sent == []
    assert {decision.reason for _, decision in world.denied} == {Reason.CLIENT_DEADLINE_EXCEEDED}
    assert len(world.denied) == 6


def test_bulk_with_large_identifiers_cuts_batches_by_size() -> None:
    world = World(3, BulkLimits(batch_items=3))
    world.job._key = lambda number: email(f"{number}@" + "a" * 2_000_000)
    world.run()
    assert world.sent_order == [1, 2, 3]
    assert world.emitted == [0, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_items": 0}, {"batch_items": 10_001}, {"look_ahead_batches": 0}, {"look_ahead_batches": 65},
        {"max_age_seconds": 0},
    ],
    ids=str,
)  # fmt: skip
def test_bulk_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BulkLimits(**wrong)
