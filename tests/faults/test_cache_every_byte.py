"""Every byte and every row of a cache: changed, swapped, cut or taken away, it gives the same answers or is detected."""

import itertools
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.cache.cache_file import CACHE_FILE_NAME
from tests.fakes.cache_place import CachePlace
from tests.fakes.cache_tampering import fill, read_or_detect
from tests.fakes.log_builder import LogBuilder

PAGE_BYTES = 4096
HEADER_BYTES = 100
FLIPS = 260
ROWS = (("meta", "value"), ("segment", "blob"), ("delta", "blob"))

Row = tuple[str, str, int, bytes]
"""Table, column, rowid, value."""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


@pytest.fixture
async def log(place: CachePlace) -> LogBuilder:
    """A filled cache is in the place, everything in its file; this is what it holds."""
    made = LogBuilder()
    await (await fill(place, made)).close()
    return made


def rows_of(place: CachePlace) -> list[Row]:
    with closing(sqlite3.connect(place.path)) as connection:
        return [
            (table, column, rowid, value)
            for table, column in ROWS
            for rowid, value in connection.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid")
        ]


def flip_each(place: CachePlace, log: LogBuilder, positions: Iterable[int]) -> Counter[str]:
    content, path = bytearray(place.path.read_bytes()), place.root / "flipped.db"
    outcomes = Counter[str]()
    for at in positions:
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        content[at] ^= 1 << at % 8
        outcomes[read_or_detect(path, place, log)] += 1
    return outcomes


def test_flipped_bytes_of_every_page_and_every_row_give_the_same_answers_or_are_detected(
    place: CachePlace, log: LogBuilder
) -> None:
    content = place.path.read_bytes()
    pages = range(0, len(content), PAGE_BYTES)
    positions = {*range(HEADER_BYTES), *range(HEADER_BYTES, len(content), len(content) // FLIPS + 1)}
    # The first bytes of each page say how to read it.
    positions |= {page + at for page in pages for at in (0, 3, 5, 8, 11)}
    for _, _, _, value in rows_of(place):
        start = content.find(value[:24])
        assert start >= 0
        positions |= {start - 1, start, start + 20, start + min(len(value), 900) - 1}
    outcomes = flip_each(place, log, sorted(positions))
    assert outcomes["CORRUPT_CACHE"] > FLIPS // 4
    # The wrapped key is there twice, so that no single byte makes the right key look wrong; and nothing blames the disk.
    assert outcomes.keys() == {"CORRUPT_CACHE", "SAME_ANSWERS"}


@pytest.mark.long(seconds=120)
def test_each_single_flipped_byte_gives_the_same_answers_or_is_detected(place: CachePlace, log: LogBuilder) -> None:
    outcomes = flip_each(place, log, range(place.path.stat().st_size))
    assert outcomes.keys() == {"CORRUPT_CACHE", "SAME_ANSWERS"}


@pytest.mark.long(seconds=250)
async def test_each_single_flipped_byte_of_the_log_of_writes_is_harmless_or_detected(place: CachePlace) -> None:
    log, history = LogBuilder(), dict[int, LogBuilder]()
    cache = await fill(place, log)
    await cache._durable._writer.truncate_log()
    for name in ("bob", "cyd"):
        place.clock.advance(1000)
        older = LogBuilder()
        older.append(*(logged.event for logged in log.logged))
        history[log.size] = older
        await cache.apply(log.batch(log.directive(name)))
    history[log.size] = log
    files = place.files()
    wal, path = bytearray(files[f"{CACHE_FILE_NAME}-wal"]), place.root / "flipped.db"
    path.write_bytes(files[CACHE_FILE_NAME])
    outcomes = Counter[str]()
    for at in range(len(wal)):
        wal[at] ^= 1 << at % 8
        Path(f"{path}-wal").write_bytes(wal)
        Path(f"{path}-shm").unlink(missing_ok=True)
        wal[at] ^= 1 << at % 8
        outcomes[read_or_detect(path, place, log, history)] += 1
    # A frame that does not verify ends the log of writes for SQLite; the high-water mark knows that there was more.
    assert outcomes.keys() == {"OLDER_BY_ITS_MARK"}


def test_schema_with_a_byte_that_is_no_text_is_detected(place: CachePlace, log: LogBuilder) -> None:
    """SQLite quotes what it cannot read in its message, and Python then cannot read the message."""
    content = place.path.read_bytes()
    outcomes = Counter[str]()
    for word in (b"CREATE TABLE meta (name TEXT PRIMARY KEY", b"sqlite_autoindex_meta_1"):
        start = content.index(word)
        for at in range(start, start + len(word)):
            place.path.write_bytes(content[:at] + bytes((content[at] ^ 0x80,)) + content[at + 1 :])
            outcomes[read_or_detect(place.path, place, log)] += 1
    assert outcomes.keys() == {"CORRUPT_CACHE"}


def change_rows(place: CachePlace, changes: Iterable[tuple[Row, bytes | None]]) -> None:
    """Give rows other values; None takes the row away."""
    with closing(sqlite3.connect(place.path, isolation_level=None)) as connection:
        for (table, column, rowid, _), value in changes:
            if value is None:
                connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
            else:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rowid))


def test_any_two_rows_that_were_swapped_are_detected(place: CachePlace, log: LogBuilder) -> None:
    pristine, rows = place.path.read_bytes(), rows_of(place)
    outcomes = Counter[str]()
    for left, right in itertools.combinations(rows, 2):
        if left[3] == right[3]:
            # The two copies of the wrapped key.
            continue
        place.path.write_bytes(pristine)
        change_rows(place, [(left, right[3]), (right, left[3])])
        outcomes[read_or_detect(place.path, place, log)] += 1
    assert outcomes.keys() == {"CORRUPT_CACHE"}
    assert outcomes.total() == len(rows) * (len(rows) - 1) // 2 - 1


def test_any_row_that_was_taken_away_cut_lengthened_or_emptied_is_detected(place: CachePlace, log: LogBuilder) -> None:
    pristine, rows = place.path.read_bytes(), rows_of(place)
    outcomes = Counter[str]()
    wrapped_key = rows[0][3]
    for row in rows:
        value = row[3]
        for changed in (None, b"", value[:-1], value[: len(value) // 2], value + b"\0", bytes(len(value))):
            place.path.write_bytes(pristine)
            change_rows(place, [(row, changed)])
            outcome = read_or_detect(place.path, place, log)
            # One copy of the wrapped key is enough.
            assert outcome == ("SAME_ANSWERS" if value == wrapped_key else "CORRUPT_CACHE")
            outcomes[outcome] += 1
    assert outcomes["SAME_ANSWERS"] == 2 * 6
