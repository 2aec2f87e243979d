"""Following a directory: everything once, in order, over segments, chains, restarts and damage."""

import errno
import os
import threading
from pathlib import Path

import pytest

from journal.directory import list_segments
from journal.errors import CorruptSegment, JournalError, TornTail
from journal.format import JournalMode
from journal.reader import FrameAt
from sidecar.errors import KeyServiceUnavailable, SidecarError, WrongCacheKey
from sidecar.journal.position import Position
from sidecar.journal.tail import TORN_AFTER_MS, Tail
from sidecar.journal.writer import FileJournal
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, join_segment, make_record, segment_paths, split_segment

KEYS = SealingKeys()
# A header and three frames.
SEGMENT_BYTES = 1_300


class Directory:
    """A journal directory with its writers and one tail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.faults: list[JournalError | SidecarError] = []
        self.numbers: dict[bytes, int] = {make_record(number): number for number in range(100)}
        path.mkdir()

    def write(self, numbers: range, *, segment_max_bytes: int = 1 << 20) -> bytes:
        """A process that appends these records and ends; its chain's id."""
        self.clock.advance(1)
        journal = FileJournal.open(
            self.path, KEYS, "pod-1", JournalMode.GROUP, self.clock, segment_max_bytes=segment_max_bytes
        )
        for number in numbers:
            journal.append_now(make_record(number), 1)
        journal.close()
        return journal.chain_id

    def tail(self, positions: dict[bytes, Position] | None = None) -> Tail:
        return Tail(self.path, KEYS, self.clock, positions or {}, self.faults.append)

    def read(self, tail: Tail, max_decisions: int = 1_000) -> list[int]:
        """The numbers of the records read."""
        return [self.numbers[record] for frame in tail.read(max_decisions) for record in frame.records]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "journal")


def test_tail_of_an_empty_directory_reads_nothing(directory: Directory) -> None:
    assert directory.read(directory.tail()) == []


def test_tail_reads_chains_in_order_of_creation_and_each_frame_once(directory: Directory) -> None:
    for start in (0, 10, 20):
        directory.write(range(start, start + 10), segment_max_bytes=SEGMENT_BYTES)
    tail = directory.tail()
    assert directory.read(tail) == list(range(30))
    assert directory.read(tail) == []
    directory.write(range(30, 35))
    assert directory.read(tail) == list(range(30, 35))
    assert directory.faults == []


def test_tail_follows_a_writer_frame_by_frame(directory: Directory) -> None:
    journal = FileJournal.open(
        directory.path, KEYS, "pod-1", JournalMode.GROUP, directory.clock, segment_max_bytes=SEGMENT_BYTES
    )
    tail = directory.tail()
    for number in range(20):
        journal.append_now(make_record(number), 1)
        assert directory.read(tail) == [number]
        assert directory.read(tail) == []
    journal.close()
    assert len(segment_paths(directory.path)) > 3
    assert directory.faults == []


