"""Keeping records: what each mode promises, and what becomes of an answer when the disk fails, for real."""

import asyncio
import contextlib
import logging
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.format import MAX_FRAME_BYTES, JournalMode
from journal.reader import FrameAt, read_frames, read_segment
from sidecar.errors import JournalUnavailable, WrongCacheKey
from sidecar.journal.writer import FileJournal, OnUnavailable
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths

KEYS = SealingKeys()


class Journals:
    """Opens journals in one directory and closes them after the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.opened: list[FileJournal] = []

    def open(
        self,
        mode: JournalMode = JournalMode.GROUP,
        *,
        segment_max_bytes: int = 1 << 20,
        on_unavailable: OnUnavailable = OnUnavailable.DENY,
    ) -> FileJournal:
        journal = FileJournal.open(
            self.directory,
            KEYS,
            "pod-1",
            mode,
            self.clock,
            segment_max_bytes=segment_max_bytes,
            on_unavailable=on_unavailable,
        )
        self.opened.append(journal)
        return journal

    def records(self) -> list[bytes]:
        return [found.record for path in segment_paths(self.directory) for found in read_segment(path, KEYS)]

    def frames(self) -> list[FrameAt]:
        return [frame for path in segment_paths(self.directory) for frame in read_frames(path, KEYS)]


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Journals]:
    made = Journals(tmp_path / "journal")
    yield made
    for journal in made.opened:
        journal.close()


def test_append_in_group_mode_waits_for_nothing_and_is_in_the_file(journals: Journals) -> None:
    call = journals.open().append(make_record(1), 1)
    with pytest.raises(StopIteration):
        call.send(None)
    assert journals.records() == [make_record(1)]


def test_append_now_in_group_mode_is_in_the_file(journals: Journals) -> None:
    journal = journals.open()
    journal.append_now(make_record(1, items=3), 3)
    journal.append_now(make_record(9), 1)
    assert journals.records() == [make_record(1, items=3), make_record(9)]
    assert [frame.decisions for frame in journals.frames()] == [3, 1]
    assert journal.recorded_decisions == 4


async def test_append_in_sync_mode_returns_when_it_is_on_the_disk(journals: Journals) -> None:
    journal = journals.open(JournalMode.SYNC)
    await asyncio.gather(*(journal.append(make_record(number), 1) for number in range(20)))
    assert sorted(journals.records()) == sorted(make_record(number) for number in range(20))


async def test_append_in_sync_mode_fails_when_the_disk_does_not_take_it(journals: Journals) -> None:
    journal = journals.open(JournalMode.SYNC)
    await journal.append(make_record(1), 1)
    break_fsync(journal)
    with pytest.raises(JournalUnavailable, match="did not reach the disk"):
        await journal.append(make_record(2), 1)
    assert not journal.is_writable
    await journal.append(make_record(3), 1)
    assert journal.is_writable
    assert journals.records() == [make_record(1), make_record(3)]


async def test_append_in_sync_mode_given_up_by_its_caller_is_kept(journals: Journals) -> None:
    journal = journals.open(JournalMode.SYNC)
    call = asyncio.ensure_future(journal.append(make_record(1), 1))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    journal.close()
    assert journals.records() == [make_record(1)]


def test_append_now_in_sync_mode_is_a_mistake(journals: Journals) -> None:
    with pytest.raises(RuntimeError, match="await append"):
        journals.open(JournalMode.SYNC).append_now(make_record(1), 1)


async def test_append_in_async_mode_is_in_the_file_after_close(journals: Journals) -> None:
    journal = journals.open(JournalMode.ASYNC)
    for number in range(50):
        await journal.append(make_record(number), 1)
    journal.close()
    assert journals.records() == [make_record(number) for number in range(50)]
    assert sum(frame.decisions for frame in journals.frames()) == 50
    assert len(journals.frames()) < 50


def test_append_in_async_mode_splits_what_is_large(journals: Journals) -> None:
    journal = journals.open(JournalMode.ASYNC, segment_max_bytes=4 << 20)
    for number in range(5):
        journal.append_now(bytes((number,)) * 700_000, 1)
    journal.close()
    assert [record[0] for record in journals.records()] == [0, 1, 2, 3, 4]
    assert all(frame.end - frame.offset < 2 << 20 for frame in journals.frames())


def test_segment_full_begins_the_next_of_the_chain(journals: Journals) -> None:
    journal = journals.open(segment_max_bytes=2_000)
    for number in range(40):
        journal.append_now(make_record(number), 1)
    journal.close()
    assert journals.records() == [make_record(number) for number in range(40)]
    paths = segment_paths(journals.directory)
    assert len(paths) > 4
    assert [path.name for path in paths] == [f"{journal.chain_id.hex()}-{at:08d}.journal" for at in range(len(paths))]
    assert max(path.stat().st_size for path in paths) <= 2_000
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)


def test_record_larger_than_a_segment_gets_one_of_its_own(journals: Journals) -> None:
    journal = journals.open(segment_max_bytes=2_000)
    for record in (make_record(1), make_record(2, items=300), make_record(3)):
        journal.append_now(record, 1)
    assert journals.records() == [make_record(1), make_record(2, items=300), make_record(3)]


def test_record_larger_than_a_frame_may_be_is_refused(journals: Journals) -> None:
    journal = journals.open()
    with pytest.raises(JournalUnavailable, match="limited to"):
        journal.append_now(bytes(MAX_FRAME_BYTES), 1)
    journal.append_now(make_record(1), 1)
    assert journals.records() == [make_record(1)]


def test_two_journals_in_one_directory_keep_to_their_chains(journals: Journals) -> None:
    first, second = journals.open(), journals.open()
    for number in range(10):
        (first, second)[number % 2].append_now(make_record(number), 1)
    assert first.chain_id != second.chain_id
    assert sorted(journals.records()) == sorted(make_record(number) for number in range(10))


def test_append_on_a_full_disk_denies_and_recovers_with_nothing_torn(journals: Journals) -> None:
    journal = journals.open()
    journal.append_now(make_record(1), 1)
    with full_disk(), pytest.raises(JournalUnavailable, match="File too large"):
        journal.append_now(make_record(2), 1)
    assert not journal.is_writable
    journal.append_now(make_record(3), 1)
    assert journal.is_writable
    assert journals.records() == [make_record(1), make_record(3)]
    assert len(segment_paths(journals.directory)) == 2


def test_append_after_a_torn_write_abandons_the_segment(journals: Journals) -> None:
    journal = journals.open()
    journal.append_now(make_record(1), 1)
    descriptor = current_descriptor(journal)
    size_bytes = os.fstat(descriptor).st_size
    # What a short write leaves; the failing write follows it.
    os.write(descriptor, b"half of a frame")
    with full_disk(), pytest.raises(JournalUnavailable):
        journal.append_now(make_record(2), 1)
    journal.append_now(make_record(3), 1)
    first, second = segment_paths(journals.directory)
    assert first.stat().st_size >= size_bytes
    assert [found.record for found in read_segment(second, KEYS)] == [make_record(3)]


def test_append_counts_what_leaves_without_a_record_where_that_is_allowed(
    journals: Journals, caplog: pytest.LogCaptureFixture
) -> None:
    journal = journals.open(on_unavailable=OnUnavailable.ALLOW_AND_COUNT)
    with caplog.at_level(logging.WARNING):
        journal.append_now(make_record(0), 1)
        with full_disk():
            journal.append_now(make_record(1, items=5), 5)
        journal.append_now(make_record(2), 1)
        journal.close()
    assert journal.unrecorded_decisions == 5
    assert journal.recorded_decisions == 2
    assert journals.records() == [make_record(0), make_record(2)]
    assert "answers leave without a record, as on_unavailable allows" in caplog.messages
    assert logged_fields(caplog, "answers left without a record") == [{"decisions": 5}]


async def test_append_in_async_mode_keeps_what_the_disk_did_not_take(journals: Journals) -> None:
    journal = journals.open(JournalMode.ASYNC)
    await journal.append(make_record(1), 1)
    journal.flush()
    with full_disk():
        await journal.append(make_record(2), 1)
        journal.flush()
        with pytest.raises(JournalUnavailable):
            await journal.append(make_record(3), 1)
    journal.close()
    assert journals.records() == [make_record(1), make_record(2)]


def test_append_after_a_failed_fsync_begins_a_segment_that_is_proven(
    journals: Journals, caplog: pytest.LogCaptureFixture
) -> None:
    journal = journals.open()
    journal.append_now(make_record(1), 1)
    journal.flush()
    break_fsync(journal)
    journal.append_now(make_record(2), 1)
    journal.flush()
    assert not journal.is_writable
    journal.append_now(make_record(3), 1)
    assert journal.is_writable
    assert journals.records() == [make_record(1), make_record(3)]
    assert logged_fields(caplog, "decisions may not be on the disk") == [{"decisions": 1}]


def test_append_to_a_deleted_segment_is_noticed(journals: Journals) -> None:
    journal = journals.open()
    segment_paths(journals.directory)[0].unlink()
    journal.append_now(make_record(1), 1)
    journal.flush()
    assert not journal.is_writable
    journal.append_now(make_record(2), 1)
    assert journals.records() == [make_record(2)]


def test_append_without_a_directory_denies_until_it_is_back(journals: Journals) -> None:
    journal = journals.open()
    shutil.rmtree(journals.directory)
    journal.append_now(make_record(0), 1)
    journal.flush()
    for _ in range(3):
        with pytest.raises(JournalUnavailable):
            journal.append_now(make_record(1), 1)
    journals.directory.mkdir()
    with pytest.raises(JournalUnavailable, match="tried again soon"):
        journal.append_now(make_record(2), 1)
    journals.clock.advance(100)
    journal.append_now(make_record(3), 1)
    assert journals.records() == [make_record(3)]


def test_open_where_nothing_can_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(JournalUnavailable):
        FileJournal.open(tmp_path / "journal", KEYS, "pod-1", JournalMode.GROUP, FakeClock())


def test_open_without_a_key_fails(tmp_path: Path) -> None:
    class NoKeys(SealingKeys):
        def wrap(self, key: bytes, purpose: str) -> bytes:
            raise WrongCacheKey("no key")

    with pytest.raises(JournalUnavailable, match="WRONG_CACHE_KEY"):
        FileJournal.open(tmp_path / "journal", NoKeys(), "pod-1", JournalMode.GROUP, FakeClock())


def test_append_after_close_denies_even_where_answers_may_leave_unrecorded(journals: Journals) -> None:
    journal = journals.open(on_unavailable=OnUnavailable.ALLOW_AND_COUNT)
    journal.close()
    journal.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.append_now(make_record(1), 1)


def test_close_leaves_no_file_and_no_thread_open(journals: Journals) -> None:
    before = count_open_files()
    journal = journals.open(segment_max_bytes=2_000)
    for number in range(40):
        journal.append_now(make_record(number), 1)
    journal.close()
    assert count_open_files() == before
    assert not journal._flusher.is_running


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def logged_fields(caplog: pytest.LogCaptureFixture, message: str) -> list[object]:
    return [vars(entry)["fields"] for entry in caplog.records if entry.message == message]


def current_descriptor(journal: FileJournal) -> int:
    segment = journal._chain._segment
    assert segment is not None
    return segment._descriptor


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Has the kernel refuse to make any file of this process longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def break_fsync(journal: FileJournal) -> None:
    """Puts something behind the journal's descriptor that takes writes and that the kernel cannot sync."""
    descriptor = os.open("/dev/null", os.O_WRONLY)
    os.dup2(descriptor, current_descriptor(journal))
    os.close(descriptor)
