"""A real sidecar's metrics, probes and log lines: true to what happened, and free of anything that names a person."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from prometheus_client.openmetrics import parser
from prometheus_client.samples import Sample

from hosting.logs import configure_logging
from hosting.management import Management
from hosting.settings.server import ManagementSettings
from sidecar.journal.shipper_status import STATUS_FILE_NAME, ShipperStatus, save_status
from sidecar.runtime import running_sidecar
from sidecar.telemetry.families import FAMILIES
from tests.fakes.http_probe import Reply
from tests.fakes.http_probe import ask as ask_port
from tests.fakes.installation import install
from tests.fakes.system import System, ask, running_system

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01")
OPENMETRICS = "application/openmetrics-text"


class Observed:
    """A system, and the management port of its sidecar."""

    def __init__(self, system: System, management: Management) -> None:
        self.system = system
        self.management = management

    async def probe(self, path: str) -> Reply:
        return await ask_port(self.management.address, path)

    async def samples(self) -> list[Sample]:
        reply = await ask_port(self.management.address, "/metrics", accept=OPENMETRICS)
        assert reply.status == 200
        families = parser.text_string_to_metric_families(reply.text)  # type: ignore[no-untyped-call]
        return [sample for family in families for sample in family.samples]

    async def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Values of a metric by the values of its labels, in the order of the labels' names."""
        return {tuple(each.labels.values()): each.value for each in await self.samples() if each.name == name}


@asynccontextmanager
async def observed_system(directory: Path, **changes: Any) -> AsyncIterator[Observed]:
    management = Management(ManagementSettings(address="127.0.0.1:0"))
    await management.start()
    try:
        async with running_system(directory, management=management, **changes) as system:
            yield Observed(system, management)
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


