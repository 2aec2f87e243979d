"""Heads between a sidecar's own parts and a real feed over gRPC: logged after any outage, once, and only while the sidecar is enrolled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc

from consent.event import AlertEvent, DisposalEvent, JournalHeadsEvent, parse_event
from consent.eventlog.journal_head import JournalDisposal, JournalHead, parse_disposal, sign_disposal, verify_disposal
from feed.runtime import RunningFeed, running_feed
from journal.directory import list_segments
from journal.format import FrameKind
from journal.reader import read_frames
from sidecar.errors import FeedUnavailable, SidecarError
from sidecar.journal.disposal import Disposer
from sidecar.journal.retention import RetentionPlanner, RetentionRule
from sidecar.ports import LoggedPlace
from sidecar.runtime import load_keys
from sidecar.sync.backoff import Backoff
from sidecar.sync.feed_client import GrpcFeed
from sidecar.sync.journal_heads import JournalHeadSender
from tests.fakes.clock import FakeClock
from tests.fakes.installation import ORIGIN, TestInstallation
from tests.fakes.journal_files import KEYS, MS_PER_DAY, ChainFiles
from tests.fakes.journal_heads import MemoryHeads, make_heads
from tests.fakes.journal_material import NOW_MS
from tests.fakes.system import SYNC_SECONDS, System, ask, running_system

NAME = "sidecar-1"
POLL_SECONDS = 0.01


def log_settings(directory: Path, **changes: float) -> dict[str, object]:
    return {
        "directory": directory / "log",
        "keys_directory": directory / "keys",
        "receipts_seconds": 0.1,
        "journal_heads_seconds": 0.05,
        **changes,
    }


@asynccontextmanager
async def sending(system: System, source: MemoryHeads, feed: "LosingFeed | None" = None) -> AsyncIterator[None]:
    """Runs the sender beside the sidecar, as its runtime does."""
    client = GrpcFeed(system.installation.socket("sync"), None, NAME)
    enrolment = system.sidecar.follower.enrolment
    sender = JournalHeadSender(feed or client, source, enrolment, ORIGIN, Backoff(0.01, 0.05), POLL_SECONDS)
    task = asyncio.create_task(sender.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.close()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(SYNC_SECONDS):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


def own_heads(system: System, count: int, after: JournalHead | None = None, salt: int = 0) -> list[JournalHead]:
    return make_heads(system.sidecar.follower.enrolment.key, ORIGIN, count, after=after, salt=salt)


async def logged_numbers(feed: RunningFeed) -> list[int]:
    """Of the test's own heads; the sidecar may have logged others about its real journal."""
    chain_id = b"a".ljust(16, b".")
    events = [parse_event(entry.event_bytes) for entry in await feed.log.read_entries(1, 1000)]
    return [
        head.number
        for event in events
        if isinstance(event, JournalHeadsEvent)
        for head in event.heads
        if head.chain_id == chain_id
    ]


async def alerts(feed: RunningFeed) -> list[tuple[str, bool]]:
    events = [parse_event(entry.event_bytes) for entry in await feed.log.read_entries(1, 1000)]
    return [(event.alert, event.is_over) for event in events if isinstance(event, AlertEvent)]


async def member(installation: TestInstallation) -> audit_pb2.FleetMember:
    async with grpc.aio.insecure_channel(installation.socket("feed-admin")) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        (found,) = (await stub.GetFleetStatus(audit_pb2.GetFleetStatusRequest())).sidecars
    return found


async def test_heads_are_logged_and_show_in_the_fleets_status(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory)}
    async with running_system(short_directory, feed_changes=changes) as system:
        source = MemoryHeads(own_heads(system, 5))
        async with sending(system, source):
            await eventually(lambda: not source.heads)
            assert await logged_numbers(system.feed) == [0, 1, 2, 3, 4]
            status = await member(system.installation)
            assert (status.HasField("journal_head_age_ms"), status.journal_silent) == (True, False)
            await system.catch_up()


async def test_feed_that_is_away_or_dies_midway_costs_no_head_and_doubles_none(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory)}
    async with (
        AsyncExitStack() as first_feed,
        running_system(short_directory, feed_changes=changes, feed_lifetime=first_feed) as system,
    ):
        await eventually(lambda: system.sidecar.report().is_enrolled)
        heads = own_heads(system, 12)
        source, feed = MemoryHeads(heads[:4]), GrpcFeed(system.installation.socket("sync"), None, NAME)
        losing = LosingFeed(feed)
        await first_feed.aclose()
        async with sending(system, source, losing):
            await eventually(lambda: losing.failures > 0)
            for count in (4, 8, 12):
                source.add(*heads[max(4, count - 4) : count])
                async with running_feed(system.installation.feed_settings(**changes)) as restarted:
                    losing.answers_to_lose = 1
                    await eventually(lambda: not source.heads)
                    assert await logged_numbers(restarted) == list(range(count))
        await feed.close()


class LosingFeed:
    """The real client, of which some answers are lost on the way: the entry is logged, and the sidecar does not know."""

    def __init__(self, feed: GrpcFeed) -> None:
        self._feed = feed
        self.answers_to_lose = 0
        self.failures = 0

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        try:
            seq = await self._feed.record_journal_heads(heads, disposals)
        except FeedUnavailable:
            self.failures += 1
            raise
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise FeedUnavailable("the answer was lost")
        return seq


