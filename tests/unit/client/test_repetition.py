"""When a check is asked twice, and how the time left is shared."""

from collections.abc import Generator, Sequence
from typing import Any

import pytest
from consentry_client.exchange import Call, Course, Outcome
from consentry_client.failure import OUT_OF_TIME, Failure, classify_status
from consentry_client.repetition import Patience, ask

UNAVAILABLE = classify_status("UNAVAILABLE")
LATE = classify_status("DEADLINE_EXCEEDED")
CALL = Call("/service/Check", b"request", 0.25)


class Ticks:
    """A clock that every outcome moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(
    course: Generator[Call, Any, Any], outcomes: Sequence[tuple[float, Outcome]], clock: Ticks
) -> tuple[Any, list[Call]]:
    """Runs a course against scripted outcomes, each with the seconds that it takes."""
    calls = []
    script = iter(outcomes)
    try:
        call = next(course)
        while True:
            calls.append(call)
            seconds, outcome = next(script)
            clock.now += seconds
            call = course.send(outcome)
    except StopIteration as end:
        assert next(script, None) is None, "an outcome was not asked for"
        return end.value, calls


@pytest.mark.parametrize(
    "outcome", [b"answer", LATE, classify_status("INTERNAL"), classify_status("UNAVAILABLE", "JOURNAL_UNAVAILABLE")]
)
def test_ask_anything_but_bare_unavailable_is_called_once(outcome: Outcome) -> None:
    clock = Ticks()
    assert play(ask(CALL, Patience(), clock), [(0.1, outcome)], clock) == (outcome, [CALL])


@pytest.mark.parametrize("second", [b"answer", UNAVAILABLE, classify_status("INTERNAL")])
def test_ask_unavailable_is_called_once_more_with_the_time_left(second: Outcome) -> None:
    clock = Ticks()
    outcome, calls = play(ask(CALL, Patience(), clock), [(0.1, UNAVAILABLE), (0.1, second)], clock)
    assert outcome == second
    assert [call.timeout_seconds for call in calls] == [0.25, pytest.approx(0.15)]
    assert {call.request_bytes for call in calls} == {b"request"}


def test_ask_unavailable_at_the_deadline_is_not_repeated() -> None:
    clock = Ticks()
    assert play(ask(CALL, Patience(), clock), [(0.25, UNAVAILABLE)], clock) == (UNAVAILABLE, [CALL])


def test_ask_whose_second_call_is_late_keeps_the_first_failure() -> None:
    clock = Ticks()
    outcome, _ = play(ask(CALL, Patience(), clock), [(0.1, UNAVAILABLE), (0.15, LATE)], clock)
    assert outcome == UNAVAILABLE


@pytest.mark.parametrize("timeout_seconds", [0.0, -1.0])
def test_ask_with_no_time_is_never_called(timeout_seconds: float) -> None:
    clock = Ticks()
    call = Call("/service/Check", b"", timeout_seconds)
    assert play(ask(call, Patience(), clock), [], clock) == (OUT_OF_TIME, [])


def test_patience_waits_once_after_an_answer_and_not_again_while_away() -> None:
    clock, patience = Ticks(), Patience()

    def run(*outcomes: Outcome) -> list[bool]:
        course: Course[Outcome] = ask(CALL, patience, clock)
        return [call.wait_for_ready for call in play(course, [(0.01, one) for one in outcomes], clock)[1]]

    assert run(UNAVAILABLE, UNAVAILABLE) == [False, False]
    assert run(b"answer") == [False]
    assert run(UNAVAILABLE, LATE) == [False, True]
    assert run(UNAVAILABLE, UNAVAILABLE) == [False, False]
    assert run(UNAVAILABLE, b"answer") == [False, False]
    assert run(UNAVAILABLE, b"answer") == [False, True]


def test_patience_learns_nothing_from_a_failure_without_a_wait() -> None:
    patience = Patience(is_worth_waiting=True)
    patience.note(Failure(UNAVAILABLE.reason), waited=False)
    assert patience.is_worth_waiting


def test_ask_answer_after_the_callers_time_is_no_answer() -> None:
    clock = Ticks()
    assert play(ask(CALL, Patience(), clock), [(0.26, b"answer")], clock) == (OUT_OF_TIME, [CALL])
    outcome, _ = play(ask(CALL, Patience(), clock), [(0.1, UNAVAILABLE), (0.16, b"answer")], clock)
    assert outcome == OUT_OF_TIME
