"""The power goes at any operation of the disk: what was acknowledged is there afterwards, and nothing corrupt is served.

Feed and sidecar run as they are; under their SQLite is a disk that keeps what was synced and tears the rest (`tests.fakes.power_loss`).
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from consent.event import DirectiveEvent, parse_event
from consent.key_ring import KeyRing
from feed.errors import CorruptLog, FeedError, LogWriteFailed
from feed.log_store.sqlite import SqliteLog
from feed.ports import StoredEntry, Submission
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheError, CacheWriteFailed
from tests.fakes.apsw_connection import sqlite_on
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.cache_process import nth_event
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import (
    make_link,
    make_request,
    make_sequencer,
    make_unlink,
    open_store,
    token_of,
    verify_everything,
)
from tests.fakes.log_builder import LogBuilder
from tests.fakes.power_loss import PowerLossDisk, powered

LOSSES_PER_FILE = 10
FEW, MANY = 25, 400
FAILING_SHARE = 0.15
IN_FLIGHT = 6
MERGE_AFTER_ENTRIES = 30
#: SQLite merges its write-ahead log into the file after so many pages, so that a short life holds many such merges.
OFTEN = "PRAGMA wal_autocheckpoint = 40"
FULL = "PRAGMA synchronous = FULL"
RING = KeyRing((bytes(32),), ())


class AcknowledgedIsLost(AssertionError):
    """Something that was acknowledged is not there."""


class Subject(Protocol):
    """A program's store on a disk that loses power."""

    file_name: str

    async def live(self) -> None:
        """Start, check everything, and work until the power goes."""

    async def verify(self) -> None:
        """Start and check everything."""


@contextlib.contextmanager
def until_power_goes(disk: PowerLossDisk, *errors: type[Exception]) -> Iterator[None]:
    """Errors count as failures only while there is power, and no sync has failed."""
    failed_before = disk.failed_syncs
    try:
        yield
    except errors:
        if not disk.is_cut and disk.failed_syncs == failed_before:
            raise


@dataclass
class FeedLog:
    """A feed's log.

    Attributes:
        directory: Of the log.
        disk: Under it.
        replaced: Statements of SQLite that are run in place of others.
        accepted: Sequence number of every request that was acknowledged, by name.
        started: How many requests were made.
    """

    directory: Path
    disk: PowerLossDisk
    replaced: Mapping[str, str]
    accepted: dict[str, int] = field(default_factory=dict)
    started: int = 0
    file_name = "log.db"

    async def live(self) -> None:
        with until_power_goes(self.disk, FeedError):
            await self._run(self._record_until_power_goes)

    async def verify(self) -> None:
        await self._run(self._check)

    async def _run(self, work: Callable[[SqliteLog], Awaitable[None]]) -> None:
        with sqlite_on(self.disk.name, self.directory, self.replaced):
            store = await open_store(self.directory)
            try:
                await work(store)
            finally:
                await store.close()

    async def _record_until_power_goes(self, store: SqliteLog) -> None:
        sequencer = make_sequencer(store, FakeClock())
        await sequencer.start()
        try:
            await self._check(store)

            async def record() -> None:
                while True:
                    self.started += 1
                    name, request = f"person-{self.started}", self._make(self.started)
                    try:
                        self.accepted[name] = (await sequencer.submit(request)).seq
                    except LogWriteFailed:
                        if self.disk.is_cut or not self.disk.failing_share:
                            raise

            outcomes = await asyncio.gather(*(record() for _ in range(IN_FLIGHT)), return_exceptions=True)
            for outcome in outcomes:
                with until_power_goes(self.disk, FeedError):
                    assert isinstance(outcome, BaseException)
                    raise outcome
        finally:
            await sequencer.close()

    def _make(self, number: int) -> Submission:
        request = make_request(f"person-{number}")
        if number % 4:
            return request
        first, second = f"person-{number // 2}", f"person-{number - 1}"
        return Submission(
            (make_link(first, second) if number % 8 else make_unlink(first, second), *request.events),
            request.idempotency,
        )

    async def _check(self, store: SqliteLog) -> None:
        # Before its first entry a log has no head that is signed.
        is_begun = (await store.load_head()).version > 0
        entries = await verify_everything(store) if is_begun else []
        for name, seq in self.accepted.items():
            if len(entries) < seq or not _is_opt_out(entries[seq - 1], name):
                raise AcknowledgedIsLost(f"{name} at {seq} of {len(entries)}")


def _is_opt_out(entry: StoredEntry, name: str) -> bool:
    event = parse_event(entry.event_bytes)
    return isinstance(event, DirectiveEvent) and event.token == token_of(name)


