"""How much waits to be shipped, counted without reading a single record."""

from pathlib import Path

import pytest

from journal.format import JournalMode, format_segment_name
from journal.reader import FrameAt, read_frames
from sidecar.journal.backlog import count_decisions
from sidecar.journal.position import POSITION_FILE_NAME, Position, save_positions
from sidecar.journal.writer import FileJournal
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths

KEYS = SealingKeys()


def test_backlog_without_a_shipper_is_everything_recorded(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append_now(make_record(1, items=20), 20)
    journal.append_now(make_record(2), 1)
    assert journal.backlog_records == 21
    journal.close()


def test_backlog_bytes_are_those_beyond_the_shippers_positions(tmp_path: Path) -> None:
    first = write_and_close(tmp_path, 8, segment_max_bytes=1_300)
    journal = open_journal(tmp_path)
    journal.append_now(make_record(1), 1)
    sizes = {path.name: path.stat().st_size for path in segment_paths(tmp_path)}
    assert journal.backlog_bytes == sum(sizes.values())
    frames = [frame for path in segment_paths(tmp_path) if path.name.startswith(first.hex()) for frame in read_of(path)]
    at = frames[-2]
    assert at.segment > 0
    position = Position(at.segment, at.end, at.frame + 1, at.chain_hash, 7)
    save_positions(tmp_path / POSITION_FILE_NAME, {first: position})
    rest = sum(
        size for name, size in sizes.items() if name > format_segment_name(first, at.segment) or first.hex() not in name
    )
    assert journal.backlog_bytes == rest + sizes[format_segment_name(first, at.segment)] - at.end
    journal.close()


def test_backlog_shrinks_as_the_shipper_says(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for number in range(10):
        journal.append_now(make_record(number), 1)
    ship(tmp_path, {journal.chain_id: 4})
    assert journal.backlog_records == 6
    ship(tmp_path, {journal.chain_id: 10})
    assert journal.backlog_records == 0
    journal.close()


def test_backlog_counts_what_earlier_processes_left(tmp_path: Path) -> None:
    first = write_and_close(tmp_path, 8, segment_max_bytes=1_300)
    second = write_and_close(tmp_path, 5)
    frames = [frame for path in segment_paths(tmp_path) if path.name.startswith(first.hex()) for frame in read_of(path)]
    at = frames[4]
    position = Position(at.segment, at.end, at.frame + 1, at.chain_hash, 5)
    save_positions(tmp_path / POSITION_FILE_NAME, {first: position})
    journal = open_journal(tmp_path)
    journal._chores.wait()
    assert journal.backlog_records == 3 + 5
    journal.append_now(make_record(1), 1)
    assert journal.backlog_records == 3 + 5 + 1
    ship(tmp_path, {first: 8, second: 1})
    assert journal.backlog_records == 4 + 1
    journal.close()


def test_backlog_with_a_damaged_position_file_stays_as_it_was(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append_now(make_record(1, items=3), 3)
    ship(tmp_path, {journal.chain_id: 1})
    assert journal.backlog_records == 2
    (tmp_path / POSITION_FILE_NAME).write_text("{")
    assert journal.backlog_records == 2
    journal.close()


@pytest.mark.parametrize("cut", [1, 200, 300])
def test_count_decisions_of_a_torn_segment_counts_whole_frames(tmp_path: Path, cut: int) -> None:
    write_and_close(tmp_path, 6)
    (path,) = segment_paths(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert count_decisions(path, 0) == (5 if cut < 290 else 4)


def test_count_decisions_of_damage_counts_up_to_it(tmp_path: Path) -> None:
    write_and_close(tmp_path, 6)
    (path,) = segment_paths(tmp_path)
    at = read_of(path)[3].offset
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes(12) + content[at + 12 :])
    assert count_decisions(path, 0) == 3


def read_of(path: Path) -> list[FrameAt]:
    return list(read_frames(path, KEYS))


def ship(directory: Path, decisions: dict[bytes, int]) -> None:
    positions = {chain_id: Position(0, 1, 1, b"", count) for chain_id, count in decisions.items()}
    save_positions(directory / POSITION_FILE_NAME, positions)


def open_journal(directory: Path, *, segment_max_bytes: int = 1 << 20) -> FileJournal:
    return FileJournal.open(
        directory, KEYS, "pod-1", JournalMode.GROUP, FakeClock(), segment_max_bytes=segment_max_bytes
    )


def write_and_close(directory: Path, count: int, *, segment_max_bytes: int = 1 << 20) -> bytes:
    journal = open_journal(directory, segment_max_bytes=segment_max_bytes)
    for number in range(count):
        journal.append_now(make_record(number), 1)
    journal.close()
    return journal.chain_id


def test_backlog_holds_nothing_that_was_disposed_of(tmp_path: Path) -> None:
    first, second = write_and_close(tmp_path, 8), write_and_close(tmp_path, 5)
    journal = open_journal(tmp_path)
    journal._chores.wait()
    ship(tmp_path, {first: 8, second: 2})
    assert journal.backlog_records == 3
    # The shipper forgets a chain that is gone; what it has shipped of it waits no more all the same.
    ship(tmp_path, {second: 2})
    assert journal.backlog_records == 3
    journal.note_disposed(second, 4)
    assert journal.backlog_records == 1
    journal.append_now(make_record(1, items=3), 3)
    journal.note_disposed(journal.chain_id, 2)
    assert journal.backlog_records == 2
    journal.close()
