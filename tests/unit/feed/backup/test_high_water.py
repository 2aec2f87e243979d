import asyncio
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from consent.eventlog.merkle import Frontier
from feed.backup.mark_keeping import MarkKeeper
from feed.errors import HighWaterUnreadable
from feed.log_store.high_water import Mark, MarkFile
from feed.ports import FeedHead
from tests.fakes.feed_log import IDENTITY, KEYS, seed

MARK = Mark(7, seed("root"))


def make_file(path: Path, kek: bytes = KEYS.kek, use: str = "high-water") -> MarkFile:
    return MarkFile(path / "marks" / "mark", kek, IDENTITY.key_context, use)


def test_mark_is_read_as_it_was_written_by_its_owner_alone(tmp_path: Path) -> None:
    file = make_file(tmp_path)
    assert file.read() is None
    file.write(Mark(1, bytes(32)))
    file.write(MARK)
    assert make_file(tmp_path).read() == MARK
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]
    file.remove()
    assert file.read() is None


def test_mark_every_flipped_byte_is_found(tmp_path: Path) -> None:
    file = make_file(tmp_path)
    file.write(MARK)
    content = file.path.read_bytes()
    for damaged in (*(bytes((*content[:n], content[n] ^ 1, *content[n + 1 :])) for n in range(len(content))), b""):
        file.path.write_bytes(damaged)
        with pytest.raises(HighWaterUnreadable):
            file.read()


def test_mark_of_another_log_key_or_use_is_refused(tmp_path: Path) -> None:
    make_file(tmp_path).write(MARK)
    other = replace(IDENTITY, origin="log.example.com/other")
    for file in (
        make_file(tmp_path, seed("other kek")),
        make_file(tmp_path, use="reported-loss"),
        MarkFile(tmp_path / "marks" / "mark", KEYS.kek, other.key_context),
    ):
        with pytest.raises(HighWaterUnreadable, match="not the mark of this log"):
            file.read()


def test_mark_that_cannot_be_read_or_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "marks" / "mark").mkdir(parents=True)
    with pytest.raises(HighWaterUnreadable, match="cannot be read"):
        make_file(tmp_path).read()
    with pytest.raises(HighWaterUnreadable, match="cannot be written"):
        make_file(tmp_path).write(MARK)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HighWaterUnreadable, match="cannot be created"):
        make_file(tmp_path / "file").write(MARK)


class GrowingLog:
    """A head that grows, and a bell for every mark that is written."""

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.written = asyncio.Event()

    def head(self) -> FeedHead:
        return FeedHead(self.frontier.copy())

    def grow(self) -> Mark:
        self.frontier.append(os.urandom(32))
        return Mark(self.frontier.size, self.frontier.root_hash())


async def test_mark_keeper_follows_the_log_and_ends_with_its_last_entry(tmp_path: Path) -> None:
    log, file = GrowingLog(), make_file(tmp_path)
    keeper = MarkKeeper(file, log.head, interval_seconds=0).start()
    mark = log.grow()
    keeper.notice()
    while file.read() != mark:
        await asyncio.sleep(0)

    last = [log.grow() for _ in range(5)][-1]
    await keeper.close()
    assert file.read() == last


async def test_mark_keeper_that_waits_for_its_interval_still_writes_the_last_mark(tmp_path: Path) -> None:
    log, file = GrowingLog(), make_file(tmp_path)
    keeper = MarkKeeper(file, log.head, interval_seconds=3600).start()
    first = log.grow()
    keeper.notice()
    while file.read() != first:
        await asyncio.sleep(0)
    last = log.grow()
    keeper.notice()
    await asyncio.sleep(0)
    assert file.read() == first
    await keeper.close()
    assert file.read() == last


async def test_mark_keeper_that_cannot_write_says_so_once_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, file = GrowingLog(), make_file(tmp_path)
    file.write(Mark(0, bytes(32)))
    (tmp_path / "marks").rename(tmp_path / "elsewhere")
    (tmp_path / "marks").write_bytes(b"in the way")
    keeper = MarkKeeper(file, log.head, interval_seconds=0).start()
    log.grow()
    keeper.notice()
    while not caplog.records:
        await asyncio.sleep(0)
    (tmp_path / "marks").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "marks")
    while file.read() != Mark(1, log.frontier.root_hash()):
        await asyncio.sleep(0)
    await keeper.close()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
