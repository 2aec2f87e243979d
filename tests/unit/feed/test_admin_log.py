"""Uses and refusals on their way into the log: each use by itself, refusals counted and bounded, and nothing lost while the log is down."""

from pathlib import Path

import pytest

from consent.event import AdminEvent, parse_event
from feed.admin_log import MAX_KINDS, OTHERS, AdminLog, Use
from feed.errors import LogBehindSidecar
from tests.fakes.feed_log import ORIGIN, OpenLog, open_log, verify_everything

USE = Use("a.Service/Publish", "administrator", "administrator")
REFUSED = Use("a.Service/Read", "source", "spiffe://partner.example/signup", "CALLER_NOT_PERMITTED")
HOUR = 3600.0


async def logged(log: OpenLog) -> list[AdminEvent]:
    entries = await log.sequencer.read_entries(1, log.sequencer.head.size)
    events = [parse_event(entry.event_bytes) for entry in entries]
    return [event for event in events if isinstance(event, AdminEvent)]


async def test_admin_log_a_use_is_logged_at_once_with_what_is_told(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, HOUR)
        await admin_log.record(USE._replace(detail="request DSAR-118"))
        await admin_log.record(USE)
        first, second = await logged(log)
        assert (first.action, first.role, first.actor, first.outcome, first.count, first.detail) == (
            "a.Service/Publish",
            "administrator",
            "administrator",
            "OK",
            1,
            "request DSAR-118",
        )
        assert (second.detail, second.occurred_at_ms, second.source) == ("", log.clock.now_ms(), "feed")
        await verify_everything(log.store)


async def test_admin_log_refusals_that_are_alike_are_one_entry_with_a_count(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, HOUR)
        began_ms = log.clock.now_ms()
        for _ in range(1_000):
            admin_log.gather(REFUSED)
        admin_log.gather(REFUSED._replace(actor="spiffe://partner.example/other"))
        assert await logged(log) == []
        await admin_log.flush()
        events = await logged(log)
        assert [(event.actor, event.count) for event in events] == [
            (REFUSED.actor, 1_000),
            ("spiffe://partner.example/other", 1),
        ]
        assert events[0].occurred_at_ms == began_ms
        await admin_log.flush()
        assert len(await logged(log)) == 2
        await admin_log.close()


async def test_admin_log_a_flood_of_different_callers_adds_a_bounded_number_of_entries(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, HOUR)
        for number in range(5_000):
            admin_log.gather(REFUSED._replace(actor=f"spiffe://partner.example/{number}"))
        await admin_log.close()
        events = await logged(log)
        assert len(events) == MAX_KINDS + 1
        assert sum(event.count for event in events) == 5_000
        assert (events[-1].action, events[-1].actor, events[-1].role) == (OTHERS, OTHERS, "source")


async def test_admin_log_close_logs_what_waits(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, HOUR)
        admin_log.gather(REFUSED)
        await admin_log.close()
        assert [event.count for event in await logged(log)] == [1]


async def test_admin_log_without_a_flush_logs_when_the_period_is_over(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, 0.001)
        admin_log.gather(REFUSED)
        while admin_log._flushing is not None:
            await admin_log._flushing
        assert [event.count for event in await logged(log)] == [1]


async def test_admin_log_counts_on_while_the_log_takes_nothing(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        admin_log = AdminLog(log.sequencer, log.clock, ORIGIN, HOUR)
        log.sequencer.stop_intake("somebody holds more")
        admin_log.gather(REFUSED)
        await admin_log.flush()
        admin_log.gather(REFUSED)
        await admin_log.record_or_gather(USE)
        with pytest.raises(LogBehindSidecar):
            await admin_log.record(USE)
        assert await logged(log) == []
        log.sequencer.resume_intake()
        await admin_log.flush()
        assert [(event.action, event.count) for event in await logged(log)] == [(REFUSED.action, 2), (USE.action, 1)]
        await admin_log.close()
