"""Every write of archive, high-water mark and backup, failed with and without having reached the disk; then all of it is verified."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feed.backup.restoring import restore
from feed.errors import ArchiveWriteFailed, BackupFailed, HighWaterUnreadable, LogWriteFailed, OutcomeUnknown
from feed.log_store import archive as archive_module
from feed.log_store.archive import list_segments
from tests.fakes.feed_log import make_request, read_all, verify_everything
from tests.fakes.kept_log import KeptLog, LogFolder
from tests.faults.test_log_commits import make_faulty

Calls = list[str]


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str, *, is_run: bool, times: int = 1) -> Iterator[Calls]:
    """A system call of the archive and the files beside it fails some times: before it was made, or after."""
    real: Callable[..., object] = getattr(os, name)
    calls: Calls = []

    def fail(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) > times:
            return real(*arguments, **options)
        if is_run:
            real(*arguments, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        yield calls


async def fill(log: KeptLog) -> None:
    for name in ("ann", "bob"):
        await log.sequencer.submit(make_request(name))


async def verify_all(folder: LogFolder, size: int) -> None:
    """After a restart, database and archive hold the same, and each alone gives all of it back."""
    async with folder.run() as log:
        entries = await verify_everything(log.store)
        assert len(entries) == size
        again = await log.sequencer.submit(make_request("cid"))
        assert again.is_replay
    verified = await restore(folder.source(), folder.directory / "restored", folder.place.marks.read())
    assert verified.size == size


@pytest.mark.parametrize("is_run", [False, True], ids=["not-persisted", "persisted"])
@pytest.mark.parametrize("write", ["write", "fsync"])
async def test_archive_append_that_fails_refuses_by_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        before = log.sequencer.head
        with failing(monkeypatch, write, is_run=is_run) as calls, pytest.raises(ArchiveWriteFailed) as refusal:
            await log.sequencer.submit(make_request("cid"))
        assert calls
        assert refusal.value.reason == "ARCHIVE_WRITE_FAILED"
        assert log.sequencer.head == before
        assert len(await verify_everything(log.store)) == before.size
        assert folder.source().segments().verify().size == before.size

        accepted = await log.sequencer.submit(make_request("cid"))
        assert (accepted.seq, accepted.is_replay) == (before.size + 2, False)
    await verify_all(folder, before.size + 2)


async def test_archive_append_that_is_cut_short_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    written: list[int] = []

    def write_half(descriptor: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written.append(real(descriptor, data[: len(data) // 2]))
        return written[0]

    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_half)
            with pytest.raises(ArchiveWriteFailed):
                await log.sequencer.submit(make_request("cid"))
        assert written
        assert (await log.sequencer.submit(make_request("cid"))).seq == 7
    await verify_all(folder, 7)


@pytest.mark.parametrize("is_run", [False, True], ids=["not-persisted", "persisted"])
async def test_archive_that_cannot_take_back_says_that_the_outcome_is_unknown_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        before = log.sequencer.head
        with failing(monkeypatch, "fsync", is_run=is_run, times=99), pytest.raises(OutcomeUnknown):
            await log.sequencer.submit(make_request("cid"))
        with failing(monkeypatch, "ftruncate", is_run=False, times=99), pytest.raises((OutcomeUnknown, LogWriteFailed)):
            await log.sequencer.submit(make_request("dan"))
        assert log.sequencer.head == before
        assert (await log.sequencer.submit(make_request("cid"))).seq == before.size + 2
    await verify_all(folder, before.size + 2)


async def test_archive_that_could_not_take_back_before_a_crash_gives_the_batch_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        make_faulty(log.store, "COMMIT", is_run=False)
        with failing(monkeypatch, "ftruncate", is_run=False, times=99), pytest.raises(OutcomeUnknown):
            await log.sequencer.submit(make_request("cid"))
    # The caller was not told that it is not logged, and it is.
    await verify_all(folder, 7)


@pytest.mark.parametrize("statement", ["BEGIN", "UPDATE head", "INSERT INTO entry", "INSERT INTO request", "COMMIT"])
@pytest.mark.parametrize("is_run", [False, True], ids=["before", "after"])
async def test_archive_of_a_commit_that_fails_holds_what_the_database_does(
    tmp_path: Path, statement: str, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        is_persisted = statement == "COMMIT" and is_run
        make_faulty(log.store, statement, is_run=is_run)
        if is_persisted:
            await log.sequencer.submit(make_request("cid"))
        else:
            with pytest.raises(LogWriteFailed):
                await log.sequencer.submit(make_request("cid"))
        size = len(await read_all(log.store))
        assert size == (7 if is_persisted else 5)
        assert folder.source().segments().verify().size == size
        assert (await log.sequencer.submit(make_request("cid"))).is_replay == is_persisted
    await verify_all(folder, 7)


@pytest.mark.parametrize("is_run", [False, True], ids=["not-persisted", "persisted"])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
async def test_archive_segment_that_cannot_be_begun_refuses_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
    async with folder.run() as log:
        with failing(monkeypatch, call, is_run=is_run) as calls, pytest.raises(ArchiveWriteFailed):
            await log.sequencer.submit(make_request("cid"))
        assert calls
        assert (await log.sequencer.submit(make_request("cid"))).seq == 7
    await verify_all(folder, 7)


async def test_archive_disk_that_is_gone_stops_the_intake_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_SEGMENT_BYTES", 1)
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        (tmp_path / "archive").rename(tmp_path / "elsewhere")
        for _ in range(2):
            with pytest.raises(ArchiveWriteFailed, match="No such file"):
                await log.sequencer.submit(make_request("cid"))
        assert len(await log.sequencer.read_entries(1, 10)) == 5
        (tmp_path / "elsewhere").rename(tmp_path / "archive")
        assert (await log.sequencer.submit(make_request("cid"))).seq == 7
    await verify_all(folder, 7)
    assert len(list_segments(tmp_path / "archive")) > 2


@pytest.mark.parametrize("is_run", [False, True], ids=["not-persisted", "persisted"])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
async def test_mark_write_that_fails_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        old = folder.place.marks.read()
        await log.mark._keep()
        new = folder.place.marks.read()
        assert old is not None
        assert new is not None
        folder.place.marks.write(old)
        with failing(monkeypatch, call, is_run=is_run) as calls, pytest.raises(HighWaterUnreadable):
            folder.place.marks.write(new)
        assert calls
        assert folder.place.marks.read() in (old, new)
        await log.sequencer.submit(make_request("cid"))
    await verify_all(folder, 7)


@pytest.mark.parametrize("is_run", [False, True], ids=["not-persisted", "persisted"])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
async def test_backup_write_that_fails_leaves_the_old_one_or_a_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, is_run: bool
) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        old_size = await log.back_up(tmp_path / "backup")
        await log.sequencer.submit(make_request("cid"))
        with failing(monkeypatch, call, is_run=is_run) as calls, pytest.raises(BackupFailed):
            await log.back_up(tmp_path / "backup")
        assert calls
        assert folder.source(tmp_path / "backup", archive=False).segments().verify().size in (old_size, 7)
        assert await log.back_up(tmp_path / "backup") == 7
    await verify_all(folder, 7)