@dataclass
class SidecarCache:
    """A sidecar's cache.

    Attributes:
        place: Of the cache.
        disk: Under it.
        replaced: Statements of SQLite that are run in place of others.
        log: What the feed holds.
        acknowledged: How much of it the cache has said that it holds.
        has_key_ring: Whether it has said that it holds the keys.
    """

    place: CachePlace
    disk: PowerLossDisk
    replaced: Mapping[str, str]
    log: LogBuilder = field(default_factory=LogBuilder)
    acknowledged: int = 0
    has_key_ring: bool = False
    file_name = "cache.db"

    async def live(self) -> None:
        with until_power_goes(self.disk, CacheError):
            await self._run(is_work_wanted=True)

    async def verify(self) -> None:
        await self._run(is_work_wanted=False)

    async def _run(self, *, is_work_wanted: bool) -> None:
        with sqlite_on(self.disk.name, self.place.directory, self.replaced):
            cache = await self.place.open(merge_after_entries=MERGE_AFTER_ENTRIES)
            try:
                self._check(cache)
                while is_work_wanted:
                    try:
                        await self._work(cache)
                    except CacheWriteFailed:
                        if self.disk.is_cut or not self.disk.failing_share:
                            raise
                        self._check(cache)
            finally:
                await cache.close()

    def _check(self, cache: EncryptedCache) -> None:
        if self.place.set_aside() or cache.head.size < self.acknowledged:
            raise AcknowledgedIsLost(f"{self.acknowledged}: found {cache.head.size}, aside {self.place.set_aside()}")
        if self.has_key_ring and cache.key_ring != RING:
            raise AcknowledgedIsLost("the keys")
        # What was on its way is there as a whole or not at all: the log up to there is made anew.
        logged, self.log = self.log.logged, LogBuilder()
        self.log.append(*(each.event for each in logged[: cache.head.size]))
        assert_holds(cache, self.log)

    async def _work(self, cache: EncryptedCache) -> None:
        """One batch, and now and then what else is written."""
        size = self.log.size
        if size % 5 == 3:
            self.place.clock.advance(20_000)
            await cache.save_checkpoint(self.log.head())
        if size % 5 == 4:
            await cache.save_key_ring(RING)
            self.has_key_ring = True
        events = [nth_event(self.log, size + offset) for offset in range(1 + size % 3)]
        batch = self.log.batch(*events)
        if size % 25 == 24:
            await cache.load_snapshot(self.log.snapshot())
        else:
            await cache.apply(batch)
        self.acknowledged = self.log.size


def make_feed(root: Path, disk: PowerLossDisk, synchronous: str) -> Subject:
    replaced = {FULL: f"PRAGMA synchronous = {synchronous}", "PRAGMA wal_autocheckpoint = 10000": OFTEN}
    return FeedLog(disk.directory, disk, replaced)


def make_cache(root: Path, disk: PowerLossDisk, synchronous: str) -> Subject:
    limit = "PRAGMA journal_size_limit = 4194304"
    replaced = {FULL: f"PRAGMA synchronous = {synchronous}", limit: f"{limit}; {OFTEN}"}
    return SidecarCache(CachePlace(root), disk, replaced)


SUBJECTS = {"feed": make_feed, "sidecar": make_cache}


@dataclass
class Course:
    """What happened over many losses of power.

    Attributes:
        losses: How many there were.
        at_risk: After how many something was not synced.
        merges: Writes to the file itself, beside its write-ahead log.
        failed_syncs: Syncs that failed before.
    """

    losses: int = 0
    at_risk: int = 0
    merges: int = 0
    failed_syncs: int = 0


async def lose_power(root: Path, name: str, losses: int, synchronous: str = "FULL", failing_share: float = 0) -> Course:
    """Let the power go so many times, on one file after another; raises AcknowledgedIsLost or what the program finds."""
    course = Course()
    while course.losses < losses:
        chance = random.Random(f"{name}/{course.losses}")
        home = root / f"{course.losses}"
        directory = home / "cache"
        home.mkdir()
        with powered(PowerLossDisk(directory, chance, failing_share)) as disk:
            subject = SUBJECTS[name](home, disk, synchronous)
            for _ in range(min(LOSSES_PER_FILE, losses - course.losses)):
                # Often early, in the midst of a start or of what the last loss left to be repaired.
                disk.cut_after(chance.randrange(chance.choice((8, 60, 250))))
                await subject.live()
                assert disk.is_cut or failing_share
                disk.cut()
                disk.restore()
                course.losses += 1
                course.at_risk += disk.damaged_sectors > 0
            disk.failing_share = 0
            await subject.verify()
            course.failed_syncs += disk.failed_syncs
            course.merges += disk.writes[subject.file_name]
    return course


@pytest.mark.parametrize("losses", [FEW, pytest.param(MANY, marks=pytest.mark.long(seconds=30))])
@pytest.mark.parametrize("name", SUBJECTS)
async def test_power_loss_at_any_moment_loses_nothing_acknowledged_and_corrupts_nothing(
    tmp_path: Path, name: str, losses: int
) -> None:
    course = await lose_power(tmp_path, name, losses)
    print(f"{name}: {course}")
    assert course.losses == losses
    assert course.at_risk > losses // 2
    assert course.merges > losses


@pytest.mark.parametrize("losses", [FEW, pytest.param(MANY, marks=pytest.mark.long(seconds=40))])
@pytest.mark.parametrize("name", SUBJECTS)
async def test_power_loss_after_syncs_that_failed_loses_nothing_acknowledged(
    tmp_path: Path, name: str, losses: int
) -> None:
    course = await lose_power(tmp_path, name, losses, failing_share=FAILING_SHARE)
    print(f"{name}: {course}")
    assert course.failed_syncs > losses // 4


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
@pytest.mark.parametrize("name", SUBJECTS)
async def test_power_loss_of_a_store_that_does_not_sync_is_found(tmp_path: Path, name: str, synchronous: str) -> None:
    with pytest.raises((AssertionError, CorruptLog)):
        await lose_power(tmp_path, name, MANY, synchronous)
