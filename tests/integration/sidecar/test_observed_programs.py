"""Feed and sidecar as operators run them: probed from the first moment, scraped, and pushing to a real receiver."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from consentry.decision.v1 import decision_pb2_grpc

from hosting.addresses import UnixAddress
from tests.e2e.processes import Program, clean_environment, wait_until
from tests.fakes.http_probe import Reply
from tests.fakes.http_probe import ask as ask_port
from tests.fakes.installation import TestInstallation, install
from tests.fakes.otlp_receiver import GrpcReceiver
from tests.fakes.system import ask


class Site:
    """Two programs that run, and the receiver that they push to."""

    def __init__(self, installation: TestInstallation, receiver: GrpcReceiver) -> None:
        self.installation = installation
        self.receiver = receiver
        self._environ = clean_environment() | receiver.environ | {"OTEL_METRIC_EXPORT_INTERVAL": "3600000"}

    def program(self, name: str, settings: Any) -> Program:
        path = self.installation.directory / f"{name}.yaml"
        content = settings.model_dump(mode="json", exclude_none=True)
        path.write_text(yaml.safe_dump(content | {"management": {"address": self.installation.socket(f"{name}-m")}}))
        command = [sys.executable, "-m", name, "serve", "-c", str(path)]
        return Program(name, command, log_directory=self.installation.directory, environ=self._environ)

    def probe(self, name: str, path: str) -> Reply | None:
        """What the management port answers; None where it does not listen."""
        try:
            return asyncio.run(ask_port(UnixAddress(self.installation.directory / f"{name}-m.sock"), path))
        except OSError:
            return None

    def is_answered(self, name: str, path: str, status: int) -> bool:
        reply = self.probe(name, path)
        return reply is not None and reply.status == status

    def metric(self, name: str, metric: str) -> float:
        reply = self.probe(name, "/metrics")
        lines = reply.text.splitlines() if reply is not None else []
        return sum(float(line.split()[-1]) for line in lines if line.partition(" ")[0].partition("{")[0] == metric)


@pytest.fixture
def site(short_directory: Path) -> Iterator[Site]:
    receiver = GrpcReceiver()
    receiver.start()
    yield Site(install(short_directory), receiver)
    receiver.stop()


@pytest.mark.long(seconds=12)
def test_programs_are_probed_scraped_and_push_what_they_did(site: Site) -> None:
    installation = site.installation
    journal = {"directory": installation.directory / "sidecar-1" / "journal", "ship": True}
    with ExitStack() as stack:
        sidecar = stack.enter_context(site.program("sidecar", installation.sidecar_settings(journal=journal)))
        feed = stack.enter_context(site.program("feed", installation.feed_settings()))
        sidecar.start()
        # 1. Alive before there is anything to be ready with.
        wait_until(lambda: site.is_answered("sidecar", "/livez", 200), "the sidecar lives", 40)
        assert site.is_answered("sidecar", "/readyz", 503)
        assert site.is_answered("sidecar", "/startupz", 503)
        # 2. A feed without a policy is ready; a sidecar without one is not, and says so.
        feed.start()
        wait_until(lambda: site.is_answered("feed", "/readyz", 200), "the feed is ready", 40)
        wait_until(lambda: site.metric("sidecar", "consentry_sync_state") == 1, "the sidecar runs", 40)
        wait_until(lambda: _failing(site) == ["policy", "fresh_data"], "only the policy is missing", 40)
        # 3. A check is counted, and its span is shipped by the other process.
        with grpc.insecure_channel(installation.socket("sidecar-1-app")) as channel:
            decision_pb2_grpc.ConsentDecisionServiceStub(channel).Check(ask("ada", "left"), timeout=20)
        assert site.metric("sidecar", "consentry_decisions_total") == 1
        wait_until(lambda: site.metric("sidecar", "consentry_shipper_spans_total") == 1, "the span is shipped", 40)
        wait_until(lambda: site.metric("sidecar", "consentry_journal_backlog_records") == 0, "nothing waits", 40)
        # 4. What they counted is pushed at the end.
        assert (sidecar.stop(), feed.stop()) == (0, 0)
    pushed = {
        push["process_start_time_seconds"].resource["service.name"]: push for push in site.receiver.metrics.pushes
    }
    assert set(pushed) == {"consentry-sidecar", "consentry-feed"}
    assert [point.value for point in pushed["consentry-sidecar"]["consentry_decisions_total"].points] == [1]
    assert pushed["consentry-feed"]["consentry_feed_log_size_entries"].points[0].value >= 1


def _failing(site: Site) -> list[str]:
    reply = site.probe("sidecar", "/readyz")
    return list(reply.json["failing"]) if reply is not None else []
