"""Every write of a commit, failed with and without having reached the disk; then everything is verified, in memory and after a restart."""

import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from consent.event import PolicyEvent
from feed.errors import CorruptLog, LogWriteFailed, OutcomeUnknown, ShuttingDown
from feed.log_store.database import Database
from feed.log_store.port import StoredHead
from feed.log_store.sqlite import SqliteLog
from feed.ports import Submission
from feed.sequencer.recent_entries import RecentEntries
from feed.snapshots import FileSnapshots
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import (
    ORIGIN,
    OpenLog,
    make_link,
    make_policy,
    make_request,
    make_sequencer,
    make_submission,
    make_unlink,
    open_log,
    open_store,
    token_of,
    verify_everything,
    verify_note,
)

#: The statements of a commit that unlinks, links, publishes and records at once, in their order.
WRITES = (
    "BEGIN",
    "UPDATE head",
    "INSERT OR REPLACE INTO tenant",
    "INSERT INTO entry",
    "INSERT INTO node",
    "DELETE FROM cluster",
    "DELETE FROM member",
    "INSERT OR REPLACE INTO cluster",
    "INSERT OR REPLACE INTO member",
    "INSERT INTO request",
    "COMMIT",
)


class FaultyConnection:
    """A real connection that fails at one statement, once: before it was run, or after.

    Where it `breaks` by that, it cannot roll back either.
    """

    def __init__(self, connection: aiosqlite.Connection, statement: str, *, is_run: bool, breaks: bool) -> None:
        self._connection = connection
        self._statement = statement
        self._is_run = is_run
        self._breaks = breaks
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def rollback(self) -> None:
        if self._breaks:
            raise sqlite3.OperationalError("disk I/O error")
        await self._connection.rollback()

    async def execute_fetchall(self, statement: str, *parameters: Any) -> Any:
        fails = self._fails_at(statement)
        found = [] if fails and not self._is_run else await self._connection.execute_fetchall(statement, *parameters)
        self._fail(fails)
        return found

    @asynccontextmanager
    async def executemany(self, statement: str, rows: Any) -> AsyncIterator[aiosqlite.Cursor]:
        fails = self._fails_at(statement)
        self._fail(fails and not self._is_run)
        async with self._connection.executemany(statement, rows) as cursor:
            self._fail(fails)
            yield cursor

    def _fails_at(self, statement: str) -> bool:
        return not self.has_failed and statement.startswith(self._statement)

    def _fail(self, fails: bool) -> None:
        if fails:
            self.has_failed = True
            raise sqlite3.OperationalError("disk I/O error")


def make_faulty(store: SqliteLog, statement: str, *, is_run: bool, breaks: bool = False) -> FaultyConnection:
    database = store._database
    assert database._connection is not None
    faulty = FaultyConnection(database._connection, statement, is_run=is_run, breaks=breaks)
    database._connection = faulty  # type: ignore[assignment]
    return faulty


#: In the order of their tokens, so that it is known which rows move when they are linked and unlinked.
ANN, BOB, CID, DAN = sorted(("ann", "bob", "cid", "dan"), key=token_of)


async def fill(log: OpenLog) -> None:
    for name in (ANN, BOB, CID):
        await log.sequencer.submit(make_request(name))
    await log.sequencer.submit(make_submission((make_link(ANN, BOB),)))


def make_everything() -> Submission:
    """A request whose commit needs every statement."""
    request = make_request(DAN)
    events = (
        *request.events,
        make_unlink(ANN, BOB),
        make_link(BOB, CID),
        make_link(CID, DAN),
        PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy()),
    )
    return make_submission(events, request.idempotency)


async def verify_restart(directory: Path, size: int) -> None:
    async with open_log(directory) as log:
        assert log.sequencer.head.size == size
        assert (await log.sequencer.submit(make_everything())).is_replay
        await verify_everything(log.store)


