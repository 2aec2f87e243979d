"""A key epoch that is cut short anywhere: what is held stays under the old keys or is all under the new ones, and no request is lost."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from consent.event import DirectiveEvent, parse_event
from consent.state_record import parse_cluster
from consent.vocabulary.subject import Rekeyer
from feed.errors import CorruptLog, KeyEpochConflict, LogWriteFailed
from feed.log_store.port import StoredHead
from feed.ports import Accepted
from feed.sequencer import SequencerLimits
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheWriteFailed
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.feed_log import (
    SUBJECT_KEYS,
    OpenLog,
    make_link,
    make_request,
    make_submission,
    open_log,
    token_of,
    verify_everything,
    verify_note,
)
from tests.fakes.log_builder import LogBuilder
from tests.faults.test_cache_disk import break_next_commit, copy_of
from tests.faults.test_log_commits import make_faulty

STAGING = (
    "BEGIN",
    "DROP TABLE",
    "CREATE TABLE next_cluster",
    "INSERT INTO next_cluster",
    "INSERT INTO next_member",
    "COMMIT",
)
TAKING = (
    "BEGIN",
    "UPDATE head",
    "INSERT OR REPLACE INTO tenant",
    "INSERT INTO entry",
    "DELETE FROM cluster",
    "INSERT INTO cluster",
    "INSERT INTO member",
    "DROP TABLE",
    "COMMIT",
)


def lead(token: bytes, epoch: int) -> bytes:
    for key in SUBJECT_KEYS[1 : epoch + 1]:
        token = Rekeyer(key).rekey(token)
    return token


async def fill(log: OpenLog) -> None:
    for name in ("ann", "bob", "cid"):
        await log.sequencer.submit(make_request(name))
    await log.sequencer.submit(make_request("dan"))
    await log.sequencer.submit(make_submission((make_link("ann", "bob"),)))


def while_staging(log: OpenLog, act: Callable[[], object]) -> None:
    """Do something when the new state is staged and nothing of it is in force."""
    stage = log.store.stage_rekeyed

    async def stage_and_act(before: StoredHead, rekeyer: Rekeyer) -> bytes:
        state_sum = await stage(before, rekeyer)
        act()
        return state_sum

    log.store.stage_rekeyed = stage_and_act  # type: ignore[method-assign]


async def begin_or_fail(log: OpenLog, *, is_persisted: bool) -> None:
    before = log.sequencer.head
    if is_persisted:
        assert (await log.key_epochs.begin(1)).seq == before.size + 1
        return
    with pytest.raises(LogWriteFailed):
        await log.key_epochs.begin(1)
    assert log.sequencer.head.tenant == before.tenant
    assert await log.sequencer.find_cluster(token_of("cid")) is not None


async def verify_epoch_one(directory: Path) -> None:
    """After a restart: the state is that of the epoch, answers to repeated requests are the same, and nothing is left of the work."""
    async with open_log(directory) as log:
        assert len(log.sequencer.head.tenant.key_commitments) == 2
        await verify_everything(log.store)
        assert (await log.sequencer.submit(make_request("ann"))).is_replay
        async with log.store._database.reading() as connection:
            tables = await connection.execute_fetchall("SELECT name FROM sqlite_schema WHERE name LIKE 'next%'")
        assert list(tables) == []


@pytest.mark.parametrize("is_run", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("statement", STAGING)
async def test_key_epoch_staging_that_fails_changes_nothing(tmp_path: Path, statement: str, is_run: bool) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        faulty = make_faulty(log.store, statement, is_run=is_run)
        await begin_or_fail(log, is_persisted=False)
        assert faulty.has_failed
        await verify_everything(log.store)
        await log.key_epochs.begin(1)
        await verify_everything(log.store)
    await verify_epoch_one(tmp_path)


@pytest.mark.parametrize("is_run", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("statement", TAKING)
async def test_key_epoch_commit_that_fails_at_a_write_is_all_or_nothing(
    tmp_path: Path, statement: str, is_run: bool
) -> None:
    is_persisted = statement == "COMMIT" and is_run
    async with open_log(tmp_path) as log:
        await fill(log)
        while_staging(log, lambda: make_faulty(log.store, statement, is_run=is_run))
        await begin_or_fail(log, is_persisted=is_persisted)
        verify_note(log.sequencer.head)
        await verify_everything(log.store)
        del log.store.stage_rekeyed
        await log.key_epochs.begin(1)
        assert len(log.sequencer.head.tenant.key_commitments) == 2
        await verify_everything(log.store)
    await verify_epoch_one(tmp_path)


async def test_key_epoch_killed_with_the_new_state_staged_goes_on_in_the_old_one(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log") as log:
        await fill(log)
        while_staging(log, lambda: shutil.copytree(tmp_path / "log", tmp_path / "killed"))
        await log.key_epochs.begin(1)
    async with open_log(tmp_path / "killed") as log:
        assert len(log.sequencer.head.tenant.key_commitments) == 1
        await verify_everything(log.store)
        assert (await log.sequencer.submit(make_request("ann"))).is_replay
        await log.key_epochs.begin(1)
        await verify_everything(log.store)
    await verify_epoch_one(tmp_path / "killed")


async def test_key_epoch_request_that_waits_is_logged_in_the_new_epoch(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        waiting: list[asyncio.Task[Accepted]] = []
        while_staging(log, lambda: waiting.append(asyncio.create_task(log.sequencer.submit(make_request("eve")))))
        begun = await log.key_epochs.begin(1)
        accepted = await waiting[0]
        assert accepted.seq == begun.seq + 2
        (entry,) = await log.sequencer.read_entries(accepted.seq, 1)
        event = parse_event(entry.event_bytes)
        assert isinstance(event, DirectiveEvent)
        assert (event.key_epoch, event.token) == (1, lead(token_of("eve"), 1))
        assert await log.sequencer.find_cluster(token_of("eve")) is not None
        assert (await log.sequencer.submit(make_request("eve"))).is_replay
        await verify_everything(log.store)


async def test_key_epoch_checkpoint_stays_fresh_while_it_is_made(tmp_path: Path) -> None:
    async with open_log(tmp_path, SequencerLimits(resign_seconds=0.001)) as log:
        await fill(log)
        times: list[int] = []
        stage = log.store.stage_rekeyed

        async def stage_slowly(before: StoredHead, rekeyer: Rekeyer) -> bytes:
            log.clock.advance(10_000)
            signed = asyncio.Event()
            end = log.sequencer.watch(signed.set)
            async with asyncio.timeout(10):
                await signed.wait()
            end()
            times.append(log.sequencer.head.checkpoint_time_ms)
            return await stage(before, rekeyer)

        log.store.stage_rekeyed = stage_slowly  # type: ignore[method-assign]
        before = log.sequencer.head.checkpoint_time_ms
        await log.key_epochs.begin(1)
        assert times[0] - before >= 9_000
        verify_note(log.sequencer.head)


async def test_key_epoch_begins_in_order_and_once(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        for wrong in (0, 2, 7):
            with pytest.raises(KeyEpochConflict):
                await log.key_epochs.begin(wrong)
        first = await log.key_epochs.begin(1)
        size = log.sequencer.head.size
        again = await log.key_epochs.begin(1)
        assert (first.epoch, again.epoch, again.seq, log.sequencer.head.size) == (1, 1, 0, size)
        await log.key_epochs.begin(2)
        record = (await log.store.find_clusters([lead(token_of("ann"), 2)]))[lead(token_of("ann"), 2)]
        assert {member.token for member in parse_cluster(record).members} == {
            lead(token_of(name), 2) for name in ("ann", "bob")
        }
        await verify_everything(log.store)


async def test_key_epoch_over_a_state_that_lost_a_row_is_refused(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        async with log.store._database.writing() as connection:
            token_hash = log.store._rows.token_hash(token_of("cid"))
            await connection.execute_fetchall("DELETE FROM cluster WHERE token_hash = ?", (token_hash,))
        with pytest.raises(CorruptLog):
            await log.key_epochs.begin(1)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


async def open_cache(place: CachePlace, log: LogBuilder) -> EncryptedCache:
    cache = await place.open()
    people = (log.directive(f"p{number}") for number in range(50))
    await cache.apply(log.batch(log.next_epoch(), *people, log.link("p1", "p2")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("ada"), log.link("ada", "p1")))
    await cache.save_key_ring(log.key_ring())
    return cache


@pytest.mark.parametrize("is_persisted", [False, True])
@pytest.mark.parametrize("commits", [1, 2])
async def test_key_epoch_in_the_cache_that_is_cut_short_leaves_state_and_keys_that_fit(
    place: CachePlace, is_persisted: bool, commits: int
) -> None:
    log = LogBuilder()
    cache = await open_cache(place, log)
    before, ring_before = copy_of(log), log.key_ring()
    batch = log.batch(log.directive("bob"), log.next_epoch())
    # The first commit writes the segments, the second makes them, the ring and the head those in force.
    break_next_commit(cache, is_persisted=is_persisted)
    cache._durable._writer._connection._commits_until_failure = commits  # type: ignore[attr-defined]
    is_done = is_persisted and commits == 2
    if is_done:
        await cache.apply(batch, key_ring=log.key_ring())
    else:
        with pytest.raises(CacheWriteFailed):
            await cache.apply(batch, key_ring=log.key_ring())
    held, ring = (log, log.key_ring()) if is_done else (before, ring_before)
    # A kill now: the files as they are.
    files = place.files()
    assert_holds(cache, held)
    assert cache.key_ring == ring
    await cache.close()
    place.restore(files)
    cache = await place.open()
    assert_holds(cache, held)
    assert cache.key_ring == ring
    assert place.set_aside() == []
    if not is_done:
        await cache.apply(batch, key_ring=log.key_ring())
    assert_holds(cache, log)
    assert cache.key_ring == log.key_ring()


async def test_key_epoch_checks_are_answered_from_the_old_state_until_the_new_one_is_there(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_cache(place, log)
    before, ring = copy_of(log), cache.key_ring
    applying = asyncio.create_task(cache.apply(log.batch(log.next_epoch()), key_ring=log.key_ring()))
    looks = 0
    while cache.head.size == before.size:
        assert_holds(cache, before)
        assert cache.key_ring == ring
        looks += 1
        await asyncio.sleep(0)
    # The very step that showed another head shows the table and the ring of it.
    assert_holds(cache, log)
    assert cache.key_ring == log.key_ring()
    await applying
    assert looks > 3


async def test_key_epoch_without_a_ring_that_fits_is_a_bug_and_changes_nothing(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_cache(place, log)
    before, ring = copy_of(log), log.key_ring()
    batch = log.batch(log.next_epoch())
    for wrong in (None, ring):
        with pytest.raises(ValueError, match="ring"):
            await cache.apply(batch, key_ring=wrong)
    assert_holds(cache, before)


async def test_key_epoch_leaves_no_row_of_the_old_tokens_in_the_file(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await open_cache(place, log)
    old = [
        bytes(row[0])
        for row in await cache._durable._writer.read("SELECT blob FROM segment UNION SELECT blob FROM delta")
    ]
    await cache.apply(log.batch(log.next_epoch()), key_ring=log.key_ring())
    held = b"".join(place.files().values())
    assert old
    assert not [blob for blob in old if blob[-64:] in held]