async def test_metrics_say_what_was_decided_and_how_fast(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed, observed.system.stub() as stub:
        await observed.system.log(observed.system.opt_out("ada"))
        for value in ("ada", "ada", "grace"):
            await stub.Check(ask(value, "left"), metadata=(TRACEPARENT,))
        await stub.Check(ask("ada", ["left", "right"]))
        subjects = [ask(value).subject for value in ("ada", "grace")]
        group = decision_pb2.BatchGroup(subjects=subjects, purposes=["left"], context=ask().context)
        await stub.CheckBatch(decision_pb2.CheckBatchRequest(groups=[group]))
        decisions = await observed.values("consentry_decisions_total")
        assert sum(decisions.values()) == 6
        assert decisions["DENY", "left", "GLOBAL_OPT_OUT"] == 3
        assert decisions["DENY", "(several)", "GLOBAL_OPT_OUT"] == 1
        assert await observed.values("consentry_check_duration_seconds_count") == {("Check",): 4, ("CheckBatch",): 1}
        exemplars = [sample.exemplar for sample in await observed.samples() if sample.exemplar is not None]
        assert TRACE_ID in {exemplar.labels["trace_id"] for exemplar in exemplars}


async def test_metrics_say_what_is_held_and_recorded(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed, observed.system.stub() as stub:
        await observed.system.log(observed.system.opt_out("ada"))
        await stub.Check(ask("ada"))
        save_status(observed.system.settings.journal.directory / STATUS_FILE_NAME, ShipperStatus(9, 2, 0))
        values = {sample.name: sample.value for sample in await observed.samples()}
        assert values["consentry_ready"] == 1
        assert values["consentry_log_size_entries"] == observed.system.sidecar.cache.head.size
        assert values["consentry_journal_recorded_decisions_total"] == 1
        assert values["consentry_journal_backlog_records"] == 1
        assert values["consentry_journal_backlog_bytes"] > 100
        assert values["consentry_journal_writable"] == 1
        assert (values["consentry_shipper_spans_total"], values["consentry_shipper_failing_seconds"]) == (9, 0)
        assert 0 <= values["consentry_staleness_seconds"] < values["consentry_staleness_limit_seconds"]
        assert values["consentry_cache_records"] == 1
        assert values["consentry_apply_duration_seconds_count"] >= 1
        assert values["consentry_audit_key_reserve_days"] > 1
        assert await observed.values("consentry_sync_state") == {
            ("EMPTY",): 0,
            ("IN_SYNC",): 1,
            ("DISCONNECTED",): 0,
            ("REFUSED",): 0,
        }
        assert await observed.values("consentry_journal_mode") == {("group",): 1}


async def test_metrics_every_one_that_is_documented_is_served(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed, observed.system.stub() as stub:
        await stub.Check(ask("ada"))
        served = {family.name: family for family in observed.management.registry.families}
        assert served == {family.name: family for family in FAMILIES}
        assert len(observed.management.registry.collect()) == len(FAMILIES)


async def test_identifiers_are_in_no_metric_and_no_log_line_wherever_a_caller_puts_them(
    short_directory: Path, log: io.StringIO
) -> None:
    name = "alice@person.example"
    async with observed_system(short_directory) as observed, observed.system.stub() as stub:
        questions = [
            ask(name, name),
            ask(name, [name, "left"]),
            ask(name, "left", namespace=name),
            ask(name, "left", jurisdiction=name),
        ]
        recipient = ask(name, "left")
        recipient.context.recipient = name
        recipient.context.data_categories.append(name)
        for question in (*questions, recipient):
            await _answer_or_refusal(stub.Check(question, metadata=(TRACEPARENT, ("x-name", name))))
        raw = observed.system.installation.socket("sidecar-1-app")
        async with grpc.aio.insecure_channel(raw) as channel:
            for method in ("Check", "CheckBatch", name.replace("@", "/")):
                call: Any = channel.unary_unary(f"/consentry.decision.v1.ConsentDecisionService/{method}")
                await _answer_or_refusal(call(name.encode()))
        samples = await observed.samples()
        assert {each.labels["purpose"] for each in samples if "purpose" in each.labels} == {
            "(unknown)",
            "(several)",
            "left",
        }
        texts = [str(sample) for sample in samples]
        texts += [(await ask_port(observed.management.address, path)).text for path in ("/metrics", "/readyz")]
        texts.append(log.getvalue())
        token = observed.system.tokeniser.token("user", name)
        for secret in (name, "person.example", token.hex()):
            assert not any(secret in text for text in texts)


async def _answer_or_refusal(call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call


async def test_refused_calls_are_counted_by_their_reason(short_directory: Path) -> None:
    async with observed_system(short_directory) as observed, observed.system.stub("stranger") as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Explain(decision_pb2.ExplainRequest(check=ask()))
        assert await observed.values("consentry_refused_calls_total") == {("METHOD_NOT_PERMITTED",): 1}


async def test_log_line_of_a_call_names_its_trace(
    short_directory: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observed_system(short_directory) as observed, observed.system.stub() as stub:
        monkeypatch.setattr("sidecar.grpc_api.codec.write_check", _fail)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(ask(), metadata=(TRACEPARENT,))
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        (incident,) = [line for line in lines if line["level"] == "ERROR"]
        assert (incident["trace_id"], len(incident["span_id"])) == (TRACE_ID, 16)
        assert all("trace_id" not in line for line in lines if line is not incident)


def _fail(*_: object) -> None:
    raise ValueError("alice@person.example")


async def test_probes_during_start_outage_and_drain(short_directory: Path) -> None:
    """As a kubelet sees it: not ready before the first data, ready without the feed, not ready while it drains, alive throughout."""
    management = Management(ManagementSettings(address="127.0.0.1:0"))
    await management.start()

    async def statuses() -> list[int]:
        paths = ("/livez", "/readyz", "/startupz")
        return [(await ask_port(management.address, path)).status for path in paths]

    try:
        assert await statuses() == [200, 503, 503]
        installation = install(short_directory)
        async with running_sidecar(installation.sidecar_settings(), boot_id="test", management=management):
            assert await statuses() == [200, 503, 503]
            failing = (await ask_port(management.address, "/readyz")).json["failing"]
            assert failing == ["policy", "verified_data", "fresh_data", "key_ring"]
        assert await statuses() == [200, 503, 503]
    finally:
        await management.stop()


async def test_ready_during_an_outage_of_the_feed_and_not_with_a_broken_journal(short_directory: Path) -> None:
    feed = AsyncExitStack()
    async with observed_system(short_directory, feed_lifetime=feed) as observed:
        assert (await observed.probe("/readyz")).json == {"status": "ready", "failing": []}
        await feed.aclose()
        async with asyncio.timeout(20):
            while (await observed.values("consentry_sync_state"))["DISCONNECTED",] != 1:
                await asyncio.sleep(0.02)
        assert (await observed.probe("/readyz")).status == 200
        assert (await observed.values("consentry_sync_errors_total"))["FEED_UNAVAILABLE",] >= 1
        journal = observed.system.sidecar.journal
        journal._chain.is_failing = True
        assert (await observed.probe("/readyz")).json["failing"] == ["journal_writable"]
        assert (await observed.probe("/startupz")).status == 200
        assert (await observed.values("consentry_ready"))[()] == 0
