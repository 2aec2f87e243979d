"""Metrics that a real OTLP receiver got."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceServicer
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint


@dataclass(frozen=True)
class ReceivedPoint:
    """One series at one time; of a histogram `value` is the number of observations, and `trace_ids` are those of its exemplars."""

    labels: Mapping[str, str]
    value: float
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReceivedMetric:
    """One metric of one push; `kind` is `sum`, `gauge` or `histogram`."""

    name: str
    kind: str
    unit: str
    points: list[ReceivedPoint]
    resource: Mapping[str, Any] = field(default_factory=dict)


class MetricStore(MetricsServiceServicer):
    """What a receiver has got; the gRPC service too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pushes: list[dict[str, ReceivedMetric]] = []

    @property
    def pushes(self) -> list[dict[str, ReceivedMetric]]:
        """Metrics by name, for each push."""
        with self._changed:
            return list(self._pushes)

    def wait_for_pushes(self, count: int, timeout_seconds: float = 20.0) -> None:
        """Come back once there were so many; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._pushes) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self._pushes)} pushes")

    def add(self, request: ExportMetricsServiceRequest) -> None:
        """Keep the metrics of one request."""
        push: dict[str, ReceivedMetric] = {}
        for resource_metrics in request.resource_metrics:
            resource = {each.key: each.value.string_value for each in resource_metrics.resource.attributes}
            for scope_metrics in resource_metrics.scope_metrics:
                push |= {metric.name: _read_metric(metric, resource) for metric in scope_metrics.metrics}
        with self._changed:
            self._pushes.append(push)
            self._changed.notify_all()

    def Export(
        self, request: ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> ExportMetricsServiceResponse:
        self.add(request)
        return ExportMetricsServiceResponse()


def _read_metric(metric: Metric, resource: Mapping[str, Any]) -> ReceivedMetric:
    kind = metric.WhichOneof("data") or ""
    points = [_read_point(point) for point in getattr(metric, kind).data_points]
    return ReceivedMetric(metric.name, kind, metric.unit, points, resource)


def _read_point(point: NumberDataPoint | HistogramDataPoint) -> ReceivedPoint:
    labels = {each.key: each.value.string_value for each in point.attributes}
    if isinstance(point, HistogramDataPoint):
        return ReceivedPoint(labels, point.count, tuple(each.trace_id.hex() for each in point.exemplars))
    return ReceivedPoint(labels, point.as_int if point.WhichOneof("value") == "as_int" else point.as_double)
