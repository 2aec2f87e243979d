"""What may be disposed of: the oldest segments of a chain, closed, shipped, vouched for in the log, and old or too many."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from consent.eventlog.journal_head import DisposalGround
from sidecar.journal.position import POSITION_FILE_NAME, MalformedPosition, Position, save_positions
from sidecar.journal.retention import Disposable, RetentionPlanner, RetentionRule
from sidecar.ports import LoggedPlace
from tests.fakes.journal_files import KEYS, MS_PER_DAY, ChainFiles
from tests.fakes.journal_heads import MemoryHeads
from tests.fakes.journal_material import NOW_MS, split_segment

DAY_5_MS = NOW_MS + 5 * MS_PER_DAY
BY_AGE = RetentionRule(days=2.5)


class Journal:
    """A journal's directory, what of it is shipped, and what the log holds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.heads = MemoryHeads()
        self.positions: dict[bytes, Position] = {}

    def chain(self, name: str = "a", days: int = 5, first_day: int = 0) -> ChainFiles:
        """A chain that is shipped and vouched for up to its last segment, which is still written."""
        chain = ChainFiles(self.directory, name).add_days(days, first_day)
        self.ship(chain, days - 1)
        self.log(chain, days - 1)
        return chain

    def ship(self, chain: ChainFiles, number: int) -> None:
        self.positions[chain.chain_id] = chain.end_of(number)
        save_positions(self.directory / POSITION_FILE_NAME, self.positions)

    def log(self, chain: ChainFiles, segment: int, *, is_ended: bool = False) -> None:
        self.heads.places[chain.chain_id] = LoggedPlace(7, segment, is_ended)

    def plan(self, rule: RetentionRule = BY_AGE, now_ms: int = DAY_5_MS) -> list[Disposable]:
        return RetentionPlanner(self.directory, KEYS, self.heads, rule).plan(now_ms)

    def ranges(self, rule: RetentionRule = BY_AGE, now_ms: int = DAY_5_MS) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in self.plan(rule, now_ms)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_plan_takes_segments_that_ended_long_enough_ago(journal: Journal) -> None:
    chain = journal.chain()
    (planned,) = journal.plan()
    assert planned == Disposable(
        chain_id=chain.chain_id,
        first=0,
        last=1,
        chain_hash=chain.hashes[1],
        decisions=4,
        size_bytes=sum(path.stat().st_size for path in chain.paths[:2]),
        oldest_ms=NOW_MS,
        newest_ms=NOW_MS + 2 * MS_PER_DAY,
        ground=DisposalGround.AGE,
    )
    assert journal.plan(now_ms=NOW_MS + 3 * MS_PER_DAY) == []
    # The one that is still written stays, however old.
    assert journal.ranges(now_ms=NOW_MS + 999 * MS_PER_DAY) == [(0, 3)]


def test_plan_without_a_limit_takes_nothing(journal: Journal) -> None:
    journal.chain()
    assert journal.plan(RetentionRule()) == []


@pytest.mark.parametrize(("shipped_to", "expected"), [(None, []), (0, [(0, 0)]), (1, [(0, 1)]), (4, [(0, 1)])], ids=str)
def test_plan_keeps_what_is_not_shipped(
    journal: Journal, shipped_to: int | None, expected: list[tuple[int, int]]
) -> None:
    chain = journal.chain()
    journal.positions.clear()
    save_positions(journal.directory / POSITION_FILE_NAME, {})
    if shipped_to is not None:
        journal.ship(chain, shipped_to)
    assert journal.ranges() == expected
    assert journal.ranges(RetentionRule(days=2.5, only_shipped=False)) == [(0, 1)]


def test_plan_keeps_a_segment_whose_last_frame_is_not_shipped(journal: Journal) -> None:
    chain = journal.chain()
    at = chain.end_of(1)
    last_frame = split_segment(chain.paths[1].read_bytes())[1][-1]
    journal.positions[chain.chain_id] = Position(1, at.offset - len(last_frame), 1, at.chain_hash, 1)
    save_positions(journal.directory / POSITION_FILE_NAME, journal.positions)
    assert journal.ranges() == [(0, 0)]


def test_plan_takes_a_segment_that_is_torn_behind_what_was_shipped(journal: Journal) -> None:
    chain = journal.chain()
    journal.ship(chain, 1)
    with chain.paths[1].open("ab") as file:
        file.write(bytes(5))
    assert journal.ranges() == [(0, 1)]