def test_tail_reads_as_much_as_asked_for(directory: Directory) -> None:
    directory.write(range(10))
    tail = directory.tail()
    assert [directory.read(tail, 4) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


@pytest.mark.parametrize("done", range(1, 10))
def test_tail_goes_on_at_a_position(directory: Directory, done: int) -> None:
    directory.write(range(10), segment_max_bytes=SEGMENT_BYTES)
    frames = directory.tail().read(done)
    resumed = directory.tail({frames[-1].chain_id: position_after(frames)})
    assert directory.read(resumed) == list(range(done, 10))
    assert directory.faults == []


def test_tail_at_the_end_opens_nothing(directory: Directory) -> None:
    directory.write(range(10), segment_max_bytes=SEGMENT_BYTES)
    frames = directory.tail().read(1_000)
    (*_, last) = segment_paths(directory.path)
    last.write_bytes(b"\x00" * last.stat().st_size)
    assert directory.read(directory.tail({frames[-1].chain_id: position_after(frames)})) == []
    assert directory.faults == []


def test_tail_reports_damage_once_and_goes_on_with_the_next_segment(directory: Directory) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    second = segment_paths(directory.path)[1]
    header, frames = split_segment(second.read_bytes())
    second.write_bytes(join_segment(header, [frames[0], bytes(9) + frames[1][9:], *frames[2:]]))
    tail = directory.tail()
    assert directory.read(tail) + directory.read(tail) == [0, 1, 2, 3, 6, 7, 8]
    (fault,) = directory.faults
    assert isinstance(fault, CorruptSegment)
    assert (fault.segment, fault.frame, fault.offset) == (second.name, 1, len(header) + len(frames[0]))
    directory.write(range(20, 22))
    assert directory.read(tail) == [20, 21]
    assert len(directory.faults) == 1


def test_tail_reports_a_segment_cut_at_a_frame(directory: Directory) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    first, second, *_ = segment_paths(directory.path)
    header, frames = split_segment(first.read_bytes())
    first.write_bytes(join_segment(header, frames[:-1]))
    assert directory.read(directory.tail()) == [each for each in range(9) if each != len(frames) - 1]
    (fault,) = directory.faults
    assert isinstance(fault, CorruptSegment)
    assert fault.segment == second.name
    assert "does not follow the segment before it" in str(fault)


def test_tail_reports_a_missing_segment(directory: Directory) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    _, second, third, *_ = segment_paths(directory.path)
    second.unlink()
    assert directory.read(directory.tail())[-1] == 8
    (fault,) = directory.faults
    assert isinstance(fault, CorruptSegment)
    assert fault.segment == third.name
    assert "segments before it are missing" in str(fault)


def test_tail_begins_where_the_beginning_was_disposed_of(directory: Directory) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    segment_paths(directory.path)[0].unlink()
    assert directory.read(directory.tail())[-1] == 8
    assert directory.faults == []


def test_tail_goes_on_behind_segments_that_were_disposed_of_since_the_last_process(directory: Directory) -> None:
    chain_id = directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    tail = directory.tail()
    frame = tail.read(1)[-1]
    tail.close()
    position = Position(frame.segment, frame.end, frame.frame + 1, frame.chain_hash, 1)
    for path in segment_paths(directory.path)[:2]:
        path.unlink()
    assert directory.read(directory.tail({chain_id: position}))[-1] == 8
    assert directory.faults == []


def test_tail_takes_segments_that_vanish_while_it_looks_as_disposed_of(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    gone = directory.write(range(10, 12))
    listing = list_segments(directory.path)
    for path in directory.path.glob(f"{gone.hex()}-*"):
        path.unlink()
    tail = directory.tail()
    with monkeypatch.context() as patched:
        patched.setattr("sidecar.journal.tail.list_segments", lambda _: listing)
        assert directory.read(tail)[-1] == 8
        for path in segment_paths(directory.path):
            path.unlink()
        # The next listing is as old: everything in it was read, and is gone.
        assert directory.read(tail) == []
    assert directory.read(tail) == []
    assert directory.faults == []


def test_tail_reports_a_torn_end_once_nobody_finishes_it(directory: Directory) -> None:
    directory.write(range(3))
    (path,) = segment_paths(directory.path)
    path.write_bytes(path.read_bytes()[:-7])
    tail = directory.tail()
    assert directory.read(tail) == [0, 1]
    directory.clock.advance(TORN_AFTER_MS - 1)
    assert directory.read(tail) == []
    assert directory.faults == []
    directory.clock.advance(1)
    for _ in range(3):
        assert directory.read(tail) == []
    (fault,) = directory.faults
    assert isinstance(fault, TornTail)
    assert (fault.segment, fault.frame) == (path.name, 2)


def test_tail_resumed_before_a_torn_end_reports_it(directory: Directory) -> None:
    directory.write(range(3))
    (path,) = segment_paths(directory.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    frames = directory.tail().read(1_000)
    tail = directory.tail({frames[-1].chain_id: position_after(frames)})
    assert directory.read(tail) == []
    directory.clock.advance(TORN_AFTER_MS)
    assert directory.read(tail) == []
    assert [type(fault) for fault in directory.faults] == [TornTail]


def test_tail_reports_a_segment_shorter_than_what_was_read_of_it(directory: Directory) -> None:
    directory.write(range(3))
    frames = directory.tail().read(1_000)
    (path,) = segment_paths(directory.path)
    header, parts = split_segment(path.read_bytes())
    path.write_bytes(join_segment(header, parts[:2]))
    tail = directory.tail({frames[-1].chain_id: position_after(frames)})
    assert directory.read(tail) == []
    directory.clock.advance(TORN_AFTER_MS)
    assert directory.read(tail) == []
    (fault,) = directory.faults
    assert "the segment ends before it" in str(fault)


def test_tail_with_a_torn_segment_followed_by_another_reads_both(directory: Directory) -> None:
    directory.write(range(9), segment_max_bytes=SEGMENT_BYTES)
    first = segment_paths(directory.path)[0]
    with first.open("ab") as file:
        file.write(b"half")
    assert directory.read(directory.tail()) == list(range(9))
    assert [type(fault) for fault in directory.faults] == [TornTail]


def test_tail_without_the_key_of_a_segment_reads_the_others(directory: Directory) -> None:
    journal = FileJournal.open(directory.path, SealingKeys(bytes(32)), "pod-1", JournalMode.GROUP, directory.clock)
    journal.append_now(make_record(50), 1)
    journal.close()
    directory.write(range(3))
    tail = directory.tail()
    assert directory.read(tail) == [0, 1, 2]
    assert directory.read(tail) == []
    assert [type(fault) for fault in directory.faults] == [WrongCacheKey]


def test_tail_whose_key_cannot_be_had_now_reads_everything_later(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write(range(3))
    tail = directory.tail()
    assert directory.read(tail) == [0, 1, 2]
    directory.write(range(10, 13), segment_max_bytes=SEGMENT_BYTES)

    def fail(*_: object) -> bytearray:
        raise KeyServiceUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(KEYS, "unwrap", fail)
        for _ in range(2):
            with pytest.raises(KeyServiceUnavailable):
                tail.read(1_000)
    assert directory.read(tail) == [10, 11, 12]
    assert directory.faults == []


def test_tail_beside_busy_writers_reads_each_record_once(directory: Directory) -> None:
    count = 1_500
    journals = [
        FileJournal.open(directory.path, KEYS, "pod-1", JournalMode.GROUP, directory.clock, segment_max_bytes=20_000)
        for _ in range(2)
    ]
    writers = [
        threading.Thread(target=lambda journal=journal, at=at: append_many(journal, range(at, 2 * count, 2)))
        for at, journal in enumerate(journals)
    ]
    for writer in writers:
        writer.start()
    tail = directory.tail()
    records: list[bytes] = []
    while len(records) < 2 * count and not directory.faults:
        records += [record for frame in tail.read(200) for record in frame.records]
    for writer in writers:
        writer.join()
    for journal in journals:
        journal.close()
    assert directory.faults == []
    assert sorted(records) == sorted(b"%d" % number for number in range(2 * count))


def test_tail_lets_go_of_a_chain_that_was_removed(directory: Directory) -> None:
    gone, kept = directory.write(range(3)), directory.write(range(3, 6))
    tail = directory.tail()
    assert directory.read(tail) == list(range(6))
    for path in directory.path.glob(f"{gone.hex()}-*"):
        path.unlink()
    assert directory.read(tail) == []
    assert tail.chain_ids == {kept}


def test_tail_keeps_no_file_open_while_it_waits(directory: Directory) -> None:
    before = count_open_files()
    for start in range(0, 30, 3):
        directory.write(range(start, start + 3))
    tail = directory.tail()
    assert len(directory.read(tail)) == 30
    assert count_open_files() == before
    tail.close()


def append_many(journal: FileJournal, numbers: range) -> None:
    for number in numbers:
        journal.append_now(b"%d" % number, 1)


def position_after(frames: list[FrameAt]) -> Position:
    last = frames[-1]
    return Position(last.segment, last.end, last.frame + 1, last.chain_hash, sum(frame.decisions for frame in frames))


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_tail_that_fails_on_one_chain_still_gives_what_it_read_of_another(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write(range(5))
    broken_chain = directory.write(range(5, 10))
    tail = directory.tail()
    real_pread, disk = os.pread, {"is_broken": True}

    def pread(descriptor: int, size_bytes: int, offset: int) -> bytes:
        is_of_broken_chain = broken_chain.hex() in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if disk["is_broken"] and is_of_broken_chain:
            raise OSError(errno.EIO, "broken disk")
        return real_pread(descriptor, size_bytes, offset)

    monkeypatch.setattr(os, "pread", pread)
    try:
        first = directory.read(tail)
    except OSError:
        first = []
    disk["is_broken"] = False
    assert sorted(first + directory.read(tail)) == list(range(10))
