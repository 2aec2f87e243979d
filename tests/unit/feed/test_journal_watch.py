"""Sidecars that log no heads: one alert when it begins, one when it is over, over restarts of the feed too."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consent.event import AlertEvent, parse_event
from feed.errors import LogWriteFailed
from feed.journal_watch import JournalWatch
from tests.fakes.feed_log import read_all
from tests.fakes.fleet import Fleet, open_fleet

SILENT_SECONDS = 300


@asynccontextmanager
async def watching(
    directory: Path, connected: Collection[str] = ("pod-1", "pod-2")
) -> AsyncIterator[tuple[Fleet, JournalWatch]]:
    async with open_fleet(directory) as fleet:
        watch = JournalWatch(
            fleet.desk, fleet.log.store, fleet.alerts, lambda: connected, fleet.log.clock, SILENT_SECONDS
        )
        await watch.load()
        yield fleet, watch


async def pass_seconds(fleet: Fleet, watch: JournalWatch, seconds: int) -> None:
    fleet.log.clock.advance(1000 * seconds)
    await watch.look()


async def alerts(fleet: Fleet) -> list[tuple[str, str, bool]]:
    events = [parse_event(entry.event_bytes) for entry in await read_all(fleet.log.store)]
    return [(event.alert, event.about, event.is_over) for event in events if isinstance(event, AlertEvent)]


BEGAN = ("JOURNAL_SILENT", "pod-1", False)
OVER = ("JOURNAL_SILENT", "pod-1", True)


async def test_silent_sidecar_raises_one_alert_and_heads_end_it(tmp_path: Path) -> None:
    async with watching(tmp_path, ["pod-1"]) as (fleet, watch):
        await fleet.enrol("pod-1")
        await watch.look()
        await pass_seconds(fleet, watch, SILENT_SECONDS)
        assert (await alerts(fleet), watch.is_silent("pod-1"), watch.head_age_ms("pod-1")) == ([], False, None)
        for _ in range(3):
            await pass_seconds(fleet, watch, 1)
        assert (await alerts(fleet), watch.is_silent("pod-1")) == ([BEGAN], True)
        watch.note_head("pod-1")
        await pass_seconds(fleet, watch, 2)
        assert (watch.is_silent("pod-1"), watch.head_age_ms("pod-1")) == (False, 2000)
        await pass_seconds(fleet, watch, SILENT_SECONDS)
        assert await alerts(fleet) == [BEGAN, OVER, BEGAN]


async def test_sidecar_that_logs_heads_is_never_silent(tmp_path: Path) -> None:
    async with watching(tmp_path, ["pod-1"]) as (fleet, watch):
        await fleet.enrol("pod-1")
        for _ in range(5):
            watch.note_head("pod-1")
            await pass_seconds(fleet, watch, SILENT_SECONDS)
        assert await alerts(fleet) == []


async def test_only_enrolled_sidecars_that_have_connected_once_are_expected(tmp_path: Path) -> None:
    connected: list[str] = ["stranger"]
    async with watching(tmp_path, connected) as (fleet, watch):
        await fleet.enrol("pod-1")
        await watch.look()
        await pass_seconds(fleet, watch, 10 * SILENT_SECONDS)
        assert await alerts(fleet) == []
        connected.append("pod-1")
        await watch.look()
        await pass_seconds(fleet, watch, SILENT_SECONDS)
        assert await alerts(fleet) == []
        await pass_seconds(fleet, watch, 1)
        assert await alerts(fleet) == [BEGAN]


async def test_retired_sidecar_is_silent_no_more(tmp_path: Path) -> None:
    async with watching(tmp_path) as (fleet, watch):
        await fleet.enrol("pod-1")
        await watch.look()
        await pass_seconds(fleet, watch, SILENT_SECONDS + 1)
        await fleet.desk.retire("pod-1", "administrator")
        await watch.look()
        assert (await alerts(fleet), watch.is_silent("pod-1")) == ([BEGAN, OVER], False)
        await pass_seconds(fleet, watch, SILENT_SECONDS + 1)
        assert await alerts(fleet) == [BEGAN, OVER]


async def test_time_counts_from_the_feeds_start_and_an_open_alert_outlives_it(tmp_path: Path) -> None:
    async with watching(tmp_path) as (fleet, watch):
        for name in ("pod-1", "pod-2"):
            await fleet.enrol(name)
        await watch.look()
        watch.note_head("pod-2")
        await pass_seconds(fleet, watch, SILENT_SECONDS + 1)
        watch.note_head("pod-2")
        await watch.look()
        before = await alerts(fleet)
    assert BEGAN in before
    # A sidecar that has not connected since the restart is not forgotten, and its alert does not end by itself.
    async with watching(tmp_path, ["pod-2"]) as (fleet, watch):
        await watch.look()
        await pass_seconds(fleet, watch, SILENT_SECONDS)
        assert (await alerts(fleet), watch.is_silent("pod-1")) == (before, True)
        await pass_seconds(fleet, watch, 1)
        assert await alerts(fleet) == [*before, ("JOURNAL_SILENT", "pod-2", False)]
        watch.note_head("pod-1")
        await watch.look()
        assert (await alerts(fleet))[-1] == OVER


async def test_wall_clock_that_is_set_raises_no_alert(tmp_path: Path) -> None:
    async with watching(tmp_path, ["pod-1"]) as (fleet, watch):
        await fleet.enrol("pod-1")
        await watch.look()
        fleet.log.clock.set_wall(fleet.log.clock.now_ms() + 10**9)
        await watch.look()
        assert await alerts(fleet) == []


async def test_alert_that_cannot_be_logged_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(tmp_path, ["pod-1"]) as (fleet, watch):
        await fleet.enrol("pod-1")
        await watch.look()

        async def fail(_: object) -> None:
            raise LogWriteFailed("full")

        with monkeypatch.context() as patched:
            patched.setattr(fleet.log.store, "commit", fail)
            await pass_seconds(fleet, watch, SILENT_SECONDS + 1)
        assert (await alerts(fleet), watch.is_silent("pod-1")) == ([], False)
        await watch.look()
        assert await alerts(fleet) == [BEGAN]