def test_plan_with_a_damaged_position_takes_nothing(journal: Journal) -> None:
    journal.chain()
    (journal.directory / POSITION_FILE_NAME).write_text("{")
    with pytest.raises(MalformedPosition):
        journal.plan()


def test_plan_without_a_position_file_takes_nothing(journal: Journal) -> None:
    journal.chain()
    (journal.directory / POSITION_FILE_NAME).unlink()
    assert journal.plan() == []


@pytest.mark.parametrize(("segment", "expected"), [(0, []), (1, [(0, 0)]), (2, [(0, 1)])], ids=str)
def test_plan_keeps_what_no_logged_head_vouches_for(
    journal: Journal, segment: int, expected: list[tuple[int, int]]
) -> None:
    chain = journal.chain()
    journal.log(chain, segment)
    assert journal.ranges() == expected
    del journal.heads.places[chain.chain_id]
    assert journal.plan() == []


def test_plan_takes_a_chain_that_has_ended_as_a_whole(journal: Journal) -> None:
    chain = journal.chain(days=2)
    journal.log(chain, 1, is_ended=True)
    (planned,) = journal.plan()
    assert (planned.first, planned.last, planned.decisions) == (0, 1, 4)
    assert (planned.chain_hash, planned.newest_ms) == (chain.hashes[1], NOW_MS + MS_PER_DAY)
    # Its last segment is as old as its last write.
    written = (NOW_MS + 2 * MS_PER_DAY) / 1000
    os.utime(chain.paths[1], (written, written))
    assert journal.ranges(now_ms=NOW_MS + 4 * MS_PER_DAY) == [(0, 0)]


def test_plan_by_size_takes_the_oldest_of_all_chains(journal: Journal) -> None:
    first, second = journal.chain("a", 4), journal.chain("b", 4, first_day=1)
    size = first.paths[0].stat().st_size
    total = sum(path.stat().st_size for chain in (first, second) for path in chain.paths)
    planned = journal.plan(RetentionRule(max_bytes=total - 2 * size - 1))
    assert {(each.chain_id, each.first, each.last) for each in planned} == {
        (first.chain_id, 0, 1),
        (second.chain_id, 0, 0),
    }
    assert {each.ground for each in planned} == {DisposalGround.SIZE}
    assert journal.plan(RetentionRule(max_bytes=total)) == []
    # What may not go stays, however much there is.
    assert sorted(journal.ranges(RetentionRule(max_bytes=1))) == [(0, 2), (0, 2)]


def test_plan_names_size_where_age_alone_was_not_enough(journal: Journal) -> None:
    chain = journal.chain()
    size = chain.paths[0].stat().st_size
    (by_age,) = journal.plan(RetentionRule(days=2.5, max_bytes=3 * size))
    (by_size,) = journal.plan(RetentionRule(days=2.5, max_bytes=2 * size))
    assert (by_age.last, by_age.ground) == (1, DisposalGround.AGE)
    assert (by_size.last, by_size.ground) == (2, DisposalGround.SIZE)


def test_plan_stops_at_a_hole(journal: Journal) -> None:
    chain = journal.chain()
    chain.paths[1].unlink()
    (planned,) = journal.plan(now_ms=NOW_MS + 99 * MS_PER_DAY)
    # No disposal covers a segment that somebody else has taken away.
    assert (planned.first, planned.last, planned.chain_hash) == (0, 0, chain.hashes[0])
    chain.paths[0].unlink()
    assert journal.ranges(now_ms=NOW_MS + 99 * MS_PER_DAY) == [(2, 3)]


def test_plan_is_not_misled_by_a_clock_that_was_set_back(journal: Journal) -> None:
    chain = ChainFiles(journal.directory)
    for day in (0, 3, 1, 4):
        chain.add(day)
    journal.ship(chain, 3)
    journal.log(chain, 3)
    # The second segment ended, by the clock, before the first one did.
    assert journal.ranges() == []
    assert journal.ranges(now_ms=NOW_MS + 6 * MS_PER_DAY) == [(0, 1)]


def damage_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize("damage", [damage_header, truncate_header])
def test_plan_signs_nothing_about_a_damaged_segment_and_goes_on_with_other_chains(
    journal: Journal, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damaged, whole = journal.chain("a"), journal.chain("b")
    damage(damaged.paths[2])
    planned = journal.plan()
    assert [each.chain_id for each in planned] == [whole.chain_id]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
