"""Metrics are pushed only where somebody has said where to; what that takes is loaded only then."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from hosting.metrics.registry import Registry

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@asynccontextmanager
async def pushing_where_told(
    registry: Registry, instance_id: str, version: str, service_name: str, environ: Mapping[str, str]
) -> AsyncIterator[None]:
    """Push a program's metrics while the block runs, if a variable names an endpoint.

    Args:
        registry: The program's.
        instance_id: Which one of its kind.
        version: Of Consentry.
        service_name: Of its kind.
        environ: The environment of the process.

    Raises:
        TelemetryMisconfigured: A variable cannot be followed.
    """
    if not any(environ.get(name, "").strip() for name in _ENDPOINTS):
        yield
        return
    from hosting.metrics.otlp import pushing_metrics
    from hosting.telemetry.resource import build_resource

    resource = build_resource(instance_id, version, environ, service_name)
    async with pushing_metrics(registry, resource, environ):
        yield
