import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from consentry.feed.v1 import feed_pb2

from feed.errors import LogStoreError
from feed.grpc_api import frames
from feed.grpc_api.frames import FrameCache
from feed.ports import FeedHead, StoredEntry
from feed.sequencer import Sequencer
from tests.fakes.feed_log import OpenLog, make_request, open_log


class CountingLog:
    """A log that counts how often it is read; it fails as often as it is told to."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self.reads = 0
        self.failures = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._sequencer, name)

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise LogStoreError("SQLite cannot read: SQLITE_IOERR")
        await asyncio.sleep(0)
        return await self._sequencer.read_entries(from_seq, limit)


async def fill(log: OpenLog, people: int) -> tuple[CountingLog, FrameCache]:
    await asyncio.gather(*(log.sequencer.submit(make_request(f"person-{n}")) for n in range(people)))
    counting = CountingLog(log.sequencer)
    return counting, FrameCache(counting)  # type: ignore[arg-type]


async def read_frames(cache: FrameCache, head: FeedHead, from_seq: int = 1) -> list[feed_pb2.Entries]:
    found = []
    while from_seq <= head.size:
        found.append((await cache.frame(from_seq, head)).entries)
        from_seq += len(found[-1].entries)
    return found


async def test_frames_lead_to_the_head_and_only_the_last_has_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_ENTRIES", 10)
    async with open_log(tmp_path) as log:
        _, cache = await fill(log, 17)
        head = log.sequencer.head
        found = await read_frames(cache, head)

        assert [(frame.from_seq, len(frame.entries)) for frame in found] == [(1, 10), (11, 10), (21, 10), (31, 5)]
        assert [frame.checkpoint for frame in found] == [b"", b"", b"", head.checkpoint_note]


async def test_frames_of_an_older_head_end_there_with_its_checkpoint(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        _, cache = await fill(log, 3)
        older = log.sequencer.head
        await log.sequencer.submit(make_request("later"))
        (frame,) = await read_frames(cache, older)

        assert (len(frame.entries), frame.checkpoint) == (older.size, older.checkpoint_note)


async def test_frames_are_cut_by_size_and_then_have_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1_000)
    async with open_log(tmp_path) as log:
        _, cache = await fill(log, 10)
        found = await read_frames(cache, log.sequencer.head)

        assert len(found) > 3
        assert max(frame.ByteSize() for frame in found[:-1]) <= 1_000
        assert [bool(frame.checkpoint) for frame in found] == [False] * (len(found) - 1) + [True]
        assert [entry.seq for entry in await log.sequencer.read_entries(1, 100)] == list(range(1, 22))


async def test_frames_one_entry_larger_than_the_limit_goes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1)
    async with open_log(tmp_path) as log:
        _, cache = await fill(log, 2)

        assert [len(frame.entries) for frame in await read_frames(cache, log.sequencer.head)] == [1] * 5


async def test_frames_are_made_once_for_all_who_ask(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        counting, cache = await fill(log, 3)
        head = log.sequencer.head
        found = await asyncio.gather(*(cache.frame(1, head) for _ in range(50)))
        await cache.frame(1, head)

        assert counting.reads == 1
        assert len({id(frame) for frame in found}) == 1


async def test_frames_of_catching_up_streams_meet_at_multiples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_ENTRIES", 10)
    async with open_log(tmp_path) as log:
        counting, cache = await fill(log, 20)
        for from_seq in range(1, 11):
            await read_frames(cache, log.sequencer.head, from_seq)

        # Ten ways to the first multiple, and then one way for all.
        assert counting.reads == 10 + 4


async def test_frames_that_failed_are_made_anew(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        counting, cache = await fill(log, 3)
        counting.failures = 1
        with pytest.raises(LogStoreError):
            await cache.frame(1, log.sequencer.head)

        assert len((await cache.frame(1, log.sequencer.head)).entries.entries) == 7


async def test_frames_asker_that_goes_away_leaves_the_others_theirs(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        _, cache = await fill(log, 3)
        gone, staying = (asyncio.create_task(cache.frame(1, log.sequencer.head)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()

        assert len((await staying).entries.entries) == 7


async def test_frames_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_MAX_KEPT_FRAMES", 2)
    async with open_log(tmp_path) as log:
        counting, cache = await fill(log, 3)
        for from_seq in (1, 2, 1, 3, 1, 2):
            await cache.frame(from_seq, log.sequencer.head)

        assert counting.reads == 4
