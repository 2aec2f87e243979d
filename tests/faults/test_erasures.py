"""An erasure that is cut short anywhere: all of it is done or nothing, and what was done leaves no older copy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consent.event import ErasureEvent, LinkEvent
from feed.erasure import Eraser
from feed.errors import LogWriteFailed
from feed.publish import Publisher
from feed.signing.subject_keys import SubjectKeys
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheWriteFailed
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.feed_log import ORIGIN, SUBJECT_KEYS, OpenLog, make_request, open_log, token_of, verify_erased
from tests.fakes.log_builder import START_MS, LogBuilder
from tests.fakes.log_builder import token_of as builder_token
from tests.faults.test_cache_disk import break_next_commit
from tests.faults.test_log_commits import make_faulty

WRITES = (
    "BEGIN",
    "UPDATE head",
    "INSERT INTO entry",
    "INSERT OR REPLACE INTO cluster",
    "UPDATE entry",
    "COMMIT",
)


def eraser(log: OpenLog) -> Eraser:
    publisher = Publisher(log.sequencer, log.clock, ORIGIN)
    return Eraser(log.sequencer, log.store, SubjectKeys(SUBJECT_KEYS), publisher, lambda: None)


async def sealed_of(log: OpenLog) -> dict[int, bytes]:
    async with log.store._database.reading() as connection:
        rows = await connection.execute_fetchall("SELECT seq, sealed FROM entry")
    return {row[0]: row[1] for row in rows}


def bytes_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


@pytest.mark.parametrize("is_run", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("statement", WRITES)
async def test_erasure_commit_that_fails_at_a_write_is_all_or_nothing(
    tmp_path: Path, statement: str, is_run: bool
) -> None:
    is_persisted = statement == "COMMIT" and is_run
    async with open_log(tmp_path) as log:
        for name in ("ann", "bob", "ann"):
            await log.sequencer.submit(make_request(name, key=f"{name}-{log.sequencer.head.size}"))
        before, sealed = log.sequencer.head, await sealed_of(log)
        make_faulty(log.store, statement, is_run=is_run)
        if is_persisted:
            assert (await eraser(log).erase(token_of("ann"), "desk")).erased_count == 4
        else:
            with pytest.raises(LogWriteFailed):
                await eraser(log).erase(token_of("ann"), "desk")
            assert (log.sequencer.head.size, await sealed_of(log)) == (before.size, sealed)
        erased = await eraser(log).erase(token_of("ann"), "desk")
        assert erased.seq == before.size + 2
        left = await sealed_of(log)
        gone = {seq: value for seq, value in sealed.items() if left[seq] != value}
        assert set(gone) == {2, 3, 6, 7}
        held = bytes_of(tmp_path)
        assert not [value for value in gone.values() if value[-24:] in held]
        await verify_erased(log.store)
    async with open_log(tmp_path) as log:
        await verify_erased(log.store)
        # A repeated request from before the erasure does not bring back what it said.
        assert (await log.sequencer.submit(make_request("ann", key="ann-1"))).is_replay


async def test_erasure_reads_nothing_that_was_kept_in_memory(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        assert (await log.sequencer.read_entries(1, 10))[2].event_bytes
        await eraser(log).erase(token_of("ann"), "desk")
        entries = await log.sequencer.read_entries(1, 10)
        assert [bool(entry.event_bytes) for entry in entries] == [True, False, False, True, True]
        assert [len(entry.commitment) for entry in entries] == [0, 32, 32, 0, 0]


async def test_erasure_request_of_the_person_in_the_midst_of_it_is_erased_or_comes_after(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        requests = [asyncio.create_task(log.sequencer.submit(make_request("ann", key=f"k{n}"))) for n in range(20)]
        erased = await eraser(log).erase(token_of("ann"), "desk")
        accepted = await asyncio.gather(*requests)
        assert erased.erased_count == 2 + 2 * sum(answer.seq < erased.seq for answer in accepted)
        await verify_erased(log.store)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


def make_erasure(log: LogBuilder, *names: str) -> ErasureEvent:
    tokens = tuple(sorted(map(builder_token, names)))
    return ErasureEvent(origin=log.origin, tokens=tokens, seqs=(1,), occurred_at_ms=START_MS)


async def settle(cache: EncryptedCache) -> None:
    async with asyncio.timeout(20):
        while cache._durable.manifest.delta_count or cache._making_generation.locked():
            await asyncio.sleep(0.002)


async def open_with_ada(place: CachePlace, log: LogBuilder) -> tuple[EncryptedCache, list[bytes]]:
    """A cache whose rows and deltas hold Ada, and every sealed value in its file."""
    cache = await place.open()
    links: list[LinkEvent] = [log.link("ada", "ada-2")]
    await cache.apply(log.batch(log.directive("ada"), *links, *(log.directive(f"p{n}") for n in range(30))))
    await cache.merge()
    await cache.apply(log.batch(log.directive("ada-2", purpose="marketing")))
    rows = await cache._durable._writer.read("SELECT blob FROM segment UNION ALL SELECT blob FROM delta")
    return cache, [row[0] for row in rows]


async def test_erasure_in_the_cache_leaves_no_byte_of_an_older_row(place: CachePlace) -> None:
    log = LogBuilder()
    cache, old = await open_with_ada(place, log)
    await cache.apply(log.batch(make_erasure(log, "ada", "ada-2")))
    assert_holds(cache, log)
    await settle(cache)
    held = b"".join(place.files().values())
    assert not [value for value in old if value[-24:] in held]
    assert_holds(cache, log)
    cache = await place.reopen(cache)
    assert_holds(cache, log)


async def test_erasure_in_the_cache_is_finished_by_the_next_start(place: CachePlace) -> None:
    log = LogBuilder()
    cache, old = await open_with_ada(place, log)
    cache._maintenance.cancel()
    await cache.apply(log.batch(make_erasure(log, "ada", "ada-2")))
    assert cache._durable.manifest.delta_count == 2
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    await settle(cache)
    held = b"".join(place.files().values())
    assert not [value for value in old if value[-24:] in held]


async def test_erasure_in_the_cache_that_cannot_merge_is_tried_again_with_the_next_batch(
    place: CachePlace, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogBuilder()
    cache, old = await open_with_ada(place, log)
    # The first commit is the batch itself, the second writes the new generation.
    break_next_commit(cache, is_persisted=False)
    cache._durable._writer._connection._commits_until_failure = 2  # type: ignore[attr-defined]
    await cache.apply(log.batch(make_erasure(log, "ada", "ada-2")))
    async with asyncio.timeout(20):
        while "could not be merged" not in caplog.text:
            await asyncio.sleep(0.002)
    assert_holds(cache, log)
    await cache.apply(log.batch(log.directive("bob")))
    await settle(cache)
    held = b"".join(place.files().values())
    assert not [value for value in old if value[-24:] in held]


async def test_erasure_in_the_cache_that_is_refused_changes_nothing(place: CachePlace) -> None:
    log = LogBuilder()
    cache, _ = await open_with_ada(place, log)
    head, found = cache.head, cache.find(builder_token("ada"))
    break_next_commit(cache, is_persisted=False)
    with pytest.raises(CacheWriteFailed):
        await cache.apply(log.batch(make_erasure(log, "ada", "ada-2")))
    assert (cache.head, cache.find(builder_token("ada"))) == (head, found)
