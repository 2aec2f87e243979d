"""Backups and archives put back: everything that was acknowledged is there, in force, and answered again; or nothing is restored."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from consent.event import DirectiveEvent, PolicyEvent, parse_event
from feed.backup import drill as drill_module
from feed.backup import replaying
from feed.backup.drill import drill, verify_state
from feed.backup.restoring import restore
from feed.errors import BackupFailed, CorruptArchive, CorruptLog, FeedError, ForeignLog, LogRolledBack
from feed.log_store.archive import list_segments
from feed.log_store.high_water import Mark
from tests.fakes.feed_log import (
    ORIGIN,
    make_directive,
    make_link,
    make_policy,
    make_request,
    make_submission,
    make_unlink,
    open_store,
    read_all,
    read_clusters,
    token_of,
    verify_everything,
)
from tests.fakes.kept_log import KeptLog, LogFolder


async def fill(log: KeptLog) -> None:
    """Something of everything that is folded, and requests that were answered."""
    await asyncio.gather(*(log.sequencer.submit(make_request(f"person-{number}")) for number in range(12)))
    policy = PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy())
    await log.sequencer.submit(
        make_submission((policy, make_link("person-1", "person-2"), make_link("person-2", "person-3")))
    )
    await log.sequencer.submit(make_submission((make_unlink("person-1", "person-2"),)))


async def fill_more(log: KeptLog) -> None:
    for number in range(12, 18):
        await log.sequencer.submit(make_request(f"person-{number}"))
    grant = make_directive("person-4", kind=1, proof=3, assurance=2, request_id=bytes(16))
    await log.sequencer.submit(make_submission((grant, make_link("person-5", "person-17"))))


async def make_log(folder: LogFolder) -> tuple[Path, int]:
    """A log of which one part is in a backup and all of it in the archive; returns the backup and its size."""
    backup = folder.directory / "backup"
    async with folder.run() as log:
        await fill(log)
        size = await log.back_up(backup)
        await fill_more(log)
    return backup, size


@pytest.mark.parametrize("batch_entries", [1, 5, 2_000])
async def test_restore_backup_and_archive_give_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_entries: int
) -> None:
    monkeypatch.setattr(replaying, "_BATCH_ENTRIES", batch_entries)
    folder = LogFolder(tmp_path)
    backup, backup_size = await make_log(folder)
    async with folder.run() as log:
        entries, clusters, head = await read_all(log.store), await read_clusters(log.store), log.sequencer.head
    shutil.rmtree(tmp_path / "log")

    verified = await restore(folder.source(backup), tmp_path / "log", folder.place.marks.read())

    assert (verified.size, verified.base_size) == (head.size, backup_size)
    async with folder.run() as log:
        assert await verify_everything(log.store) == entries
        assert await read_clusters(log.store) == clusters
        assert log.sequencer.head.tenant == head.tenant
        assert log.sequencer.policy is not None
        await verify_state(log.store, await log.store.load_head())
        for number in range(18):
            again = await log.sequencer.submit(make_request(f"person-{number}"))
            assert again.is_replay
            event = parse_event(entries[again.seq - 1].event_bytes)
            assert isinstance(event, DirectiveEvent)
            assert event.token == token_of(f"person-{number}")
        await log.sequencer.submit(make_request("new"))
    assert folder.source().segments().verify().size == head.size + 2


async def test_restore_from_the_archive_alone_or_from_a_newest_backup_alone_is_whole(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    await make_log(folder)
    async with folder.run() as log:
        await log.back_up(tmp_path / "newest")
        size = log.sequencer.head.size
    mark = folder.place.marks.read()
    for number, source in enumerate((folder.source(), folder.source(tmp_path / "newest", archive=False))):
        verified = await restore(source, tmp_path / f"log-{number}", mark)
        assert verified.size == size
        store = await open_store(tmp_path / f"log-{number}")
        try:
            await verify_everything(store)
        finally:
            await store.close()


async def test_restore_backup_and_an_archive_that_was_filled_again_overlap_without_a_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "_BATCH_REQUESTS", 1)
    folder = LogFolder(tmp_path)
    backup, backup_size = await make_log(folder)
    shutil.rmtree(tmp_path / "archive")
    async with folder.run() as log:
        await log.sequencer.submit(make_request("last"))
        size = log.sequencer.head.size

    verified = await restore(folder.source(backup), tmp_path / "new", folder.place.marks.read())

    assert (verified.size, verified.base_size) == (size, backup_size)
    store = await open_store(tmp_path / "new")
    try:
        assert len(await verify_everything(store)) == size
        names = [("web", f"key-person-{number}") for number in range(18)] + [("web", "key-last")]
        assert len(await store.find_requests(names)) == 19
    finally:
        await store.close()


async def test_restore_below_the_mark_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, size = await make_log(folder)
    mark = folder.place.marks.read()
    assert mark is not None
    with pytest.raises(LogRolledBack, match=f"entries {size + 1} to {mark.size} are missing"):
        await restore(folder.source(backup, archive=False), tmp_path / "new", mark)
    assert not (tmp_path / "new").exists()


async def test_restore_of_other_entries_than_the_marks_is_refused(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, size = await make_log(folder)
    with pytest.raises(CorruptArchive, match="other entries"):
        await restore(folder.source(backup), tmp_path / "new", Mark(size - 1, bytes(32)))
    assert not (tmp_path / "new").exists()


async def test_restore_never_writes_into_a_directory_that_holds_something(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, _ = await make_log(folder)
    before = (tmp_path / "log" / "log.db").read_bytes()
    with pytest.raises(BackupFailed, match="not empty"):
        await restore(folder.source(backup), tmp_path / "log", None)
    assert (tmp_path / "log" / "log.db").read_bytes() == before


async def test_restore_archive_with_a_gap_is_refused(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        await log.back_up(tmp_path / "backup")
    for name in ("one", "two"):
        async with folder.run() as log:
            await log.sequencer.submit(make_request(name))
    list_segments(tmp_path / "archive")[1].unlink()
    with pytest.raises(CorruptArchive, match="are missing before it"):
        await restore(folder.source(tmp_path / "backup"), tmp_path / "new", None)


async def test_restore_archive_of_another_log_behind_the_backup_is_refused(tmp_path: Path) -> None:
    folder, other = LogFolder(tmp_path), LogFolder(tmp_path / "other")
    backup, _ = await make_log(folder)
    await make_log(other)
    with pytest.raises(CorruptArchive, match="do not lead to the checkpoint"):
        await restore(other.source(backup), tmp_path / "new", None)


async def test_restore_from_nothing_or_somebody_elses_is_refused(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, _ = await make_log(folder)
    with pytest.raises(CorruptArchive, match="no segment"):
        await restore(folder.source(archive=False), tmp_path / "new", None)
    stranger = folder.source(backup)
    with pytest.raises(ForeignLog, match="another feed-kek"):
        await restore(
            type(stranger)(backup, None, stranger.identity, bytes(32), stranger.subject_keys), tmp_path / "new", None
        )


async def test_restore_every_flipped_byte_of_backup_or_archive_is_found(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, _ = await make_log(folder)
    mark = folder.place.marks.read()
    for path in (backup, *list_segments(tmp_path / "archive")):
        content = path.read_bytes()
        # The archive's part that the backup holds too is read and checked all the same.
        for place in range(7, len(content), 131):
            path.write_bytes(content[:place] + bytes((content[place] ^ 1,)) + content[place + 1 :])
            with pytest.raises(FeedError):
                folder.source(backup).segments().verify(mark)
        path.write_bytes(content)
    assert folder.source(backup).segments().verify(mark).size == mark.size  # type: ignore[union-attr]


async def test_backup_that_was_not_written_to_its_end_is_refused(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, _ = await make_log(folder)
    content = backup.read_bytes()
    for length in range(len(content) - 1, 600, -997):
        backup.write_bytes(content[:length])
        with pytest.raises(CorruptArchive):
            folder.source(backup, archive=False).segments().verify()


async def test_backup_of_a_log_that_grows_meanwhile_is_the_log_as_it_was(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        size = log.sequencer.head.size
        writing = asyncio.create_task(log.back_up(tmp_path / "backup"))
        await asyncio.gather(*(log.sequencer.submit(make_request(f"more-{number}")) for number in range(50)))
        assert await writing == size
    verified = await restore(folder.source(tmp_path / "backup", archive=False), tmp_path / "new", None)
    assert verified.size == size
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def drills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "drills").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "drills"))
    return tmp_path / "drills"


async def test_drill_beside_a_running_feed_reports_what_a_restore_would_give(tmp_path: Path, drills: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, backup_size = await make_log(folder)
    steps: set[str] = set()
    async with folder.run() as log:
        head = log.sequencer.head
        report = await drill(folder.source(backup), folder.place.marks.read(), lambda step, *_: steps.add(step))

    assert (report.size, report.root_hash) == (head.size, head.frontier.root_hash())
    assert (report.backup_size, report.archived) == (backup_size, head.size - backup_size)
    assert (report.opt_outs_after_backup, report.opt_outs_not_in_force) == (6, ())
    assert report.subjects == 18
    assert steps == {"verify", "replay", "check"}
    assert list(drills.iterdir()) == []


async def test_drill_without_the_archive_says_what_would_be_lost(tmp_path: Path, drills: Path) -> None:
    folder = LogFolder(tmp_path)
    backup, _ = await make_log(folder)
    with pytest.raises(LogRolledBack, match="are missing"):
        await drill(folder.source(backup, archive=False), folder.place.marks.read())
    assert list(drills.iterdir()) == []


async def test_drill_names_the_opt_outs_that_a_state_lacks(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        first = await log.sequencer.submit(make_request("ann"))
        again = await log.sequencer.submit(make_request("ann", key="again"))
        other = await log.sequencer.submit(make_request("ann", key="other", purpose="newsletter"))
        grant = make_directive("bob", kind=1, proof=3, assurance=2)
        await log.sequencer.submit(make_submission((grant,)))
        denials = [
            (first.seq, make_directive("ann")),
            (again.seq, make_directive("ann")),
            (other.seq, make_directive("ann", purpose="newsletter")),
            (again.seq + 1, make_directive("ann")),
            (first.seq, make_directive("ann", purpose="profiling")),
            (grant.occurred_at_ms, make_directive("bob")),
            (1, make_directive("nobody")),
        ]
        missing = await drill_module._find_missing(log.store, denials)
    assert missing == [seq for seq, _ in denials[3:]]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM member WHERE token_hash = (SELECT max(token_hash) FROM member)",
        "UPDATE member SET cluster_hash = (SELECT max(token_hash) FROM cluster)",
        "INSERT INTO member VALUES (zeroblob(16), zeroblob(16))",
        "DELETE FROM cluster WHERE token_hash = (SELECT max(token_hash) FROM cluster)",
        "UPDATE request SET name_hash = zeroblob(16) WHERE name_hash = (SELECT max(name_hash) FROM request)",
    ],
)
async def test_verify_state_rows_lost_added_or_moved_are_found(tmp_path: Path, statement: str) -> None:
    folder = LogFolder(tmp_path)
    async with folder.run() as log:
        await fill(log)
        head = await log.store.load_head()
        await verify_state(log.store, head)
        async with log.store._database.writing() as connection:
            await connection.execute(statement)
        with pytest.raises(CorruptLog):
            await verify_state(log.store, head)
