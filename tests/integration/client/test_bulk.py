"""Bulk jobs over a real stream, with both clients."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from consentry_client import AsyncClient, BulkLimits, Client, Decision, Identifier, Reason, user
from consentry_client.testing import FakeSidecar

from tests.integration.client.asker import Asker

PURPOSE = "marketing"


def user_of(number: int) -> Identifier:
    return user(str(number))


class Source:
    """Numbers from 0, with a count of how many were taken."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.length):
            self.taken += 1
            yield number


def allow_every_third(sidecar: FakeSidecar, length: int) -> list[int]:
    allowed = list(range(0, length, 3))
    for number in allowed:
        sidecar.allow(user(str(number)), PURPOSE)
    return allowed


async def test_filter_allowed_of_25000_keeps_order_with_bounded_look_ahead(kind: str, sidecar: FakeSidecar) -> None:
    allowed = allow_every_third(sidecar, 25_000)
    source = Source(25_000)
    kept: list[int] = []
    denied: list[int] = []
    most_ahead = 0

    def note(number: int) -> None:
        nonlocal most_ahead
        kept.append(number)
        most_ahead = max(most_ahead, source.taken - len(kept) - len(denied))

    def on_denied(number: int, _: Decision) -> None:
        denied.append(number)

    if kind == "sync":
        with Client(sidecar.address) as client:
            for number in client.filter_allowed(source, key=user_of, purpose=PURPOSE, on_denied=on_denied):
                note(number)
    else:
        async with AsyncClient(sidecar.address) as asker:
            async for number in asker.filter_allowed(source, key=user_of, purpose=PURPOSE, on_denied=on_denied):
                note(number)
    assert kept == allowed
    assert sorted(kept + denied) == list(range(25_000))
    assert most_ahead <= 4 * 1000
    assert {call.method for call in sidecar.calls} == {"CheckStream"}
    assert [len(call.subjects) for call in sidecar.calls] == [1000] * 25


async def test_filter_allowed_is_lazy_and_stops_with_its_consumer(kind: str, sidecar: FakeSidecar) -> None:
    for number in range(100):
        sidecar.allow(user(str(number)), PURPOSE)
    source = Source(10**9)
    limits = BulkLimits(batch_items=10, look_ahead_batches=2)
    if kind == "sync":
        with Client(sidecar.address) as client:
            kept = client.filter_allowed(source, key=user_of, purpose=PURPOSE, limits=limits)
            assert source.taken == 0
            assert next(kept) == 0
            kept.close()  # type: ignore[attr-defined]
    else:
        async with AsyncClient(sidecar.address) as asker:
            ahead = asker.filter_allowed(source, key=user_of, purpose=PURPOSE, limits=limits)
            assert source.taken == 0
            assert await anext(ahead) == 0
            await ahead.aclose()  # type: ignore[attr-defined]
    assert source.taken == 20


async def test_filter_allowed_through_a_restart_of_the_server_loses_nothing(
    make_asker: Callable[..., Asker], sidecar: FakeSidecar
) -> None:
    allowed = allow_every_third(sidecar, 3_000)
    restarted = threading.Event()

    def source() -> Iterator[int]:
        for number in range(3_000):
            if number == 1_500:
                sidecar.stop()
                sidecar.start()
                restarted.set()
            yield number

    kept = await make_asker(sidecar.address).filter_allowed(
        source(), key=user_of, purpose=PURPOSE, limits=BulkLimits(batch_items=100, look_ahead_batches=3)
    )
    assert restarted.is_set()
    assert kept == allowed


async def test_filter_allowed_without_server_drops_all_and_tells(
    make_asker: Callable[..., Asker], sidecar: FakeSidecar
) -> None:
    sidecar.stop()
    denied: list[Decision] = []
    kept = await make_asker(sidecar.address, batch_timeout_seconds=0.1).filter_allowed(
        range(50),
        key=user_of,
        purpose=PURPOSE,
        limits=BulkLimits(batch_items=10, look_ahead_batches=2),
        on_denied=lambda _, decision: denied.append(decision),
    )
    assert kept == []
    assert [decision.reason for decision in denied] == [Reason.CLIENT_UNAVAILABLE] * 50


@pytest.mark.parametrize("where", ["source", "key", "on_denied"])
async def test_filter_allowed_passes_on_what_the_caller_raises(
    make_asker: Callable[..., Asker], sidecar: FakeSidecar, where: str
) -> None:
    def fail(place: str, number: int) -> None:
        if place == where and number == 7:
            raise LookupError(place)

    def source() -> Iterator[int]:
        for number in range(100):
            fail("source", number)
            yield number

    def key_of(number: int) -> object:
        fail("key", number)
        return user(str(number))

    asker = make_asker(sidecar.address)
    with pytest.raises(LookupError, match=where):
        await asker.filter_allowed(
            source(),
            key=key_of,
            purpose=PURPOSE,
            limits=BulkLimits(batch_items=5, look_ahead_batches=1),
            on_denied=lambda number, _: fail("on_denied", number),
        )
    # The client is none the worse for it.
    sidecar.allow(user("1"), PURPOSE)
    assert await asker.check(user("1"), PURPOSE)


async def test_filter_allowed_with_slow_consumer_heeds_an_opt_out_meanwhile(kind: str, sidecar: FakeSidecar) -> None:
    now = 0.0

    def monotonic() -> float:
        return now

    for number in range(100):
        sidecar.allow(user(str(number)), PURPOSE)
    kept = []

    def consume(number: int) -> None:
        nonlocal now
        kept.append(number)
        now += 1.0
        if number == 10:
            sidecar.deny(user("50"), PURPOSE)

    if kind == "sync":
        with Client(sidecar.address, monotonic=monotonic, timeout_seconds=20) as client:
            for number in client.filter_allowed(range(100), key=user_of, purpose=PURPOSE):
                consume(number)
    else:
        async with AsyncClient(sidecar.address, monotonic=monotonic, timeout_seconds=20) as asker:
            async for number in asker.filter_allowed(range(100), key=user_of, purpose=PURPOSE):
                consume(number)
    assert kept == [number for number in range(100) if number != 50]


async def test_async_filter_allowed_takes_an_asynchronous_source(sidecar: FakeSidecar) -> None:
    allowed = allow_every_third(sidecar, 30)

    async def source() -> AsyncIterator[int]:
        for number in range(30):
            await asyncio.to_thread(lambda: None)
            yield number

    async with AsyncClient(sidecar.address) as client:
        kept = [number async for number in client.filter_allowed(source(), key=user_of, purpose=PURPOSE)]
    assert kept == allowed


def test_filter_allowed_leaves_no_thread_behind(sidecar: FakeSidecar) -> None:
    allow_every_third(sidecar, 100)
    before = set(threading.enumerate())
    with Client(sidecar.address, batch_timeout_seconds=1000) as client:
        limits = BulkLimits(batch_items=10, look_ahead_batches=2)
        for _ in range(3):
            assert next(client.filter_allowed(range(100), key=user_of, purpose=PURPOSE, limits=limits)) == 0
        started = [thread for thread in set(threading.enumerate()) - before if "FakeSidecar" not in thread.name]
    for thread in started:
        thread.join(2)
    assert [thread.name for thread in started if thread.is_alive()] == []
