"""Signed heads of a journal: when they are made, and that they say what the files say."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode
from journal.format import FrameKind, JournalMode
from journal.reader import read_frames
from journal.start import StartNote, parse_start
from sidecar.errors import JournalUnavailable
from sidecar.journal.head_outbox import LOGGED_FILE_NAME, HeadOutbox
from sidecar.journal.writer import FileJournal, OnUnavailable
from tests.fakes.clock import FakeClock
from tests.fakes.journal_chains import SIDECAR_ID, kinds, make_plan, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths

KEYS = SealingKeys()
START = StartNote(version="1.2.3", sidecar_id=SIDECAR_ID, at_ms=0, mode=JournalMode.SYNC, on_unavailable="deny")


class Arrivals(HeadOutbox):
    """Says when heads come."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / LOGGED_FILE_NAME)
        self.came = threading.Event()

    def add(self, heads: Sequence[JournalHead]) -> None:
        super().add(heads)
        self.came.set()


class Headed:
    """A journal with heads in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.opened: list[FileJournal] = []
        self.outbox: HeadOutbox

    def open(
        self,
        mode: JournalMode = JournalMode.GROUP,
        on_unavailable: OnUnavailable = OnUnavailable.DENY,
        segment_max_bytes: int = 1 << 20,
        **plan: object,
    ) -> FileJournal:
        made = make_plan(self.directory, **plan)
        self.outbox = made.outbox
        journal = FileJournal.open(
            self.directory,
            KEYS,
            SIDECAR_ID,
            mode,
            self.clock,
            segment_max_bytes=segment_max_bytes,
            on_unavailable=on_unavailable,
            plan=made,
        )
        self.opened.append(journal)
        return journal

    def heads(self, journal: FileJournal) -> list[JournalHead]:
        """Of this journal's chain, each checked."""
        return verify_heads(self.directory, KEYS)[journal.chain_id]

    def frame_kinds(self) -> list[int]:
        return [frame.kind for path in segment_paths(self.directory) for frame in read_frames(path, KEYS)]


@pytest.fixture
def headed(tmp_path: Path) -> Iterator[Headed]:
    made = Headed(tmp_path / "journal")
    yield made
    for journal in made.opened:
        journal.close()


def test_open_begins_with_what_the_process_is_and_an_empty_head(headed: Headed) -> None:
    journal = headed.open(start=START)
    assert headed.frame_kinds() == [FrameKind.START, FrameKind.HEAD]
    (head,) = headed.heads(journal)
    assert (head.number, head.kind, head.segment, head.frame, head.decisions) == (0, HeadKind.PERIODIC, 0, 1, 0)
    assert (head.answered, head.unrecorded, head.weakest_mode) == (0, 0, WeakestMode.GROUP)
    assert head.at_ms == headed.clock.now_ms()
    assert headed.outbox.pending(10) == [head]


def test_head_while_there_is_traffic_comes_every_ten_seconds(headed: Headed) -> None:
    journal = headed.open()
    for _ in range(3):
        journal.append_now(make_record(1, items=2), 2)
        journal.append_now(make_record(9), 1)
        journal.count_answered(3)
        headed.clock.advance(5_000)
        journal.flush()
        headed.clock.advance(5_000)
        journal.flush()
        headed.clock.advance(10_000)
        journal.append_now(make_record(10), 1)
        journal.flush()
    heads = headed.heads(journal)
    assert kinds(heads) == [HeadKind.PERIODIC] * 7
    assert [head.decisions for head in heads] == [0, 3, 4, 7, 8, 11, 12]
    assert [head.answered for head in heads] == [0, 3, 3, 6, 6, 9, 9]
    assert headed.outbox.pending(10) == heads


def test_head_while_nothing_happens_comes_every_minute(headed: Headed) -> None:
    journal = headed.open()
    for _ in range(12):
        headed.clock.advance(10_000)
        journal.flush()
    assert [head.decisions for head in headed.heads(journal)] == [0, 0, 0]


