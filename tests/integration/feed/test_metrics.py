"""A real feed's metrics, probes and log lines, with a real sidecar that follows it."""

import asyncio
import io
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.intake.v1 import backup_pb2, backup_pb2_grpc
from prometheus_client import parser

from consent.event import ReceivedEvent
from feed.ports import Submission
from feed.readings import find_last_change
from feed.telemetry.families import FAMILIES
from hosting.logs import configure_logging
from hosting.management import Management
from hosting.settings.server import ManagementSettings
from tests.fakes.clock import FakeClock
from tests.fakes.http_probe import ask as ask_port
from tests.fakes.system import System, running_system

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01")
RECORD = "/consentry.intake.v1.IntakeService/RecordDirective"
QUIET = {"receipts_seconds": 3600}
"""Entries that come by themselves would change what is counted."""


class Observed:
    """A system, and the management port of its feed."""

    def __init__(self, system: System, management: Management) -> None:
        self.system = system
        self.management = management

    async def values(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Values of each metric by the values of its labels."""
        text = (await ask_port(self.management.address, "/metrics")).text
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    async def failing(self) -> list[str]:
        return list((await ask_port(self.management.address, "/readyz")).json["failing"])


@asynccontextmanager
async def observed_system(directory: Path, **changes: Any) -> AsyncIterator[Observed]:
    management = Management(ManagementSettings(address="127.0.0.1:0"))
    await management.start()
    try:
        assert (await ask_port(management.address, "/startupz")).status == 503
        async with running_system(directory, feed_management=management, **changes) as system:
            yield Observed(system, management)
        assert (await ask_port(management.address, "/readyz")).json["failing"] == ["draining"]
        assert (await ask_port(management.address, "/livez")).status == 200
    finally:
        await management.stop()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Where the program's log goes, as JSON lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        yield Path(folder)


async def test_metrics_say_what_was_taken_and_how_far_the_fleet_is(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed:
        await observed.system.log(observed.system.opt_out("ada"))
        async with asyncio.timeout(20):
            while True:
                values = await observed.values()
                if values.get("consentry_feed_fleet_lag_entries", {}).get((), 1) == 0:
                    break
                await asyncio.sleep(0.02)
        assert values["consentry_feed_ready"] == {(): 1}
        assert values["consentry_feed_log_size_entries"][()] >= observed.system.sidecar.cache.head.size > 0
        assert values["consentry_feed_entries_total"]["DIRECTIVE",] == 1
        assert values["consentry_feed_entries_total"]["POLICY",] == 1
        assert values["consentry_feed_submissions_total"]["accepted",] >= 2
        assert values["consentry_feed_accept_duration_seconds_count"][()] >= 2
        batches = values["consentry_feed_batch_entries_sum"][()]
        assert batches == sum(values["consentry_feed_entries_total"].values())
        assert values["consentry_feed_connected_sidecars"] == {(): 1}
        assert values["consentry_feed_sidecar_connected"] == {("sidecar-1",): 1}
        assert values["consentry_feed_smallest_acknowledged_entries"][()] > 0
        assert values["consentry_feed_intake_stopped"] == {(): 0}
        assert "consentry_feed_backup_age_seconds" not in values


async def test_fleet_lag_counts_what_is_to_be_acknowledged_and_nothing_else(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed:
        log, opt_out = observed.system.feed.log, observed.system.opt_out("ada")
        await observed.system.log(opt_out)
        async with asyncio.timeout(20):
            while (await observed.values())["consentry_feed_fleet_lag_entries"] != {(): 0}:
                await asyncio.sleep(0.02)
        for _ in range(5):
            await log.submit(Submission((ReceivedEvent(origin=opt_out.origin, request_type=1, received_at_ms=1),)))
        assert (await observed.values())["consentry_feed_fleet_lag_entries"] == {(): 0}
        # The next start of a feed finds the same entry.
        assert 0 < await find_last_change(log) == log.meter.last_change_seq <= log.head.size - 5
        # An entry that no sidecar has acknowledged yet is a lag of all of them.
        log.meter.last_change_seq = log.head.size + 3
        values = await observed.values()
        assert values["consentry_feed_fleet_lag_entries"][()] >= 3
        assert values["consentry_feed_sidecar_lag_entries"]["sidecar-1",] >= 3


async def test_backup_makes_its_age_known(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed:
        async with grpc.aio.insecure_channel(observed.system.installation.socket("feed-admin")) as channel:
            stub: backup_pb2_grpc.BackupServiceAsyncStub = backup_pb2_grpc.BackupServiceStub(channel)
            assert [each async for each in stub.BackUpLog(backup_pb2.BackUpLogRequest())]
        assert 0 <= (await observed.values())["consentry_feed_backup_age_seconds"][()] < 100


async def test_every_metric_that_is_documented_is_served(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed:
        served = {family.name: family for family in observed.management.registry.families}
        assert served == {family.name: family for family in FAMILIES}


async def test_identifiers_that_sources_send_are_in_no_metric_and_no_log_line(
    short_directory: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "alice@person.example"
    async with observed_system(short_directory) as observed:
        async with grpc.aio.insecure_channel(observed.system.installation.socket("web")) as channel:
            for method in (RECORD, f"/{name}/{name}"):
                call: Any = channel.unary_unary(method)
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(name.encode(), metadata=(TRACEPARENT, ("x-name", name)))
            call_record: Any = channel.unary_unary(RECORD)
            monkeypatch.setattr("feed.grpc_api.intake_codec.parse_directive_request", _fail)
            with pytest.raises(grpc.aio.AioRpcError):
                await call_record(b"", metadata=(TRACEPARENT,))
        text = (await ask_port(observed.management.address, "/metrics")).text
        refused = (await observed.values())["consentry_feed_refused_calls_total"]
        assert refused["INTERNAL",] == 1
        assert sum(refused.values()) >= 2
        assert "person.example" not in text + log.getvalue()
        incidents = [json.loads(line) for line in log.getvalue().splitlines() if "incident" in line]
        assert [line["trace_id"] for line in incidents] == [TRACE_ID]


def _fail(*_: object) -> None:
    raise ValueError("alice@person.example")


async def test_feed_that_cannot_sign_fresh_checkpoints_is_not_ready(short_directory: Path) -> None:
    clock = FakeClock()
    async with observed_system(short_directory, clock=clock, feed_changes=_slow_to_sign(short_directory)) as observed:
        assert await observed.failing() == []
        clock.advance(1_000_000)
        assert await observed.failing() == ["checkpoint_fresh"]
        await observed.system.feed.log.resign_now()
        assert await observed.failing() == []


def _slow_to_sign(directory: Path) -> dict[str, Any]:
    event_log = {"directory": directory / "log", "keys_directory": directory / "keys", "resign_seconds": 60}
    return {"event_log": event_log | QUIET}
