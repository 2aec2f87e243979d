"""A full or failing disk: nothing changes in force nor in the file, and later writes work again."""

import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consent.key_ring import KeyRing
from sidecar.cache.store import CHECKPOINT_INTERVAL_MS, EncryptedCache
from sidecar.errors import CacheWriteFailed
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.log_builder import LogBuilder

RING = KeyRing((bytes(32),), ())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


@contextmanager
def full_disk() -> Iterator[None]:
    """No write of this process behind the first page of a file gets through."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def open_with_data(place: CachePlace, log: LogBuilder) -> EncryptedCache:
    cache = await place.open()
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(50)), log.link("p1", "p2")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("ada"), log.link("ada", "p1")))
    return cache


def copy_of(log: LogBuilder) -> LogBuilder:
    """The same log, made anew: it stays as it is when the other grows."""
    copied = LogBuilder()
    copied.append(*(logged.event for logged in log.logged))
    return copied


async def test_full_disk_batch_is_refused_and_works_once_there_is_room(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    before, head = copy_of(log), cache.head
    batch = log.batch(*(log.directive(f"q{number}") for number in range(500)), log.link("ada", "q1"))
    with full_disk(), pytest.raises(CacheWriteFailed):
        await cache.apply(batch)
    assert cache.head is head
    assert_holds(cache, before)
    await cache.apply(batch)
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)


async def test_full_disk_batch_that_was_refused_is_not_in_the_file(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    before = copy_of(log)
    with full_disk(), pytest.raises(CacheWriteFailed):
        await cache.apply(log.batch(*(log.directive(f"q{number}") for number in range(500))))
    cache = await place.reopen(cache)
    assert_holds(cache, before)
    assert place.set_aside() == []


async def test_full_disk_snapshot_is_refused_and_works_once_there_is_room(place: CachePlace) -> None:
    log, other = LogBuilder(), LogBuilder()
    cache = await open_with_data(place, log)
    generation = cache.generation
    other.append(*(other.directive(f"q{number}") for number in range(500)))
    with full_disk(), pytest.raises(CacheWriteFailed):
        await cache.load_snapshot(other.snapshot())
    assert cache.generation == generation
    assert_holds(cache, log)
    await cache.apply(log.batch(log.directive("bob")))
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await cache.load_snapshot(other.snapshot())
    assert_holds(cache, other)


async def test_full_disk_merge_is_refused_and_works_once_there_is_room(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    await cache.apply(log.batch(*(log.directive(f"q{number}") for number in range(500))))
    generation = cache.generation
    with full_disk(), pytest.raises(CacheWriteFailed):
        await cache.merge()
    assert (cache.generation, cache.is_intact) == (generation, True)
    assert_holds(cache, log)
    await cache.merge()
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)


async def test_full_database_everything_is_refused_without_a_change(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    before = copy_of(log)
    generation = cache.generation
    writer = cache._durable._writer
    ((pages,),) = await writer.read("PRAGMA page_count")
    await writer.read(f"PRAGMA max_page_count = {pages}")
    batch = log.batch(*(log.directive(f"q{number}") for number in range(500)))
    with pytest.raises(CacheWriteFailed, match="SQLITE_FULL"):
        await cache.apply(batch)
    with pytest.raises(CacheWriteFailed, match="SQLITE_FULL"):
        await cache.load_snapshot(log.snapshot())
    assert (cache.head.size, cache.generation, cache.is_intact) == (before.size, generation, True)
    assert_holds(cache, before)
    await writer.read("PRAGMA max_page_count = 1073741823")
    await cache.apply(batch)
    await cache.merge()
    cache = await place.reopen(cache)
    assert_holds(cache, log)


class BrokenCommit:
    """Stands between the cache and SQLite: the next COMMIT is reported as failed.

    Args:
        connection: The real connection.
        is_persisted: Whether it is done all the same.
    """

    def __init__(self, connection: Any, *, is_persisted: bool) -> None:
        self._connection = connection
        self._is_persisted = is_persisted
        self._commits_until_failure = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            self._commits_until_failure -= 1
            if self._commits_until_failure == 0:
                if self._is_persisted:
                    await self._connection.execute(sql)
                raise sqlite3.OperationalError("disk I/O error")
        return await self._connection.execute(sql, *parameters)


def break_next_commit(cache: EncryptedCache, *, is_persisted: bool) -> None:
    writer = cache._durable._writer
    writer._connection = BrokenCommit(writer._connection, is_persisted=is_persisted)  # type: ignore[assignment]


@pytest.mark.parametrize("is_persisted", [False, True])
async def test_failed_commit_of_a_batch_file_and_memory_agree_afterwards(place: CachePlace, is_persisted: bool) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    before = copy_of(log)
    batch = log.batch(log.directive("bob"), log.link("bob", "ada"))
    break_next_commit(cache, is_persisted=is_persisted)
    if is_persisted:
        await cache.apply(batch)
    else:
        with pytest.raises(CacheWriteFailed):
            await cache.apply(batch)
        assert_holds(cache, before)
        await cache.apply(batch)
    assert_holds(cache, log)
    await cache.apply(log.batch(log.directive("cyd")))
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    assert place.set_aside() == []


@pytest.mark.parametrize("is_persisted", [False, True])
@pytest.mark.parametrize("commits", [1, 2])
async def test_failed_commit_of_a_merge_file_and_memory_agree_afterwards(
    place: CachePlace, is_persisted: bool, commits: int
) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    generation = cache.generation
    break_next_commit(cache, is_persisted=is_persisted)
    # The first commit writes the segments, the second makes them the ones in force.
    cache._durable._writer._connection._commits_until_failure = commits  # type: ignore[attr-defined]
    if is_persisted and commits == 2:
        await cache.merge()
        assert cache.generation == generation + 1
    else:
        with pytest.raises(CacheWriteFailed):
            await cache.merge()
        assert cache.generation == generation
    assert_holds(cache, log)
    await cache.apply(log.batch(log.directive("cyd"), log.link("cyd", "p1")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("dan")))
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    assert place.set_aside() == []


@pytest.mark.parametrize("is_persisted", [False, True])
async def test_failed_commit_of_a_key_ring_file_and_memory_agree_afterwards(
    place: CachePlace, is_persisted: bool
) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    break_next_commit(cache, is_persisted=is_persisted)
    if is_persisted:
        await cache.save_key_ring(RING)
    else:
        with pytest.raises(CacheWriteFailed):
            await cache.save_key_ring(RING)
        assert cache.key_ring is None
        await cache.save_key_ring(RING)
    cache = await place.reopen(cache)
    assert cache.key_ring == RING
    assert_holds(cache, log)


async def test_failed_commit_of_a_checkpoint_it_stays_in_force_and_is_kept_later(
    place: CachePlace, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogBuilder()
    cache = await open_with_data(place, log)
    break_next_commit(cache, is_persisted=False)
    place.clock.advance(CHECKPOINT_INTERVAL_MS)
    log.now_ms += CHECKPOINT_INTERVAL_MS
    await cache.save_checkpoint(log.head())
    assert "not kept yet" in caplog.text
    assert cache.head == log.head()
    cache = await place.reopen(cache)
    assert cache.head == log.head()


async def test_directory_that_cannot_be_written_a_new_cache_is_refused(place: CachePlace) -> None:
    place.directory.mkdir(mode=0o700)
    place.path.mkdir()
    with pytest.raises(CacheWriteFailed):
        await place.open()
