"""The high-water mark."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.cache.high_water import HighWaterFile, Mark
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.mark_keeping import MARK_INTERVAL_MS, MarkKeeper
from tests.fakes.cache_place import IDENTITY, CachePlace, make_keys
from tests.fakes.log_builder import LogBuilder


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


def test_mark_that_was_written_is_read_by_the_next_start(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    writer = HighWaterFile(tmp_path / "mark", keys, IDENTITY)
    for mark in (Mark(2, 3, 40), Mark(2, 4, 41)):
        writer.write(mark)
        assert HighWaterFile(tmp_path / "mark", keys, IDENTITY).read() == mark


def test_marks_later_one_is_greater() -> None:
    assert Mark(1, 9, 99) < Mark(2, 1, 0) < Mark(2, 1, 1) < Mark(2, 2, 1)


def test_mark_missing_is_none_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert HighWaterFile(tmp_path / "mark", make_keys(tmp_path), IDENTITY).read() is None
    assert caplog.records == []


def test_mark_any_changed_byte_or_length_is_none_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys, path = make_keys(tmp_path), tmp_path / "mark"
    HighWaterFile(path, keys, IDENTITY).write(Mark(1, 1, 1))
    content = path.read_bytes()
    for at in range(len(content)):
        for changed in (content[:at] + bytes((content[at] ^ 4,)) + content[at + 1 :], content[:at]):
            caplog.clear()
            path.write_bytes(changed)
            assert HighWaterFile(path, keys, IDENTITY).read() is None
            assert "not authentic" in caplog.text


def test_mark_of_another_cache_or_key_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    HighWaterFile(path, make_keys(tmp_path), IDENTITY).write(Mark(1, 1, 1))
    stranger = CacheIdentity("sidecar-2", IDENTITY.tenant, IDENTITY.origin)
    assert HighWaterFile(path, make_keys(tmp_path), stranger).read() is None
    assert HighWaterFile(path, make_keys(tmp_path, "other"), IDENTITY).read() is None


def test_mark_that_cannot_be_read_is_none_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mark").mkdir()
    assert HighWaterFile(tmp_path / "mark", make_keys(tmp_path), IDENTITY).read() is None
    assert "cannot be read" in caplog.text


async def test_keeper_writes_once_an_interval_and_at_once_when_told(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await place.open()
    reader = HighWaterFile(place.mark_path, place.keys, place.identity)
    assert reader.read() == Mark(1, 1, 0)
    await cache.apply(log.batch(log.directive("ada")))
    assert reader.read() == Mark(1, 1, 0)
    place.clock.advance(MARK_INTERVAL_MS)
    await cache.apply(log.batch(log.directive("bob")))
    assert reader.read() == Mark(1, 1, 2)
    await cache.apply(log.batch(log.directive("cyd")))
    await cache.close()
    assert reader.read() == Mark(1, 1, 3)


async def test_keeper_does_not_write_again_what_it_has_kept(place: CachePlace) -> None:
    cache = await place.open()
    content = place.mark_path.read_bytes()
    await cache._marks.keep(cache._durable.manifest, at_once=True)
    assert place.mark_path.read_bytes() == content
    await cache.close()


async def test_keeper_that_cannot_write_warns_and_stays_due(
    place: CachePlace, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await place.open()
    manifest = cache._durable.manifest
    keeper = MarkKeeper(HighWaterFile(place.root / "gone" / "mark", place.keys, IDENTITY), place.clock)
    await keeper.keep(manifest, at_once=True)
    await keeper.keep(manifest, at_once=True)
    assert caplog.text.count("cannot be written") == 1
    assert "cannot be written" in caplog.text
    assert keeper.due_in_ms(manifest) == [MARK_INTERVAL_MS]
    await cache.close()


async def test_keeper_without_a_file_never_has_anything_to_do(place: CachePlace) -> None:
    cache = await place.open()
    keeper = MarkKeeper(None, place.clock)
    await keeper.keep(cache._durable.manifest, at_once=True)
    assert keeper.due_in_ms(cache._durable.manifest) == []
    await cache.close()
