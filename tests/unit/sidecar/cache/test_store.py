"""What the cache does beyond its port: the rhythm of its writes, merges, starts, and who may open it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hosting.errors import InstanceLocked
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.store import CHECKPOINT_INTERVAL_MS
from sidecar.errors import CacheWriteFailed, ForeignCache, WrongCacheKey
from sidecar.ports import LogHead
from tests.fakes.cache_place import IDENTITY, CachePlace, assert_empty, assert_holds, make_keys
from tests.fakes.log_builder import LogBuilder, token_of


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


def newer(log: LogBuilder, by_ms: int = 1000) -> LogHead:
    """The same log with a later checkpoint."""
    log.now_ms += by_ms
    return log.head()


async def test_open_nothing_there_makes_an_empty_cache_of_generation_one(place: CachePlace) -> None:
    cache = await place.open()
    assert_empty(cache)
    assert (cache.generation, cache.is_intact, len(cache.private_key)) == (1, True, 32)
    assert place.directory.stat().st_mode & 0o777 == 0o700
    await cache.close()


async def test_open_after_a_kill_before_the_first_commit_starts_empty_without_setting_aside(place: CachePlace) -> None:
    place.directory.mkdir(mode=0o700)
    place.path.touch()
    cache = await place.open()
    assert_empty(cache)
    assert place.set_aside() == []
    await cache.close()


async def test_open_by_a_second_sidecar_is_refused_and_disturbs_nothing(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    with pytest.raises(InstanceLocked):
        await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    assert_holds(cache, log)
    await cache.close()


async def test_open_after_a_failed_start_finds_the_directory_free(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache.close()
    right, place.keys = place.keys, make_keys(place.root, "wrong")
    with pytest.raises(WrongCacheKey):
        await place.open()
    place.keys = right
    cache = await place.open()
    assert_holds(cache, log)
    await cache.close()


async def test_close_twice_is_harmless(place: CachePlace) -> None:
    cache = await place.open()
    await cache.close()
    await cache.close()


@pytest.mark.parametrize("kind", ["clean", "killed"])
async def test_wrong_key_is_refused_and_the_files_stay_byte_for_byte(place: CachePlace, kind: str) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    files = place.files()
    await cache.close()
    if kind == "killed":
        # As a kill leaves them: what was committed is still in the log of writes.
        place.restore(files)
        assert len(files["cache.db-wal"]) > 0
    files, mark = place.files(), place.mark_path.read_bytes()
    right, place.keys = place.keys, make_keys(place.root, "wrong")
    with pytest.raises(WrongCacheKey):
        await place.open()
    left = {name: content for name, content in place.files().items() if content}
    assert left == {name: content for name, content in files.items() if content}
    assert place.mark_path.read_bytes() == mark
    place.keys = right
    cache = await place.open()
    assert_holds(cache, log)
    await cache.close()


@pytest.mark.parametrize(
    "stranger",
    [
        CacheIdentity("sidecar-2", IDENTITY.tenant, IDENTITY.origin),
        CacheIdentity(IDENTITY.sidecar_id, "other", IDENTITY.origin),
        CacheIdentity(IDENTITY.sidecar_id, IDENTITY.tenant, "log.example.net/other"),
    ],
)
async def test_foreign_cache_is_refused_by_name_and_stays_byte_for_byte(
    place: CachePlace, stranger: CacheIdentity
) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache.close()
    files = place.files()
    place.identity = stranger
    with pytest.raises(ForeignCache, match=f"expected sidecar {stranger.sidecar_id}, tenant {stranger.tenant}"):
        await place.open()
    assert {name: content for name, content in place.files().items() if content} == files
    place.identity = IDENTITY
    cache = await place.open()
    assert_holds(cache, log)
    await cache.close()


async def test_key_rotation_wraps_anew_at_the_start_and_the_old_key_may_go(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    place.keys = make_keys(place.root, "new", "kek")
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await cache.close()
    place.keys = make_keys(place.root, "new")
    cache = await place.open()
    assert_holds(cache, log)
    await cache.close()
    assert place.set_aside() == []


async def test_private_key_is_kept_over_starts_and_merges_and_differs_between_caches(tmp_path: Path) -> None:
    place, log = CachePlace(tmp_path / "one"), LogBuilder()
    cache = await place.open()
    private_key = cache.private_key
    await cache.apply(log.batch(log.directive("ada")))
    await cache.merge()
    cache = await place.reopen(cache)
    assert cache.private_key == private_key
    await cache.close()
    other = await CachePlace(tmp_path / "two").open()
    assert other.private_key != private_key
    await other.close()


async def test_apply_batch_that_does_not_follow_is_refused_and_changes_nothing(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    first, second = log.batches([log.directive("ada"), log.directive("bob")], 1)
    for wrong in (
        second,
        replace(first, events=()),
        replace(first, head=second.head),
        replace(second, head=first.head),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            await cache.apply(wrong)
    assert_empty(cache)
    await cache.apply(first)
    with pytest.raises(ValueError, match="does not follow"):
        await cache.apply(first)
    await cache.apply(second)
    assert_holds(cache, log)
    await cache.close()


async def test_apply_cancelled_caller_leaves_file_and_memory_in_step(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    task = asyncio.create_task(cache.apply(log.batch(log.directive("ada"))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cache.apply(log.batch(log.directive("bob")) if await cache.wait_for_size(1, 5) else log.batch())
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await cache.close()


async def test_find_never_sees_half_a_batch(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    task = asyncio.create_task(cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(50)))))
    seen = set()
    while not task.done():
        found = sum(cache.find(token) is not None for token in log.clusters)
        seen.add((found, cache.head.size, cache.subject_count))
        await asyncio.sleep(0)
    assert seen <= {(0, 0, 0), (50, 50, 50)}
    assert (0, 0, 0) in seen
    await cache.close()


async def test_checkpoint_is_in_force_at_once_and_durable_after_the_interval(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    kept = log.head()
    await cache.save_checkpoint(newer(log))
    assert cache.head == log.head()
    assert cache._durable.manifest.checkpoint == kept.checkpoint
    place.clock.advance(CHECKPOINT_INTERVAL_MS)
    await cache.save_checkpoint(newer(log))
    assert cache._durable.manifest.checkpoint == log.head().checkpoint
    await cache.close()


async def test_checkpoint_pending_is_kept_by_close(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache.save_checkpoint(newer(log))
    cache = await place.reopen(cache)
    assert cache.head == log.head()
    await cache.close()


async def test_checkpoint_pending_is_kept_by_the_next_batch_and_by_a_merge(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache.save_checkpoint(newer(log))
    await cache.merge()
    assert cache.head == log.head()
    assert cache._durable.manifest.checkpoint == log.head().checkpoint
    await cache.save_checkpoint(newer(log))
    await cache.apply(log.batch(log.directive("bob")))
    assert cache._durable.manifest.checkpoint == log.head().checkpoint
    assert not cache._is_checkpoint_pending
    await cache.close()


async def test_checkpoint_pending_is_kept_by_the_caches_own_task_when_nothing_else_comes(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    # The interval is over but for one millisecond, which the task waits for on the machine's clock.
    place.clock.advance(CHECKPOINT_INTERVAL_MS - 1)
    await cache.save_checkpoint(newer(log))
    place.clock.advance(1)
    async with asyncio.timeout(10):
        while cache._durable.manifest.checkpoint != log.head().checkpoint:
            await asyncio.sleep(0)
    await cache.close()


async def test_checkpoint_of_another_size_is_refused(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    with pytest.raises(ValueError, match="another size"):
        await cache.save_checkpoint(log.batch(log.directive("ada")).head)
    await cache.close()


async def test_merge_happens_by_itself_after_enough_entries_and_not_before(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open(merge_after_entries=4)
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(3))))
    assert not cache._work.is_set()
    await cache.apply(log.batch(log.directive("p3")))
    async with asyncio.timeout(10):
        while cache.generation == 1:
            await asyncio.sleep(0)
    assert_holds(cache, log)
    await cache.apply(log.batch(*(log.directive(f"q{number}") for number in range(3))))
    assert (cache.generation, cache._work.is_set()) == (2, False)
    await cache.close()


async def test_merge_lets_batches_and_checks_go_on(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(40)), log.link("p1", "p2")))
    merge = asyncio.create_task(cache.merge())
    count = 0
    while not merge.done():
        await cache.apply(
            log.batch(log.directive(f"p{count}"), log.directive(f"q{count}"), log.link("p2", f"q{count}"))
        )
        assert_holds(cache, log)
        count += 1
    await merge
    assert count > 1
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    assert cache.generation == 2
    await cache.close()


async def test_merge_leaves_nothing_of_the_older_generation_behind(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(40))))
    for _ in range(3):
        await cache.merge()
    rows = await cache._durable._writer.read("SELECT DISTINCT generation FROM segment")
    assert (rows, await cache._durable._writer.read("SELECT * FROM delta")) == ([(4,)], [])
    assert place.files()["cache.db-wal"] == b""
    await cache.close()


async def test_merge_of_segments_that_a_kill_left_behind_takes_their_place(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache._durable._writer.commit(
        [("INSERT INTO segment VALUES (?, ?, ?)", [(2, n, b"left over") for n in range(40)])]
    )
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await cache.merge()
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await cache.close()


async def test_merge_that_fails_is_tried_again_later_and_says_so(
    place: CachePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open(merge_after_entries=2)

    async def fail(*_: object) -> None:
        raise CacheWriteFailed("the cache file cannot be written: SQLITE_FULL")

    with monkeypatch.context() as patch:
        patch.setattr(cache._durable, "stage", fail)
        await cache.apply(log.batch(log.directive("ada"), log.directive("bob")))
        async with asyncio.timeout(10):
            while "SQLITE_FULL" not in caplog.text:
                await asyncio.sleep(0)
    assert (cache.generation, cache.is_intact) == (1, True)
    await cache.apply(log.batch(log.directive("cyd")))
    assert not cache._work.is_set()
    await cache.apply(log.batch(log.directive("dan")))
    async with asyncio.timeout(10):
        while cache.generation == 1:
            await asyncio.sleep(0)
    assert_holds(cache, log)
    await cache.close()


async def test_close_during_a_merge_gives_it_up_and_loses_nothing(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open(merge_after_entries=1)
    await cache.apply(log.batch(log.directive("ada")))
    await asyncio.sleep(0)
    await cache.close()
    cache = await place.open()
    assert_holds(cache, log)
    assert place.set_aside() == []
    await cache.close()


async def test_maintenance_that_ends_by_a_bug_is_reported(
    place: CachePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open(merge_after_entries=1)
    monkeypatch.setattr(cache, "merge", None)
    await cache.apply(log.batch(log.directive("ada")))
    async with asyncio.timeout(10):
        while not cache._maintenance.done():
            await asyncio.sleep(0)
    await cache.close()
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


async def test_start_on_a_full_disk_still_answers_though_the_key_is_to_be_wrapped_anew(
    place: CachePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada")))
    await cache.close()
    place.keys = make_keys(place.root, "new", "kek")

    async def fail(*_: object) -> None:
        raise CacheWriteFailed("the cache file cannot be written: SQLITE_FULL")

    with monkeypatch.context() as patch:
        patch.setattr("sidecar.cache.durable.DurableCache.rewrap_key", fail)
        cache = await place.open()
    assert_holds(cache, log)
    assert cache.find(token_of("ada")) is not None
    assert "SQLITE_FULL" in caplog.text
    await cache.close()
