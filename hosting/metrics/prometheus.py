"""Metrics as Prometheus reads them: its text format, or OpenMetrics with exemplars."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as OpenMetricsExemplar
from prometheus_client.utils import floatToGoString

from hosting.metrics.family import Kind
from hosting.metrics.registry import Collected, Distribution, Exemplar

_OPENMETRICS: Final = "application/openmetrics-text"


def render(collected: Iterable[Collected], accept: str) -> tuple[bytes, str]:
    """The metrics in the format that a scraper prefers.

    Args:
        collected: What `Registry.collect` returned.
        accept: Its `Accept` header; OpenMetrics is for whoever names it.

    Returns:
        The text, and its content type.
    """
    view = _View(collected)
    if any(part.split(";")[0].strip().lower() == _OPENMETRICS for part in accept.split(",")):
        text: bytes = openmetrics.generate_latest(view)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(view), CONTENT_TYPE_PLAIN_0_0_4


class _View(Collector):
    """What the library asks for families."""

    def __init__(self, collected: Iterable[Collected]) -> None:
        self._collected = collected

    def collect(self) -> Iterator[Metric]:
        return map(_translate, self._collected)


def _translate(collected: Collected) -> Metric:
    family = collected.family
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        for each in collected.distributions:
            histogram.add_metric(each.labels, list(_buckets(each, collected.bounds)), each.total)
        return histogram
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = make(family.name, family.meaning, labels=family.labels)
    for point in collected.points:
        metric.add_metric(point.labels, point.value)
    return metric


def _buckets(
    distribution: Distribution, bounds: Iterable[float]
) -> Iterator[tuple[str, float] | tuple[str, float, OpenMetricsExemplar]]:
    names = [*map(floatToGoString, bounds), "+Inf"]
    for name, count, exemplar in zip(names, accumulate(distribution.counts), distribution.exemplars, strict=True):
        yield (name, count) if exemplar is None else (name, count, _translate_exemplar(exemplar))


def _translate_exemplar(exemplar: Exemplar) -> OpenMetricsExemplar:
    trace_id, span_id = exemplar.span
    labels = {"trace_id": trace_id.hex(), "span_id": span_id.hex()}
    return OpenMetricsExemplar(labels, exemplar.value, exemplar.time_seconds)
