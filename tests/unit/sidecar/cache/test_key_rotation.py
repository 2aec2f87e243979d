"""Newer keys while the cache is in use: nothing waits, nothing is lost, and what was retired opens nothing any more."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.cache.generation import KEY_PURPOSE
from sidecar.cache.sealing import DataKey
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheWriteFailed, CorruptCache, KeyServiceUnavailable, WrongCacheKey
from tests.fakes.cache_place import CachePlace, assert_empty, assert_holds, make_keys
from tests.fakes.log_builder import LogBuilder, token_of


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


def rotate_files(place: CachePlace) -> None:
    """As a secret that is mounted changes: the one file now holds another key."""
    (place.root / "kek.key").unlink()
    make_keys(place.root)


async def wrapped_keys(cache: EncryptedCache) -> set[bytes]:
    rows = await cache._durable._writer.read("SELECT value FROM meta WHERE name IN ('key', 'key_copy')")
    return {value for (value,) in rows}


async def test_rotation_under_load_loses_nothing_and_checks_go_on(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    over, rotating = asyncio.Event(), asyncio.Event()
    acknowledged, counts = {token_of("ada")}, {"checks": 0, "batches": 0, "merges": 0}

    async def check() -> None:
        while not over.is_set():
            assert all(cache.find(token) is not None for token in acknowledged)
            counts["checks"] += rotating.is_set()
            await asyncio.sleep(0)

    async def grow() -> None:
        while not over.is_set():
            counts["batches"] += 1
            await cache.apply(
                log.batch(log.directive(f"p{counts['batches']}"), log.link(f"p{counts['batches']}", "ada"))
            )
            acknowledged.add(token_of(f"p{counts['batches']}"))

    async def merge() -> None:
        while not over.is_set():
            await cache.merge()
            counts["merges"] += 1

    async with asyncio.TaskGroup() as tasks:
        for work in (check(), grow(), merge()):
            tasks.create_task(work)
        for _ in range(5):
            rotate_files(place)
            rotating.set()
            await cache.rewrap_key()
            rotating.clear()
        over.set()
    assert min(counts.values()) > 1
    assert_holds(cache, log)
    # Only the last key is there now, and it opens everything.
    await cache.close()
    place.keys = make_keys(place.root)
    assert_holds(await place.open(), log)
    assert place.set_aside() == []


async def test_newer_key_is_taken_up_without_being_asked(place: CachePlace) -> None:
    cache = await place.open(key_check_seconds=0.01)
    before = await wrapped_keys(cache)
    rotate_files(place)
    async with asyncio.timeout(10):
        while await wrapped_keys(cache) == before:
            await asyncio.sleep(0.01)
    await cache.close()
    place.keys = make_keys(place.root)
    assert_empty(await place.open())


async def test_rotation_leaves_no_wrapping_by_the_older_key_in_any_file(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    (older,) = await wrapped_keys(cache)
    older_mark = place.mark_path.read_bytes()
    rotate_files(place)
    await cache.rewrap_key()
    (newer,) = await wrapped_keys(cache)
    assert newer != older
    contents = [*place.files().values(), place.mark_path.read_bytes()]
    assert [older in content or older_mark[4:60] in content for content in contents] == [False] * len(contents)
    with pytest.raises(WrongCacheKey):
        make_keys(place.root).unwrap(older, KEY_PURPOSE)


async def test_rotated_mark_still_tells_an_older_file(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    rotate_files(place)
    await cache.rewrap_key()
    await cache.apply(log.batch(log.directive("ada")))
    files = place.files()
    shutil.copy2(place.root / "kek.key", place.root / "old.key")
    place.clock.advance(60_000)
    await cache.apply(log.batch(log.directive("revoked-since")))
    rotate_files(place)
    await cache.rewrap_key()
    await cache.close()
    # The first key, under which the mark once was, is gone for good.
    place.keys = make_keys(place.root, "kek", "old")
    place.restore(files)
    assert_empty(await place.open())
    assert len(place.set_aside()) == 1


async def test_rotation_that_cannot_be_written_is_tried_again(
    place: CachePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open(key_check_seconds=0.01)
    (older,) = await wrapped_keys(cache)

    async def fail(*_: object) -> None:
        raise CacheWriteFailed("the cache file cannot be written: SQLITE_FULL")

    with monkeypatch.context() as patch:
        patch.setattr(cache._durable._writer, "commit", fail)
        rotate_files(place)
        async with asyncio.timeout(10):
            while "SQLITE_FULL" not in caplog.text:
                await asyncio.sleep(0.01)
    await cache.apply(log.batch(log.directive("ada")))
    async with asyncio.timeout(10):
        while await wrapped_keys(cache) == {older}:
            await asyncio.sleep(0.01)
    await cache.close()
    place.keys = make_keys(place.root)
    assert_holds(await place.open(), log)


async def test_rotation_whose_commit_is_reported_as_failed_and_is_durable_opens_with_either_key(
    place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    commit = cache._durable._writer.commit

    async def commit_and_fail(statements: object) -> None:
        await commit(statements)  # type: ignore[arg-type]
        raise CacheWriteFailed("the cache file cannot be written: SQLITE_IOERR_FSYNC")

    place.keys = cache._keys = cache._durable._keys = make_keys(place.root, "new", "kek")
    with monkeypatch.context() as patch:
        patch.setattr(cache._durable._writer, "commit", commit_and_fail)
        with pytest.raises(CacheWriteFailed):
            await cache.rewrap_key()
    await cache.apply(log.batch(log.directive("bob")))
    await cache.rewrap_key()
    await cache.close()
    place.keys = make_keys(place.root, "new")
    assert_holds(await place.open(), log)


async def test_key_service_that_is_away_stops_nothing_that_runs(
    place: CachePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open(key_check_seconds=0.01)

    def fail() -> None:
        raise KeyServiceUnavailable("the key service does not answer")

    monkeypatch.setattr(place.keys, "refresh", fail)
    async with asyncio.timeout(10):
        while "does not answer" not in caplog.text:
            await cache.apply(log.batch(log.directive("ada")))
    await cache.merge()
    assert not cache._key_watch.done()
    assert_holds(cache, log)


async def test_each_generation_has_a_data_key_that_opens_nothing_of_another(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    held = []
    for name in ("ada", "bob", "cyd"):
        await cache.apply(log.batch(log.directive(name)))
        await cache.merge()
        generation = cache._durable._generation
        rows = await cache._durable._writer.read("SELECT number, blob FROM segment ORDER BY number")
        meta = dict(await cache._durable._writer.read("SELECT name, value FROM meta"))
        held.append((generation.data_key.reveal(), generation.binding, rows, meta))
    assert len({data_key for data_key, *_ in held}) == 3
    for owner, (data_key, *_) in enumerate(held):
        for other, (_, binding, rows, meta) in enumerate(held):
            key = DataKey(data_key)
            into = memoryview(bytearray(len(rows[0][1]) - 16))
            outcome = contextlib.nullcontext() if owner == other else pytest.raises(CorruptCache)
            with outcome:
                key.open_segment(0, binding.place("segment", 0, len(rows)), rows[0][1], into)
            with contextlib.nullcontext() if owner == other else pytest.raises(CorruptCache):
                key.open("meta", binding.place("secrets"), meta["secrets"])


async def test_merge_overwrites_the_data_key_that_it_replaces(place: CachePlace) -> None:
    cache = await place.open()
    older = cache._durable._generation
    (wrapped,) = await wrapped_keys(cache)
    await cache.merge()
    assert older.data_key.reveal() == bytes(32)
    assert wrapped not in b"".join(place.files().values())