def test_head_comes_without_anybody_who_asks(headed: Headed) -> None:
    arrivals = Arrivals(headed.directory)
    journal = headed.open(head_seconds=0.05, idle_head_seconds=0.05, outbox=arrivals)
    arrivals.came.clear()
    headed.clock.advance(50)
    assert arrivals.came.wait(10)
    assert len(headed.heads(journal)) == 2


def test_close_ends_the_chain_with_a_final_head(headed: Headed) -> None:
    journal = headed.open()
    journal.append_now(make_record(1), 1)
    journal.count_answered(1)
    journal.close()
    final = headed.heads(journal)[-1]
    assert (final.kind, final.decisions, final.answered) == (HeadKind.FINAL, 1, 1)
    assert headed.frame_kinds()[-1] == FrameKind.HEAD
    assert headed.outbox.pending(10)[-1] == final


async def test_close_in_mode_async_writes_what_waits_before_the_final_head(headed: Headed) -> None:
    journal = headed.open(JournalMode.ASYNC)
    for number in range(20):
        await journal.append(make_record(number), 1)
    journal.close()
    final = headed.heads(journal)[-1]
    assert (final.kind, final.decisions, final.weakest_mode) == (HeadKind.FINAL, 20, WeakestMode.ASYNC)


def test_segment_that_is_full_ends_with_a_head(headed: Headed) -> None:
    journal = headed.open(segment_max_bytes=4096)
    for number in range(60):
        journal.append_now(make_record(number), 1)
    journal.close()
    heads = headed.heads(journal)
    paths = segment_paths(headed.directory)
    assert len(paths) > 3
    assert max(path.stat().st_size for path in paths) <= 4096
    ends = [head for head in heads if head.kind == HeadKind.SEGMENT_END]
    assert [head.segment for head in ends] == list(range(len(paths) - 1))
    assert [list(read_frames(path, KEYS))[-1].kind for path in paths] == [FrameKind.HEAD] * len(paths)


def test_segment_that_is_old_ends_even_if_it_holds_nothing_but_heads(headed: Headed) -> None:
    journal = headed.open(segment_max_seconds=100, idle_head_seconds=60)
    headed.clock.advance(100_000)
    journal.flush()
    headed.clock.advance(99_000)
    journal.flush()
    assert kinds(headed.heads(journal)) == [HeadKind.PERIODIC, HeadKind.SEGMENT_END, HeadKind.PERIODIC]
    assert len(segment_paths(headed.directory)) == 2


def test_head_on_a_full_disk_is_made_later_and_finds_that_the_disk_works(headed: Headed) -> None:
    journal = headed.open()
    with full_disk():
        with pytest.raises(JournalUnavailable):
            journal.append_now(make_record(1), 1)
        headed.clock.advance(10_000)
        journal.flush()
        assert not journal.is_writable
    headed.clock.advance(100)
    journal.flush()
    # Nobody has asked for anything meanwhile.
    assert journal.is_writable
    assert len(headed.heads(journal)) == 2


def test_head_is_handed_on_only_when_it_is_on_the_disk(headed: Headed, monkeypatch: pytest.MonkeyPatch) -> None:
    synced_bytes: dict[int, int] = {}

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced_bytes[status.st_ino] = status.st_size

    class Watching(HeadOutbox):
        def add(self, heads: Sequence[JournalHead]) -> None:
            statuses = [path.stat() for path in segment_paths(headed.directory)]
            unsynced.extend(one.st_ino for one in statuses if synced_bytes.get(one.st_ino) != one.st_size)
            super().add(heads)

    unsynced: list[int] = []
    monkeypatch.setattr(os, "fsync", fsync)
    journal = headed.open(outbox=Watching(headed.directory / LOGGED_FILE_NAME), segment_max_seconds=15)
    for number in range(4):
        headed.clock.advance(10_000)
        journal.append_now(make_record(number), 1)
        journal.flush()
    journal.close()
    assert len(headed.outbox.pending(100)) > 5
    assert unsynced == []


