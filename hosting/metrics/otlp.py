"""Metrics pushed over OTLP, by the SDK's exporters and the standard variables."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager
from time import time_ns
from typing import Final

from opentelemetry.sdk.metrics import Exemplar as OtlpExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as OtlpHistogram
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hosting.metrics.family import Family, Kind
from hosting.metrics.registry import Collected, Distribution, Exemplar, Labels, Registry
from hosting.telemetry.errors import TelemetryMisconfigured
from hosting.telemetry.exporter import build_metric_exporter

INTERVAL_VARIABLE: Final = "OTEL_METRIC_EXPORT_INTERVAL"
DEFAULT_INTERVAL_SECONDS: Final = 60.0

_SCOPE: Final = "consentry"
_COLLECT_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_NOT_KEPT: Final[float] = None  # type: ignore[assignment]  # the encoder leaves the field out; the SDK's type does not say so
_LOGGER: Final = logging.getLogger(__name__)


def read_interval_seconds(environ: Mapping[str, str]) -> float:
    """How often metrics are pushed, from `OTEL_METRIC_EXPORT_INTERVAL` in ms.

    Raises:
        TelemetryMisconfigured: It is no number above 0.
    """
    text = environ.get(INTERVAL_VARIABLE, "").strip()
    if not text:
        return DEFAULT_INTERVAL_SECONDS
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        raise TelemetryMisconfigured(f"{INTERVAL_VARIABLE}: expected a number of milliseconds above 0")
    return int(text) / 1000


class MetricPusher:
    """Pushes metrics at an interval, from a thread of its own: a receiver that is away or slow costs the program nothing.

    Args:
        registry: Read in the event loop in which `start` is called.
        exporter: Of the SDK; closed with the pusher.
        resource: Who sends them.
        interval_seconds: From one push to the next.
    """

    def __init__(
        self, registry: Registry, exporter: MetricExporter, resource: Resource, interval_seconds: float
    ) -> None:
        self._registry = registry
        self._exporter = exporter
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._started_ns = time_ns()
        self._stop = threading.Event()
        self._is_failing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        loop = asyncio.get_running_loop()
        # A daemon: it may hang in a call that nothing can interrupt, and must not hold up the process's end.
        self._thread = threading.Thread(target=self._run, args=(loop,), name="metric-pusher", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Push once more, and stop; comes back within about 2 s."""
        if self._thread is None:
            return
        self._stop.set()
        # The loop must go on meanwhile: the last push asks it for the numbers.
        await asyncio.to_thread(self._thread.join, _END_SECONDS)
        await asyncio.to_thread(self._exporter.shutdown)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(self._interval_seconds)
            collected = self._collect(loop)
            if collected is not None:
                self._note(is_taken=self._export(collected))

    def _collect(self, loop: asyncio.AbstractEventLoop) -> list[Collected] | None:
        answer: Future[list[Collected]] = Future()
        try:
            loop.call_soon_threadsafe(lambda: answer.set_result(self._registry.collect()))
            return answer.result(_COLLECT_SECONDS)
        except (RuntimeError, FutureTimeoutError):
            # The loop has ended, or stands still; there is nobody to ask.
            return None

    def _export(self, collected: Iterable[Collected]) -> bool:
        data = translate(collected, self._resource, self._started_ns, time_ns())
        try:
            return self._exporter.export(data) is MetricExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - the boundary to the SDK: whatever it raises, the next push comes
            _LOGGER.debug("the metric exporter failed", extra={"fields": {"type": type(error).__name__}})
            return False

    def _note(self, *, is_taken: bool) -> None:
        # Once, and not at every push of an outage.
        if is_taken == self._is_failing:
            level = logging.INFO if is_taken else logging.WARNING
            message = "the metric receiver takes metrics again" if is_taken else "the metric receiver takes no metrics"
            _LOGGER.log(level, message)
            self._is_failing = not is_taken


@asynccontextmanager
async def pushing_metrics(registry: Registry, resource: Resource, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Push a program's metrics while the block runs, if a variable names an endpoint.

    Args:
        registry: The program's.
        resource: Who sends them.
        environ: The environment of the process.

    Raises:
        TelemetryMisconfigured: A variable cannot be followed.
    """
    interval_seconds, exporter = read_interval_seconds(environ), build_metric_exporter(environ)
    if exporter is None:
        yield
        return
    # The pusher says itself, once, that its receiver is away; the SDK would say it at every attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    pusher = MetricPusher(registry, exporter, resource, interval_seconds)
    pusher.start()
    try:
        yield
    finally:
        await pusher.close()


def translate(collected: Iterable[Collected], resource: Resource, started_ns: int, now_ns: int) -> MetricsData:
    """Metrics in the SDK's form.

    Args:
        collected: What `Registry.collect` returned.
        resource: Who sends them.
        started_ns: Unix ns from which on counters and histograms count.
        now_ns: Unix ns at which they were collected.
    """
    metrics = [_translate(each, started_ns, now_ns) for each in collected if each.points or each.distributions]
    scope = ScopeMetrics(InstrumentationScope(_SCOPE), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _translate(collected: Collected, started_ns: int, now_ns: int) -> Metric:
    family = collected.family
    if family.kind is Kind.HISTOGRAM:
        distributions = [
            _translate_distribution(family, each, collected.bounds, started_ns, now_ns)
            for each in collected.distributions
        ]
        return _metric(family, OtlpHistogram(distributions, _CUMULATIVE))
    start_ns = started_ns if family.kind is Kind.COUNTER else 0
    points = [
        NumberDataPoint(_attributes(family, point.labels), start_ns, now_ns, point.value) for point in collected.points
    ]
    if family.kind is Kind.COUNTER:
        return _metric(family, Sum(points, _CUMULATIVE, is_monotonic=True))
    return _metric(family, Gauge(points))


def _metric(family: Family, data: Sum | Gauge | OtlpHistogram) -> Metric:
    return Metric(family.name, family.meaning, _unit_of(family), data)


def _translate_distribution(
    family: Family, distribution: Distribution, bounds: Iterable[float], started_ns: int, now_ns: int
) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=_attributes(family, distribution.labels),
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=sum(distribution.counts),
        sum=distribution.total,
        bucket_counts=distribution.counts,
        explicit_bounds=tuple(bounds),
        # Least and greatest value are not kept: over a process's whole life they say nothing.
        min=_NOT_KEPT,
        max=_NOT_KEPT,
        exemplars=[_translate_exemplar(each) for each in distribution.exemplars if each is not None],
    )


def _translate_exemplar(exemplar: Exemplar) -> OtlpExemplar:
    trace_id, span_id = (int.from_bytes(each, "big") for each in exemplar.span)
    return OtlpExemplar({}, exemplar.value, int(exemplar.time_seconds * 1e9), span_id, trace_id)


def _attributes(family: Family, labels: Labels) -> dict[str, str]:
    return dict(zip(family.labels, map(str, labels), strict=True))


def _unit_of(family: Family) -> str:
    name = family.name.removesuffix("_total")
    units = {"seconds": "s", "bytes": "By", "days": "d"}
    return next((unit for word, unit in units.items() if name.endswith(f"_{word}")), "")