@pytest.mark.parametrize("breaks", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("is_run", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("statement", WRITES)
async def test_log_commit_that_fails_at_a_write_is_all_or_nothing(
    tmp_path: Path, statement: str, is_run: bool, breaks: bool
) -> None:
    is_persisted = statement == "COMMIT" and is_run
    async with open_log(tmp_path) as log:
        await fill(log)
        before, policy = log.sequencer.head, log.sequencer.policy
        faulty = make_faulty(log.store, statement, is_run=is_run, breaks=breaks)

        if is_persisted:
            # It is in the log, durably, and the answer says so: the commit's own word is not the last one.
            accepted = await log.sequencer.submit(make_everything())
            assert (accepted.seq, accepted.is_replay) == (before.size + 6, False)
        else:
            with pytest.raises(LogWriteFailed):
                await log.sequencer.submit(make_everything())
            assert (log.sequencer.head, log.sequencer.policy) == (before, policy)
            assert await log.sequencer.find_cluster(token_of(DAN)) is None
        assert faulty.has_failed
        assert len(await verify_everything(log.store)) == log.sequencer.head.size
        verify_note(log.sequencer.head)

        again = await log.sequencer.submit(make_everything())
        assert (again.seq, again.is_replay) == (before.size + 6, is_persisted)
        assert log.sequencer.policy is not None
        await verify_everything(log.store)
    await verify_restart(tmp_path, before.size + 6)


@contextmanager
def unreachable_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For as long as this runs, the file cannot be opened."""

    async def fail(self: Database) -> aiosqlite.Connection:
        raise LogWriteFailed("SQLite cannot write: SQLITE_CANTOPEN")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_connect", fail)
        yield


@pytest.mark.parametrize("is_persisted", [False, True])
async def test_log_that_cannot_tell_what_was_written_finds_out_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_persisted: bool
) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        before = log.sequencer.head
        make_faulty(log.store, "COMMIT", is_run=is_persisted, breaks=True)
        with unreachable_file(monkeypatch):
            for name, error in (("first", OutcomeUnknown), ("second", LogWriteFailed), ("first", OutcomeUnknown)):
                with pytest.raises(error):
                    await log.sequencer.submit(make_request(name))
        assert log.sequencer.head == before
        # Not even what is in the file counts before it is known to stay there.
        log.sequencer._recent = RecentEntries()
        assert await log.sequencer.read_entries(before.size + 1, 10) == []

        watched: list[int] = []
        log.sequencer.watch(lambda: watched.append(log.sequencer.head.size))
        again = await log.sequencer.submit(make_request("first"))

        assert (again.seq, again.is_replay) == (before.size + 2, is_persisted)
        assert watched == [before.size + 2]
        assert not (await log.sequencer.submit(make_request("second"))).is_replay
        assert len(await verify_everything(log.store)) == before.size + 4


async def test_log_that_cannot_make_durable_what_it_found_says_that_it_is_not_logged_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: SqliteLog) -> None:
        raise LogWriteFailed("SQLite cannot write: SQLITE_IOERR_FSYNC")

    async with open_log(tmp_path) as log:
        await fill(log)
        before = log.sequencer.head
        make_faulty(log.store, "COMMIT", is_run=True)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteLog, "settle", fail)
            for _ in range(2):
                with pytest.raises(OutcomeUnknown):
                    await log.sequencer.submit(make_request(DAN))
            assert log.sequencer.head == before

        assert (await log.sequencer.submit(make_request(DAN))).is_replay
        assert len(await verify_everything(log.store)) == before.size + 2


async def test_log_lone_entry_after_a_failed_commit_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path / "log") as log:
        await fill(log)
        size = log.sequencer.head.size
        make_faulty(log.store, "COMMIT", is_run=True, breaks=True)
        with unreachable_file(monkeypatch), pytest.raises(OutcomeUnknown):
            await log.sequencer.submit(make_request(DAN))
        snapshots = FileSnapshots.open(log.sequencer, log.store, tmp_path / "chunks", origin=ORIGIN, max_lag_entries=0)

        assert (await snapshots.newest()).size == size + 2
        await snapshots.close()
        assert len(await verify_everything(log.store)) == size + 3


async def test_log_lone_entry_whose_commit_failed_is_settled_too(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log") as log:
        await fill(log)
        snapshots = FileSnapshots.open(log.sequencer, log.store, tmp_path / "chunks", origin=ORIGIN, max_lag_entries=0)
        size = log.sequencer.head.size
        make_faulty(log.store, "COMMIT", is_run=False)
        with pytest.raises(LogWriteFailed):
            await snapshots.newest()
        assert log.sequencer.head.size == size
        assert list((tmp_path / "chunks").iterdir()) == []

        make_faulty(log.store, "COMMIT", is_run=True)
        assert (await snapshots.newest()).size == size
        assert log.sequencer.head.size == size + 1
        await snapshots.close()
        await verify_everything(log.store)


async def test_log_first_entry_that_cannot_be_written_stops_the_start_and_nothing_else(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    make_faulty(store, "COMMIT", is_run=False)
    with pytest.raises(LogWriteFailed):
        await make_sequencer(store, FakeClock()).start()
    await store.close()
    async with open_log(tmp_path) as log:
        assert len(await verify_everything(log.store)) == 1


async def test_log_changed_by_another_writer_stops_for_good(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)

        async def find_rival() -> StoredHead:
            return StoredHead(version=99)

        make_faulty(log.store, "COMMIT", is_run=False)
        log.store.load_head = find_rival  # type: ignore[method-assign]
        waiting = log.sequencer.submit(make_request("dan"))
        with pytest.raises(CorruptLog, match="another writer"):
            await waiting
        with pytest.raises(CorruptLog):
            await log.sequencer.wait()
        with pytest.raises(ShuttingDown):
            await log.sequencer.submit(make_request("eve"))


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond a size: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_log_on_a_full_disk_refuses_and_works_again_once_there_is_room(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await fill(log)
        before = log.sequencer.head
        large = make_request("large", purpose="p" * 60_000)
        with full_disk((tmp_path / "log.db-wal").stat().st_size + 4_096):
            for _ in range(3):
                with pytest.raises(LogWriteFailed):
                    await log.sequencer.submit(large)
            assert log.sequencer.head == before
            assert await log.sequencer.find_cluster(token_of(ANN)) is not None
        await log.sequencer.submit(large)
        assert len(await verify_everything(log.store)) == before.size + 2
