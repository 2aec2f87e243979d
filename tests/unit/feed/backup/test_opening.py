"""A start of the feed on a log that is whole, older, gone, somebody else's, or half written."""

import shutil
from pathlib import Path

import pytest

from consent.eventlog.merkle import EMPTY_ROOT_HASH
from feed.backup.opening import accept_log
from feed.errors import BackupFailed, CorruptArchive, HighWaterUnreadable, LogRolledBack, LogUnmarked
from feed.log_store import archive as archive_module
from feed.log_store.archive import list_segments
from feed.log_store.high_water import Mark
from feed.ports import Submission
from tests.fakes.feed_log import make_link, make_request, open_store, verify_everything
from tests.fakes.kept_log import KeptLog, LogFolder


async def record(log: KeptLog, *names: str) -> None:
    for name in names:
        await log.sequencer.submit(make_request(name))


async def sizes_of(folder: LogFolder) -> tuple[int, int]:
    """Entries of a log that is started once, each verified, and of its archive alone."""
    async with folder.run() as log:
        entries = await verify_everything(log.store)
    return len(entries), folder.source().segments().verify(folder.place.marks.read()).size


async def test_open_new_log_begins_marked_and_ends_marked(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        assert folder.place.marks.read() == Mark(0, EMPTY_ROOT_HASH)
        await record(log, "ann")
        head = log.sequencer.head
    assert folder.place.marks.read() == Mark(3, head.frontier.root_hash())
    assert await sizes_of(folder) == (3, 3)


@pytest.mark.parametrize("has_archive", [False, True])
async def test_open_older_database_that_was_put_back_is_refused_by_name(tmp_path: Path, has_archive: bool) -> None:
    folder = LogFolder(tmp_path, has_archive)
    async with folder.run() as log:
        await record(log, "ann")
    folder.save("older")
    async with folder.run() as log:
        await record(log, "bob", "cid")
    newest = (tmp_path / "log" / "log.db").read_bytes()
    folder.put_back("older")

    with pytest.raises(LogRolledBack, match=r"holds 3 entries, the (log had at least|archive) 7; see") as refusal:
        async with folder.run():
            pass
    assert refusal.value.reason == "LOG_ROLLED_BACK"
    (tmp_path / "log" / "log.db").write_bytes(newest)
    async with folder.run() as log:
        assert len(await verify_everything(log.store)) == 7


@pytest.mark.parametrize("what", ["directory", "database", "content"])
async def test_open_database_that_is_gone_is_not_begun_anew(tmp_path: Path, what: str) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await record(log, "ann")
    if what == "database":
        (tmp_path / "log" / "log.db").unlink()
    else:
        shutil.rmtree(tmp_path / "log")
    if what == "content":
        await (await open_store(tmp_path / "log")).close()

    for _ in range(2):
        with pytest.raises(LogRolledBack):
            async with folder.run():
                pass


async def test_open_other_history_of_the_same_size_is_refused(tmp_path: Path) -> None:
    folder, other = LogFolder(tmp_path, has_archive=False), LogFolder(tmp_path / "other", has_archive=False)
    for each, name in ((folder, "ann"), (other, "bob")):
        async with each.run() as log:
            await record(log, name)
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(tmp_path / "other" / "log", tmp_path / "log")
    with pytest.raises(LogRolledBack, match="other entries than the log had at 3"):
        async with folder.run():
            pass


async def test_open_database_without_a_mark_needs_an_operators_word(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await record(log, "ann")
    for spoil in (folder.place.marks.path.unlink, lambda: folder.place.marks.path.write_bytes(b"damaged")):
        spoil()
        with pytest.raises((LogUnmarked, HighWaterUnreadable), match=r"accept-log|not the mark of this log"):
            async with folder.run():
                pass
        asked: list[int] = []
        assert await accept_log(folder.place, asked.append) == 3
        assert asked == [3]
        assert await sizes_of(folder) == (3, 3)


async def test_accept_log_behind_its_mark_is_never_accepted(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path, has_archive=False)
    async with folder.run() as log:
        await record(log, "ann")
    folder.save("older")
    async with folder.run() as log:
        await record(log, "bob")
    folder.put_back("older")
    mark = folder.place.marks.read()
    with pytest.raises(LogRolledBack):
        await accept_log(folder.place, lambda _: None)
    shutil.rmtree(tmp_path / "log")
    with pytest.raises(BackupFailed, match="there is no log"):
        await accept_log(folder.place, lambda _: None)
    assert folder.place.marks.read() == mark


async def test_open_first_start_that_a_crash_ended_before_the_mark_was_written_is_no_rollback(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        begun = folder.place.marks.read()
        await record(log, "ann")
    assert begun is not None
    folder.place.marks.write(begun)
    assert await sizes_of(folder) == (3, 3)


async def test_open_batch_that_only_the_archive_has_is_committed(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await record(log, "ann", "bob")
    folder.save("before")
    link = Submission((*make_request("cid").events, make_link("ann", "bob")), make_request("cid").idempotency)
    async with folder.run() as log:
        await log.sequencer.submit(link)
        head = log.sequencer.head
    folder.put_back("before")

    async with folder.run() as log:
        assert log.sequencer.head.frontier == head.frontier
        await verify_everything(log.store)
        again = await log.sequencer.submit(link)
        assert (again.seq, again.is_replay) == (8, True)
        await record(log, "dan")
    assert await sizes_of(folder) == (10, 10)


async def test_open_archive_that_is_new_or_was_lost_is_filled_from_the_database(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with LogFolder(tmp_path, has_archive=False).run() as log:
        await record(log, "ann", "bob")
    assert await sizes_of(folder) == (5, 5)
    async with folder.run() as log:
        await record(log, "cid")
    list_segments(tmp_path / "archive")[-1].unlink()
    async with folder.run() as log:
        await record(log, "dan")
    assert await sizes_of(folder) == (9, 9)


async def test_open_archive_of_another_history_is_refused(tmp_path: Path) -> None:
    folder, other = LogFolder(tmp_path), LogFolder(tmp_path / "other")
    for each, name in ((folder, "ann"), (other, "bob")):
        async with each.run() as log:
            await record(log, name)
    shutil.rmtree(tmp_path / "archive")
    shutil.copytree(tmp_path / "other" / "archive", tmp_path / "archive")
    with pytest.raises(CorruptArchive, match="other entries than the database"):
        async with folder.run():
            pass


async def test_open_archive_with_a_torn_end_goes_on_behind_its_last_commit(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await record(log, "ann")
    (segment,) = list_segments(tmp_path / "archive")
    whole = segment.read_bytes()
    for length in (len(whole) - 1, len(whole) - 400):
        segment.write_bytes(whole[:length])
        async with folder.run() as log:
            await record(log, f"more-{length}")
    size = (await sizes_of(folder))[0]
    assert await sizes_of(folder) == (size, size)


async def test_archive_begins_a_segment_where_one_is_full_and_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_SEGMENT_BYTES", 2_000)
    folder = LogFolder(tmp_path)
    for run in range(2):
        async with folder.run() as log:
            await record(log, *(f"{run}-{number}" for number in range(10)))
    names = [path.name for path in list_segments(tmp_path / "archive")]
    assert len(names) > 4
    assert names[0] == "segment-00000000000000000001.log"
    assert {path.stat().st_mode & 0o777 for path in list_segments(tmp_path / "archive")} == {0o600}
    assert await sizes_of(folder) == (41, 41)
