"""Backups and archives of a log in which key epochs have begun and people were erased."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feed.backup import replaying
from feed.backup.drill import drill, verify_state
from feed.backup.restoring import restore
from feed.backup.writing import write_backup
from feed.errors import BackupFailed, CorruptArchive, ForeignLog
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.feed_log import (
    IDENTITY,
    KEYS,
    SUBJECT_KEYS,
    make_link,
    make_request,
    make_submission,
    open_store,
    read_all,
    read_clusters,
    token_of,
    verify_erased,
    verify_everything,
)
from tests.fakes.kept_log import LogFolder


async def make_log(folder: LogFolder, *, erase: bool) -> None:
    """Two key epochs, people before, between and after them, and a backup from the middle."""
    async with folder.run() as log:
        for number in range(4):
            await log.sequencer.submit(make_request(f"person-{number}"))
        await log.sequencer.submit(make_submission((make_link("person-0", "person-1"),)))
        await log.key_epochs.begin(1)
        await log.sequencer.submit(make_request("person-4"))
        if erase:
            await log.eraser.erase(token_of("person-3"), "desk")
        await log.back_up(folder.directory / "backup")
        await log.sequencer.submit(make_request("person-5"))
        await log.key_epochs.begin(2)
        if erase:
            await log.eraser.erase(token_of("person-0"), "desk")
            await log.eraser.erase(token_of("person-5"), "desk")
        await log.sequencer.submit(make_request("person-6"))
        await log.back_up(folder.directory / "newest")


async def assert_restores(folder: LogFolder, name: str, backup: str, *, archive: bool) -> None:
    async with folder.run() as log:
        entries, clusters, head = await read_all(log.store), await read_clusters(log.store), log.sequencer.head
    source = folder.source(folder.directory / backup if backup else None, archive=archive)
    await restore(source, folder.directory / name, folder.place.marks.read())
    store = await open_store(folder.directory / name)
    try:
        assert await read_all(store) == entries
        assert await read_clusters(store) == clusters
        assert (await store.load_head()).tenant == head.tenant
        await verify_state(store, await store.load_head())
    finally:
        await store.close()


@pytest.mark.parametrize("batch_entries", [1, 5, 2_000])
@pytest.mark.parametrize("erase", [False, True])
async def test_restore_begins_key_epochs_and_erases_again_as_the_log_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_entries: int, erase: bool
) -> None:
    monkeypatch.setattr(replaying, "_BATCH_ENTRIES", batch_entries)
    folder = LogFolder(tmp_path)
    await make_log(folder, erase=erase)
    await assert_restores(folder, "from-backup", "backup", archive=True)
    await assert_restores(folder, "from-archive", "", archive=True)
    await assert_restores(folder, "from-newest", "newest", archive=False)

    # The feed goes on from it, and knows what was asked before, whatever the epoch.
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "from-backup").rename(tmp_path / "log")
    async with folder.run() as log:
        assert (await log.sequencer.submit(make_request("person-2"))).is_replay
        await log.sequencer.submit(make_request("new"))
        await (verify_erased if erase else verify_everything)(log.store)


async def test_drill_finds_denials_from_before_a_key_epoch_in_force(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    await make_log(folder, erase=True)
    mark = folder.place.marks.read()
    assert (await drill(folder.source(), mark)).opt_outs_not_in_force == ()
    report = await drill(folder.source(tmp_path / "backup"), mark)
    assert report.opt_outs_not_in_force == ()
    # Of the two behind the backup one was erased.
    assert report.opt_outs_after_backup == 1


async def test_drill_leads_denials_behind_the_backup_to_the_newest_epoch(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    await make_log(folder, erase=False)
    report = await drill(folder.source(tmp_path / "backup"), folder.place.marks.read())
    assert (report.opt_outs_after_backup, report.opt_outs_not_in_force) == (2, ())


@pytest.mark.parametrize("keys", [SUBJECT_KEYS[:2], (*SUBJECT_KEYS[:2], bytes(32))])
async def test_restore_without_the_subject_key_of_an_epoch_is_refused_by_name(
    tmp_path: Path, keys: tuple[bytes, ...]
) -> None:
    folder = LogFolder(tmp_path)
    await make_log(folder, erase=False)
    source = folder.source()
    lacking = type(source)(None, source.archive_directory, source.identity, source.kek, SubjectKeys(keys))
    with pytest.raises(ForeignLog, match="subject key of epoch 2"):
        await restore(lacking, tmp_path / "new", None)
    assert not (tmp_path / "new").exists()


async def write_to(path: Path, pieces: AsyncIterator[tuple[bytes, int]]) -> None:
    with path.open("wb") as file:
        async for piece, _ in pieces:
            file.write(piece)


async def test_backup_that_an_erasure_overtakes_fails_and_is_no_backup(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await log.sequencer.submit(make_request("ann"))
        before = log.sequencer.head
        await log.eraser.erase(token_of("ann"), "desk")
        with pytest.raises(BackupFailed, match="was erased while"):
            await write_to(tmp_path / "torn", write_backup(log.store, before, IDENTITY, KEYS.kek))
    with pytest.raises(CorruptArchive):
        folder.source(tmp_path / "torn", archive=False).segments().verify()


@pytest.mark.parametrize("what", ["epoch", "erasure"])
async def test_start_commits_an_epoch_or_erasure_that_only_the_archive_has(tmp_path: Path, what: str) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await log.sequencer.submit(make_request("ann"))
        await log.sequencer.submit(make_request("bob"))
    folder.save("before")
    async with folder.run() as log:
        if what == "epoch":
            await log.key_epochs.begin(1)
        else:
            await log.eraser.erase(token_of("ann"), "desk")
        entries, clusters = await read_all(log.store), await read_clusters(log.store)
    # As after a crash between archive and database.
    folder.put_back("before")
    async with folder.run() as log:
        assert await read_all(log.store) == entries
        assert await read_clusters(log.store) == clusters
        await log.sequencer.submit(make_request("cid"))
        await (verify_everything if what == "epoch" else verify_erased)(log.store)
