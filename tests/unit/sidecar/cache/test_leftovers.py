"""What a loss of power leaves of SQLite's files, found by `tests/faults/test_power_loss.py`: the start goes on from it."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.cache_place import CachePlace, assert_empty, assert_holds
from tests.fakes.log_builder import LogBuilder

PAGE_BYTES = 4096
# https://www.sqlite.org/fileformat2.html#the_rollback_journal: no records, and a file that had no page before.
HOT_JOURNAL = struct.pack(">8sIIIII", bytes.fromhex("d9d505f920a163d7"), 0, 1, 0, 512, PAGE_BYTES).ljust(512, b"\0")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


def journal_of(place: CachePlace) -> Path:
    return place.path.with_name(f"{place.path.name}-journal")


@pytest.mark.parametrize("torn", [b"", bytes(512), b"\xa5" * 512], ids=["whole", "zeros", "noise"])
async def test_open_after_a_crash_while_the_first_page_was_made_starts_empty(place: CachePlace, torn: bytes) -> None:
    cache = await place.open()
    first_page = torn + place.path.read_bytes()[len(torn) : PAGE_BYTES]
    await cache.close()
    place.mark_path.unlink()
    place.restore({place.path.name: first_page, journal_of(place).name: HOT_JOURNAL})

    log = LogBuilder()
    cache = await place.open()
    assert_empty(cache)
    await cache.apply(log.batch(log.directive("ada")))
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    assert place.set_aside() == []


async def test_open_with_a_rollback_journal_beside_a_cache_sets_both_aside(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(50))))
    await cache.close()
    journal_of(place).write_bytes(HOT_JOURNAL)

    cache = await place.open()
    assert_empty(cache)
    (aside,) = place.set_aside()
    assert sorted(path.name for path in place.directory.glob("*-journal")) == [f"{aside}-journal"]


@pytest.mark.parametrize("torn", [bytes(512), b"\xa5" * 512], ids=["zeros", "noise"])
async def test_open_after_the_first_page_was_torn_while_the_log_was_merged_holds_everything(
    place: CachePlace, torn: bytes
) -> None:
    log = LogBuilder()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("ada"), log.link("ada", "bob")))
    files = place.files()
    await cache.close()
    place.restore(files | {place.path.name: torn + files[place.path.name][len(torn) :]})

    cache = await place.open()
    assert_holds(cache, log)
    await cache.apply(log.batch(log.directive("cyd")))
    cache = await place.reopen(cache)
    assert_holds(cache, log)
    assert place.set_aside() == []
