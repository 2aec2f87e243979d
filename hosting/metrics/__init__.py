"""Metrics: counted in plain memory, shown to Prometheus and pushed over OTLP."""

from hosting.metrics.family import Family, Kind, list_families
from hosting.metrics.registry import Counter, Histogram, Labels, Registry

__all__ = ["Counter", "Family", "Histogram", "Kind", "Labels", "Registry", "list_families"]
