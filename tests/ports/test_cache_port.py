"""What every cache must do behind `sidecar.ports.Cache`, and every key provider behind `KeyProvider`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from consent.event import KeyEpochEvent, PolicyEvent, ReceivedEvent
from consent.key_ring import KeyRing, commit_key
from consent.policy import format_policy
from sidecar.errors import WrongCacheKey
from sidecar.ports import EMPTY_HEAD, Cache, KeyProvider
from tests.fakes.cache_place import CachePlace, assert_holds, make_keys
from tests.fakes.histories import make_policy
from tests.fakes.log_builder import LogBuilder, token_of

RING = KeyRing((bytes(32),), ((20_000, b"\x01" * 32),))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


@pytest.fixture
async def cache(place: CachePlace) -> Cache:
    return await place.open()


@pytest.fixture
def log() -> LogBuilder:
    return LogBuilder()


@pytest.fixture
def keys(tmp_path: Path) -> KeyProvider:
    return make_keys(tmp_path)


def policy_event(log: LogBuilder, version: int) -> PolicyEvent:
    document = format_policy(replace(make_policy(), version=version, replaces_version=version - 1))
    return PolicyEvent(origin=log.origin, version=version, replaces_version=version - 1, document=document)


async def test_cache_before_the_first_data_holds_nothing(cache: Cache) -> None:
    assert cache.head == EMPTY_HEAD
    assert (cache.policy, cache.key_ring, cache.subject_count, cache.is_intact) == (None, None, 0, True)
    assert len(cache.private_key) == 32
    assert cache.find(token_of("ada")) is None


async def test_cache_applied_batches_are_in_force(cache: Cache, log: LogBuilder) -> None:
    for batch in log.batches(
        [log.directive("ada"), log.link("ada", "bob"), log.directive("bob"), log.unlink("ada", "bob")], 1
    ):
        await cache.apply(batch)
        assert cache.head == batch.head
    assert_holds(cache, log)  # type: ignore[arg-type]


async def test_cache_batch_of_informative_entries_grows_the_log_only(cache: Cache, log: LogBuilder) -> None:
    await cache.apply(log.batch(ReceivedEvent(origin=log.origin, received_at_ms=1, request_type=1)))
    assert (cache.head.size, cache.subject_count) == (1, 0)


async def test_cache_policy_and_key_epoch_come_with_the_log(cache: Cache, log: LogBuilder) -> None:
    epoch = KeyEpochEvent(origin=log.origin, epoch=0, key_commitment=commit_key(bytes(32)))
    await cache.apply(log.batch(epoch, policy_event(log, 1)))
    assert cache.policy is not None
    assert (cache.policy.version, cache.head.tenant.key_commitments) == (1, (commit_key(bytes(32)),))
    first = cache.policy
    await cache.apply(log.batch(log.directive("ada")))
    assert cache.policy is first
    await cache.apply(log.batch(policy_event(log, 2)))
    assert (cache.policy.version, cache.policy.version_seqs[2]) == (2, 4)


async def test_cache_snapshot_replaces_everything_and_raises_the_generation(cache: Cache, log: LogBuilder) -> None:
    await cache.apply(log.batch(log.directive("nobody-else-has-this")))
    other = LogBuilder()
    other.append(policy_event(other, 1), other.directive("ada"), other.link("ada", "bob"), other.directive("cyd"))
    before = cache.generation
    await cache.load_snapshot(other.snapshot())
    assert cache.generation > before
    assert cache.head == other.head()
    assert cache.policy is not None
    assert cache.find(token_of("nobody-else-has-this")) is None
    assert_holds(cache, other)  # type: ignore[arg-type]
    await cache.apply(other.batch(other.directive("ada")))
    assert_holds(cache, other)  # type: ignore[arg-type]


async def test_cache_checkpoint_for_the_same_size_is_in_force_at_once(cache: Cache, log: LogBuilder) -> None:
    await cache.apply(log.batch(log.directive("ada")))
    log.now_ms += 60_000
    await cache.save_checkpoint(log.head())
    assert cache.head == log.head()
    assert_holds(cache, log)  # type: ignore[arg-type]


async def test_cache_key_ring_is_kept(cache: Cache) -> None:
    await cache.save_key_ring(RING)
    assert cache.key_ring == RING


async def test_cache_reopened_holds_what_it_held(place: CachePlace, log: LogBuilder) -> None:
    cache = await place.open()
    await cache.save_key_ring(RING)
    log.append(policy_event(log, 1), log.directive("ada"))
    await cache.load_snapshot(log.snapshot())
    await cache.apply(log.batch(log.directive("bob"), policy_event(log, 2)))
    await cache.apply(log.batch(log.link("ada", "bob")))
    held = (cache.head, cache.generation, cache.private_key, cache.key_ring, cache.subject_count, cache.policy)
    await cache.close()
    cache = await place.open()
    assert (cache.head, cache.generation, cache.private_key, cache.key_ring, cache.subject_count, cache.policy) == held
    assert_holds(cache, log)
    await cache.close()


async def test_wait_for_size_that_is_reached_returns_at_once(cache: Cache, log: LogBuilder) -> None:
    assert await cache.wait_for_size(0, 0)
    await cache.apply(log.batch(log.directive("ada")))
    assert await cache.wait_for_size(1, 0)


async def test_wait_for_size_ends_with_the_batch_that_reaches_it(cache: Cache, log: LogBuilder) -> None:
    waiting = [asyncio.create_task(cache.wait_for_size(size, 60)) for size in (1, 2, 2)]
    await asyncio.sleep(0)
    await cache.apply(log.batch(log.directive("ada")))
    assert await waiting[0]
    assert not any(task.done() for task in waiting[1:])
    await cache.apply(log.batch(log.directive("bob")))
    assert await asyncio.gather(*waiting[1:]) == [True, True]


async def test_wait_for_size_ends_with_a_snapshot(cache: Cache, log: LogBuilder) -> None:
    waiting = asyncio.create_task(cache.wait_for_size(2, 60))
    await asyncio.sleep(0)
    log.append(log.directive("ada"), log.directive("bob"))
    await cache.load_snapshot(log.snapshot())
    assert await waiting


async def test_wait_for_size_gives_up_when_the_time_is_up(cache: Cache) -> None:
    assert not await cache.wait_for_size(1, 0)
    assert not await cache.wait_for_size(1, 0.001)


async def test_wait_for_size_cancelled_leaves_others_waiting(cache: Cache, log: LogBuilder) -> None:
    leaving, staying = (asyncio.create_task(cache.wait_for_size(1, 60)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    await cache.apply(log.batch(log.directive("ada")))
    assert await staying


def test_key_provider_unwraps_what_it_wrapped_for_one_purpose_only(keys: KeyProvider) -> None:
    wrapped = keys.wrap(bytes(32), "one")
    assert keys.unwrap(wrapped, "one") == bytes(32)
    assert keys.is_current(wrapped)
    with pytest.raises(WrongCacheKey):
        keys.unwrap(wrapped, "two")
