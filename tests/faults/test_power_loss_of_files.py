"""The power goes while a file is written that is not SQLite's: journal, high-water mark, shipped position, key file."""

import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest

from hosting.errors import KeyFileError, KeyFileMissing
from hosting.key_files import create_key_file, read_key_file
from journal.errors import CorruptSegment, JournalError, TornTail
from journal.format import JournalMode
from journal.reader import read_segment
from sidecar.cache.high_water import HighWaterFile, Mark
from sidecar.errors import JournalUnavailable
from sidecar.journal.position import MalformedPosition, Position, load_positions, save_positions
from sidecar.journal.writer import FileJournal
from tests.fakes.cache_place import IDENTITY
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths
from tests.fakes.power_loss_files import PowerLossFiles

KEYS = SealingKeys()
SEGMENT_MAX_BYTES = 2_000
LOSSES_PER_FOLDER = 10
FEW, MANY = 20, 400
CHAIN_ID = bytes(16)

losses_each = pytest.mark.parametrize("losses", [FEW, pytest.param(MANY, marks=pytest.mark.long(seconds=45))])


@losses_each
@pytest.mark.parametrize("mode", [JournalMode.SYNC, JournalMode.GROUP])
async def test_power_loss_of_a_journal_holds_every_record_that_was_on_the_disk(
    tmp_path: Path, mode: JournalMode, losses: int
) -> None:
    faults = await lose_power_under_a_journal(tmp_path, mode, losses)
    print(f"{losses} losses; segments that end in a fault, counted after each: {dict(faults)}")
    # Sectors that hold noise, or a frame's end and not its beginning, cannot be told from tampering. They lie behind what was confirmed.
    assert faults[TornTail.__name__] > 0
    assert set(faults) <= {TornTail.__name__, CorruptSegment.__name__}


async def test_power_loss_of_a_journal_that_is_not_synced_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="confirmed and lost"):
        await lose_power_under_a_journal(tmp_path, JournalMode.SYNC, MANY, is_lying=True)


async def lose_power_under_a_journal(
    root: Path, mode: JournalMode, losses: int, *, is_lying: bool = False
) -> Counter[str]:
    """Let the power go so often while records are kept; returns what ended the reading of segments."""
    faults: Counter[str] = Counter()
    for folder in range(losses // LOSSES_PER_FOLDER):
        directory = root / f"{folder}"
        directory.mkdir(mode=0o700)
        chance = random.Random(f"{mode}/{folder}")
        disk = PowerLossFiles(directory, chance, is_lying=is_lying)
        confirmed: set[int] = set()
        for life in range(LOSSES_PER_FOLDER):
            disk.cut_after(chance.randrange(60))
            with disk.powered(), contextlib.suppress(JournalUnavailable):
                await keep_records_until_power_goes(directory, mode, confirmed, first=life * 1_000)
            assert disk.is_cut
            disk.restore()
            found = read_all(directory, faults)
            lost = [number for number in sorted(confirmed) if make_record(number) not in found]
            assert lost == [], "confirmed and lost"
    return faults


async def keep_records_until_power_goes(directory: Path, mode: JournalMode, confirmed: set[int], first: int) -> None:
    journal = FileJournal.open(directory, KEYS, "pod-1", mode, FakeClock(), segment_max_bytes=SEGMENT_MAX_BYTES)
    try:
        for number in range(first, first + 1_000):
            await journal.append(make_record(number), 1)
            if mode is JournalMode.GROUP and number % 3:
                continue
            journal.flush()
            if journal.is_writable:
                confirmed.update(range(max(first, number - 2), number + 1))
    finally:
        journal.close()


def read_all(directory: Path, faults: Counter[str]) -> set[bytes]:
    found: set[bytes] = set()
    for path in segment_paths(directory):
        try:
            for each in read_segment(path, KEYS):
                found.add(each.record)
        except JournalError as fault:
            faults[type(fault).__name__] += 1
    return found


class MarkFile:
    """The high-water mark, opened anew as by a new process."""

    def __init__(self, path: Path) -> None:
        self._file = HighWaterFile(path, KEYS, IDENTITY)

    def write(self, number: int) -> None:
        self._file.write(Mark(1, 1, number))

    def read(self) -> int:
        mark = self._file.read()
        return mark.size if mark else 0


class PositionFile:
    """What the shipper has shipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, number: int) -> None:
        save_positions(self._path, {CHAIN_ID: Position(0, 0, 0, b"", number)})

    def read(self) -> int:
        positions = load_positions(self._path)
        return positions[CHAIN_ID].decisions if positions else 0


of_each = pytest.mark.parametrize("kind", [MarkFile, PositionFile])


@losses_each
@of_each
def test_power_loss_of_a_number_that_was_kept_never_sets_it_back(
    tmp_path: Path, kind: type[MarkFile] | type[PositionFile], losses: int
) -> None:
    lose_power_under_a_number(tmp_path, kind, losses)


@of_each
def test_power_loss_of_a_number_that_is_not_synced_is_found(
    tmp_path: Path, kind: type[MarkFile] | type[PositionFile]
) -> None:
    with pytest.raises((AssertionError, MalformedPosition)):
        lose_power_under_a_number(tmp_path, kind, MANY, is_lying=True)


def lose_power_under_a_number(
    root: Path, kind: type[MarkFile] | type[PositionFile], losses: int, *, is_lying: bool = False
) -> None:
    """Let the power go so often while a number grows; what is kept must be the last one, or the one that was being written."""
    chance = random.Random(kind.__name__)
    disk, path = PowerLossFiles(root, chance, is_lying=is_lying), root / "kept"
    kept = tried = 0
    for _ in range(losses):
        disk.cut_after(chance.randrange(20))
        with disk.powered(), contextlib.suppress(OSError):
            file = kind(path)
            while True:
                tried += 1
                file.write(tried)
                kept = tried
        disk.restore()
        found = kind(path).read()
        assert kept <= found <= tried
        kept = tried = found


@losses_each
def test_power_loss_of_a_key_file_leaves_the_whole_key_or_one_that_is_refused(tmp_path: Path, losses: int) -> None:
    chance = random.Random(4)
    outcomes: Counter[str] = Counter()
    for number in range(losses):
        directory = tmp_path / f"{number}"
        directory.mkdir()
        disk, path, key = PowerLossFiles(directory, chance), directory / "kek.key", chance.randbytes(32)
        is_made = False
        disk.cut_after(chance.randrange(5))
        with disk.powered(), contextlib.suppress(KeyFileError):
            create_key_file(path, key, use="cache-kek")
            is_made = True
        disk.restore()
        try:
            assert read_key_file(path, use="cache-kek") == key
            outcomes["whole"] += 1
        except KeyFileMissing:
            outcomes["missing"] += 1
            assert not is_made
        except KeyFileError:
            outcomes["refused"] += 1
            assert not is_made
    assert set(outcomes) == {"whole", "missing", "refused"}
