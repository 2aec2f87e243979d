import asyncio
from collections.abc import AsyncIterator

import pytest

from feed.grpc_api.ordered_answers import answer_in_order


async def ask(count: int, asked: list[int] | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if asked is not None:
            asked.append(number)
        yield number


def one(_: int) -> int:
    return 1


async def test_answers_come_in_the_order_of_the_requests_although_later_ones_are_ready_first() -> None:
    gate = asyncio.Event()

    async def answer(number: int) -> int:
        if number == 0:
            await gate.wait()
        elif number == 4:
            gate.set()
        return number

    assert [number async for number in answer_in_order(ask(5), answer, 10, one)] == [0, 1, 2, 3, 4]


async def test_answers_no_more_requests_are_read_than_may_be_in_flight() -> None:
    asked: list[int] = []
    under_way = 0
    most = 0

    async def answer(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return number

    answers = answer_in_order(ask(100, asked), answer, 3, one)
    assert await anext(answers) == 0
    assert len(asked) <= 4
    assert [number async for number in answers] == list(range(1, 100))
    assert most <= 3


async def test_answers_requests_that_weigh_more_are_fewer_at_a_time() -> None:
    under_way = 0
    most = 0

    async def answer(number: int) -> int:
        nonlocal under_way, most
        under_way += number
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= number
        return number

    async def ask_weights() -> AsyncIterator[int]:
        for weight in [4, 5, 1, 10, 2, 30, 3] * 5:
            yield weight

    answers = [weight async for weight in answer_in_order(ask_weights(), answer, 10, lambda weight: weight)]
    assert answers == [4, 5, 1, 10, 2, 30, 3] * 5
    assert most == 30  # alone: nothing beside it


async def test_answers_request_that_finds_no_room_waits_until_an_answer_was_taken() -> None:
    begun: list[int] = []

    async def answer(weight: int) -> int:
        begun.append(weight)
        return weight

    async def ask_weights() -> AsyncIterator[int]:
        for weight in (4, 6, 1):
            yield weight

    answers = answer_in_order(ask_weights(), answer, 10, lambda weight: weight)
    assert await anext(answers) == 4
    for _ in range(10):
        await asyncio.sleep(0)
    assert begun == [4, 6]
    assert await anext(answers) == 6
    assert [weight async for weight in answers] == [1]


async def test_answers_error_of_an_answer_ends_them_after_those_before_it() -> None:
    async def answer(number: int) -> int:
        if number == 2:
            raise LookupError("no answer")
        return number

    answers = answer_in_order(ask(5), answer, 10, one)
    assert [await anext(answers), await anext(answers)] == [0, 1]
    with pytest.raises(LookupError):
        await anext(answers)


async def test_answers_error_of_the_requests_ends_them_after_everything_asked_before() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("gone")

    async def answer(number: int) -> int:
        return number

    answers = answer_in_order(broken(), answer, 10, one)
    assert await anext(answers) == 1
    with pytest.raises(ConnectionError):
        await anext(answers)


async def test_answers_closed_early_leave_nothing_running() -> None:
    never = asyncio.Event()
    cancelled = []

    async def answer(number: int) -> int:
        if number:
            try:
                await never.wait()
            finally:
                cancelled.append(number)
        return number

    answers = answer_in_order(ask(4), answer, 10, one)
    assert await anext(answers) == 0
    await asyncio.sleep(0)
    await answers.aclose()
    assert sorted(cancelled) == [1, 2, 3]
    assert asyncio.all_tasks() == {asyncio.current_task()}