async def test_forked_journal_raises_an_alert_and_other_chains_go_on(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory)}
    async with running_system(short_directory, feed_changes=changes) as system:
        heads = own_heads(system, 3)
        forked = own_heads(system, 1, after=heads[0], salt=1)
        other = make_heads(system.sidecar.follower.enrolment.key, ORIGIN, 1, chain="b")
        source = MemoryHeads(heads)
        async with sending(system, source):
            await eventually(lambda: not source.heads)
            source.add(*forked, *other)
            await eventually(lambda: source.heads == forked)
        assert await logged_numbers(system.feed) == [0, 1, 2]
        assert await alerts(system.feed) == [("JOURNAL_FORKED", False)]


async def test_heads_of_a_retired_sidecar_wait_until_it_is_enrolled_anew(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory)}
    async with running_system(short_directory, feed_changes=changes) as system:
        await eventually(lambda: system.sidecar.report().is_enrolled)
        heads = own_heads(system, 2)
        source = MemoryHeads()
        async with grpc.aio.insecure_channel(system.installation.socket("feed-admin")) as channel:
            enrolment: enrolment_pb2_grpc.EnrolmentServiceAsyncStub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
            await enrolment.RetireSidecar(enrolment_pb2.RetireSidecarRequest(sidecar_id=NAME))
            await eventually(lambda: not system.sidecar.report().is_enrolled)
            async with sending(system, source):
                source.add(*heads)
                request = enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id=NAME, valid_seconds=60)
                token = (await enrolment.IssueEnrolmentToken(request)).enrolment_token
                assert (await logged_numbers(system.feed), source.heads) == ([], heads)
                token_file = system.settings.enrolment_token_file
                assert token_file is not None
                token_file.write_text(token)
                await eventually(lambda: not source.heads)
        assert await logged_numbers(system.feed) == [0, 1]


async def test_silent_sidecar_raises_an_alert_that_its_heads_end(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory, journal_silent_seconds=0.3)}
    async with running_system(short_directory, feed_changes=changes) as system:

        async def is_silent() -> bool:
            return (await member(system.installation)).journal_silent

        await eventually(is_silent)
        assert ("JOURNAL_SILENT", False) in await alerts(system.feed)
        source = MemoryHeads(own_heads(system, 1))

        async def is_over() -> bool:
            return ("JOURNAL_SILENT", True) in await alerts(system.feed)

        async with sending(system, source):
            await eventually(is_over)


async def test_old_segments_go_once_the_log_holds_their_disposal(short_directory: Path) -> None:
    changes = {"event_log": log_settings(short_directory)}
    directory = short_directory / "old-journal"
    directory.mkdir()
    chain = ChainFiles(directory).add_days(4)
    source = MemoryHeads()
    source.places[chain.chain_id] = LoggedPlace(1, 3, is_ended=False)
    async with (
        AsyncExitStack() as feed_only,
        running_system(short_directory, feed_changes=changes, feed_lifetime=feed_only) as system,
    ):
        await eventually(lambda: system.sidecar.report().is_enrolled)
        key = system.sidecar.follower.enrolment.key
        feed = GrpcFeed(system.installation.socket("sync"), None, NAME)
        planner = RetentionPlanner(directory, KEYS, source, RetentionRule(days=1, only_shipped=False))
        disposer = Disposer(
            directory,
            planner,
            feed,
            system.sidecar.journal,
            lambda disposal: sign_disposal(disposal, key, ORIGIN),
            NAME,
            FakeClock(NOW_MS + 99 * MS_PER_DAY),
            POLL_SECONDS,
        )
        await feed_only.aclose()
        with pytest.raises(SidecarError):
            await disposer.make_pass()
        assert chain.present == [0, 1, 2, 3]
        passes = asyncio.create_task(disposer.run())
        async with running_feed(system.installation.feed_settings(**changes)) as restarted:
            await eventually(lambda: chain.present == [3])
            events = [parse_event(entry.event_bytes) for entry in await restarted.log.read_entries(1, 1000)]
        passes.cancel()
        await asyncio.wait([passes])
        await feed.close()
    (event,) = [event for event in events if isinstance(event, DisposalEvent)]
    (logged,) = event.disposals
    assert (logged.chain_id, logged.first_segment, logged.last_segment) == (chain.chain_id, 0, 2)
    assert logged.chain_hash == chain.hashes[2]
    verify_disposal(logged, ORIGIN, key.verifier_key.public_key)
    noted = [
        parse_disposal(frame.records[0])
        for path in sorted(system.settings.journal.directory.glob("*.journal"))
        for frame in read_frames(path, load_keys(system.settings))
        if frame.kind == FrameKind.DISPOSAL
    ]
    assert noted == [logged]


async def test_running_sidecar_keeps_its_journal_below_the_size_that_the_settings_say(
    short_directory: Path,
) -> None:
    directory = short_directory / NAME / "journal"
    journal = {
        "directory": directory,
        "ship": False,
        "segment_max_bytes": 4096,
        "retention_max_bytes": 12_000,
        "retention_check_seconds": 0.05,
    }
    changes = {"event_log": log_settings(short_directory)}
    async with running_system(short_directory, feed_changes=changes, sidecar_changes={"journal": journal}) as system:
        await eventually(lambda: system.sidecar.report().is_enrolled)
        async with system.stub() as stub:
            for _ in range(60):
                await stub.Check(ask("ada"))

        def is_small() -> bool:
            (sizes,) = list_segments(directory).values()
            is_told = system.sidecar.report().journal_backlog_records < 60
            return is_told and min(sizes) > 0 and sum(sizes.values()) <= 12_000

        await eventually(is_small)
        waiting = system.sidecar.report().journal_backlog_records
        events = [parse_event(entry.event_bytes) for entry in await system.feed.log.read_entries(1, 1000)]
        disposals = [each for event in events if isinstance(event, DisposalEvent) for each in event.disposals]
        assert sum(each.decisions for each in disposals) >= 60 - waiting
