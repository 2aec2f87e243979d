"""Many requests of one stream at a time, answered in the order in which they came."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def answer_in_order(
    requests: AsyncIterable[Q], answer: Callable[[Q], Awaitable[A]], max_in_flight: int, weigh: Callable[[Q], int]
) -> AsyncGenerator[A, None]:
    """Work on several requests at once and yield their answers in order.

    An error of `answer`, or of `requests`, ends the generator, after everything that was asked before has been answered.

    Args:
        requests: Read only as fast as answers are taken: one further than there is room for.
        answer: Answers one request.
        max_in_flight: Most that the requests which are worked on, or whose answer was not taken yet, may weigh together.
        weigh: Weight of a request, at least 1; one that weighs more than `max_in_flight` is worked on alone.
    """
    room = _Room(max_in_flight)
    waiting: asyncio.Queue[tuple[asyncio.Future[A], int] | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async for request in requests:
                weight = weigh(request)
                await room.enter(weight)
                waiting.put_nowait((asyncio.ensure_future(answer(request)), weight))
        finally:
            waiting.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (under_way := await waiting.get()) is not None:
            future, weight = under_way
            yield await future
            room.leave(weight)
        await reader
    finally:
        reader.cancel()
        left: list[asyncio.Future[Any]] = [reader, *_drain(waiting)]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Room:
    """Bounds what is under way; one task at a time may wait to enter."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._somebody_left = asyncio.Event()

    async def enter(self, weight: int) -> None:
        while self._taken and self._taken + weight > self._size:
            self._somebody_left.clear()
            await self._somebody_left.wait()
        self._taken += weight

    def leave(self, weight: int) -> None:
        self._taken -= weight
        self._somebody_left.set()


def _drain(waiting: "asyncio.Queue[tuple[asyncio.Future[A], int] | None]") -> "list[asyncio.Future[A]]":
    left = []
    while not waiting.empty():
        under_way = waiting.get_nowait()
        if under_way is not None:
            left.append(under_way[0])
    return left