def test_head_about_what_a_failed_fsync_may_have_lost_is_handed_on_all_the_same(headed: Headed) -> None:
    journal = headed.open()
    journal.append_now(make_record(1), 1)
    break_fsync(journal)
    headed.clock.advance(10_000)
    journal.flush()
    assert not journal.is_writable
    journal.append_now(make_record(2), 1)
    assert journal.is_writable
    journal.close()
    heads = headed.outbox.pending(10)
    # The answers had left. An audit finds that the second head is not in the files, and may find less than it says.
    assert [(head.number, head.segment, head.decisions) for head in heads] == [(0, 0, 0), (1, 0, 1), (2, 1, 2)]
    assert [len(list(read_frames(path, KEYS))) for path in segment_paths(headed.directory)] == [2, 2]


def test_head_says_what_left_without_a_record(headed: Headed) -> None:
    journal = headed.open(on_unavailable=OnUnavailable.ALLOW_AND_COUNT)
    with full_disk():
        journal.append_now(make_record(1, items=3), 3)
        journal.count_answered(3)
    journal.close()
    final = headed.heads(journal)[-1]
    assert (final.decisions, final.unrecorded, final.answered) == (0, 3, 3)


def test_note_is_part_of_what_a_head_covers(headed: Headed) -> None:
    journal = headed.open()
    journal.note(FrameKind.APPLIED, b"something")
    journal.close()
    assert headed.frame_kinds() == [FrameKind.HEAD, FrameKind.APPLIED, FrameKind.HEAD]
    assert headed.heads(journal)[-1].frame == 2


def test_change_to_a_weaker_mode_shows_in_start_note_segment_and_head(headed: Headed) -> None:
    journal = headed.open(start=START)
    journal.append_now(make_record(1), 1)
    assert journal.change(JournalMode.ASYNC, OnUnavailable.ALLOW_AND_COUNT)
    assert not journal.change(JournalMode.ASYNC, OnUnavailable.ALLOW_AND_COUNT)
    journal.flush()
    journal.append_now(make_record(2), 1)
    journal.flush()
    assert journal.change(JournalMode.GROUP, OnUnavailable.DENY)
    journal.flush()
    journal.close()
    notes = [
        parse_start(frame.records[0])
        for path in segment_paths(headed.directory)
        for frame in read_frames(path, KEYS)
        if frame.kind == FrameKind.START
    ]
    assert [(note.mode, note.on_unavailable) for note in notes] == [
        (JournalMode.GROUP, "deny"),
        (JournalMode.ASYNC, "allow_and_count"),
        (JournalMode.GROUP, "deny"),
    ]
    assert {note.version for note in notes} == {"1.2.3"}
    heads = headed.heads(journal)
    assert heads[0].weakest_mode == WeakestMode.GROUP
    # Since the chain's beginning: what was weak once does not become strong again.
    assert heads[-1].weakest_mode == WeakestMode.ASYNC


def test_change_from_or_to_sync_is_a_mistake(headed: Headed) -> None:
    with pytest.raises(RuntimeError):
        headed.open(JournalMode.SYNC).change(JournalMode.GROUP, OnUnavailable.DENY)
    with pytest.raises(RuntimeError):
        headed.open().change(JournalMode.SYNC, OnUnavailable.DENY)


def test_chain_is_locked_while_it_is_written_and_leaves_no_lock_behind(headed: Headed) -> None:
    journal = headed.open()
    lock = headed.directory / f"{journal.chain_id.hex()}.lock"
    assert lock.exists()
    journal.close()
    assert not lock.exists()


def break_fsync(journal: FileJournal) -> None:
    """Puts something behind the journal's descriptor that takes writes and that the kernel cannot sync."""
    segment = journal._chain._segment
    assert segment is not None
    descriptor = os.open("/dev/null", os.O_WRONLY)
    os.dup2(descriptor, segment._descriptor)
    os.close(descriptor)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Has the kernel refuse to make any file of this process longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
