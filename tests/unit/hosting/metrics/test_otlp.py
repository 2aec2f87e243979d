"""Metrics over OTLP: to real receivers, and without any harm where there is none."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource

from hosting.call_context import Span
from hosting.metrics import Counter, Family, Histogram, Kind, Registry
from hosting.metrics.otlp import MetricPusher, pushing_metrics, read_interval_seconds
from hosting.telemetry.errors import TelemetryMisconfigured
from hosting.telemetry.exporter import build_metric_exporter
from tests.fakes.otlp_metrics import ReceivedPoint
from tests.fakes.otlp_receiver import PROTOCOLS, OtlpReceiver, make_receiver

CALLS = Family("calls_total", Kind.COUNTER, "Calls.", ("reason",))
SIZE = Family("size_bytes", Kind.GAUGE, "Size.")
SPEED = Family("speed_seconds", Kind.HISTOGRAM, "Speed.", ("method",))
SPAN: Span = (bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331"))
RESOURCE = Resource({"service.name": "consentry-test"})
NEVER = "3600000"


def make_registry() -> Registry:
    registry, calls, speed = Registry(), Counter(CALLS), Histogram(SPEED, (0.1, 1.0))
    calls.add(("A",), 3)
    speed.observe(0.05, ("Check",), SPAN)
    speed.observe(5.0, ("Check",))
    registry.add(calls, speed)
    registry.read(SIZE, lambda: 7.5)
    return registry


@pytest.fixture(params=PROTOCOLS)
def receiver(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    receiver = make_receiver(request.param)
    receiver.start()
    yield receiver
    receiver.stop()


async def test_metrics_arrive_as_they_stand_with_exemplars(receiver: OtlpReceiver) -> None:
    environ = receiver.environ | {"OTEL_METRIC_EXPORT_INTERVAL": "20"}
    async with pushing_metrics(make_registry(), RESOURCE, environ):
        await asyncio.to_thread(receiver.metrics.wait_for_pushes, 2)
    push = receiver.metrics.pushes[-1]
    assert {name: (each.kind, each.unit) for name, each in push.items()} == {
        "calls_total": ("sum", ""),
        "size_bytes": ("gauge", "By"),
        "speed_seconds": ("histogram", "s"),
    }
    assert push["calls_total"].points == [ReceivedPoint({"reason": "A"}, 3)]
    assert push["size_bytes"].points == [ReceivedPoint({}, 7.5)]
    assert push["speed_seconds"].points == [ReceivedPoint({"method": "Check"}, 2, (SPAN[0].hex(),))]
    assert push["calls_total"].resource["service.name"] == "consentry-test"


async def test_metrics_are_pushed_once_more_at_the_end(receiver: OtlpReceiver) -> None:
    async with pushing_metrics(make_registry(), RESOURCE, receiver.environ | {"OTEL_METRIC_EXPORT_INTERVAL": NEVER}):
        assert receiver.metrics.pushes == []
    assert len(receiver.metrics.pushes) == 1


async def test_receiver_that_is_away_is_said_once_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    receiver = make_receiver("grpc")
    receiver.start()
    receiver.stop()
    environ = receiver.environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.05", "OTEL_METRIC_EXPORT_INTERVAL": "10"}
    reads = 0

    def read() -> float:
        nonlocal reads
        reads += 1
        return reads

    registry = Registry()
    registry.read(SIZE, read)
    with caplog.at_level(logging.WARNING, "hosting"):
        async with pushing_metrics(registry, RESOURCE, environ), asyncio.timeout(20):
            while reads < 4:
                await asyncio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["the metric receiver takes no metrics"]


class _StuckExporter(MetricExporter):
    """Hangs until it is shut down, and longer."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.leave = threading.Event()

    def export(self, metrics_data: object, timeout_millis: float = 0, **kwargs: object) -> None:  # type: ignore[override]
        self.entered.set()
        self.leave.wait(30)

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: object) -> None:
        """Does not help."""


async def test_exporter_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosting.metrics.otlp._END_SECONDS", 0.05)
    exporter = _StuckExporter()
    pusher = MetricPusher(make_registry(), exporter, RESOURCE, 0.01)
    pusher.start()
    await asyncio.to_thread(exporter.entered.wait, 20)
    await pusher.close()
    assert pusher._thread is not None
    assert pusher._thread.is_alive()
    exporter.leave.set()


@pytest.mark.parametrize(
    ("environ", "is_built"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "prometheus,otlp"}, True),
    ],
)
def test_metrics_are_pushed_only_where_an_endpoint_is_named(environ: dict[str, str], is_built: bool) -> None:
    exporter = build_metric_exporter(environ)
    assert (exporter is not None) is is_built
    if exporter is not None:
        exporter.shutdown()


def test_metric_variables_win_over_those_of_all_signals() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all.example:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces.example/t",
    }
    assert endpoint_of(environ) == "http://all.example:4318/v1/metrics"
    environ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = "http://metrics.example/m"
    assert endpoint_of(environ) == "http://metrics.example/m"


def endpoint_of(environ: dict[str, str]) -> object:
    exporter = build_metric_exporter(environ)
    assert exporter is not None
    exporter.shutdown()
    return vars(exporter)["_endpoint"]


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "9" * 12])
def test_interval_that_cannot_be_followed_stops_the_start_by_its_name(value: str) -> None:
    with pytest.raises(
        TelemetryMisconfigured, match=r"^OTEL_METRIC_EXPORT_INTERVAL: expected a number of milliseconds"
    ):
        read_interval_seconds({"OTEL_METRIC_EXPORT_INTERVAL": value})


def test_interval_is_in_milliseconds_and_a_minute_by_default() -> None:
    assert read_interval_seconds({"OTEL_METRIC_EXPORT_INTERVAL": "1500"}) == 1.5
    assert read_interval_seconds({}) == 60
