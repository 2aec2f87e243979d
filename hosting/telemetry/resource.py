"""Who sends spans and metrics."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from opentelemetry.sdk.resources import Resource

from hosting.telemetry import attributes

DEFAULT_SERVICE_NAME: Final = "consentry-sidecar"
FEED_SERVICE_NAME: Final = "consentry-feed"


def build_resource(
    instance_id: str, version: str, environ: Mapping[str, str], service_name: str = DEFAULT_SERVICE_NAME
) -> Resource:
    """The resource of every span and metric of a program.

    Args:
        instance_id: The sidecar's name, or that of the feed's log.
        version: Of Consentry.
        environ: `OTEL_RESOURCE_ATTRIBUTES` adds to what is ours and wins over it; `OTEL_SERVICE_NAME` wins over both.
        service_name: Which program, where the environment names no other.
    """
    ours = {
        attributes.SERVICE_NAME: service_name,
        attributes.SERVICE_INSTANCE_ID: instance_id,
        attributes.SERVICE_VERSION: version,
    }
    theirs = _parse_attributes(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if named := environ.get("OTEL_SERVICE_NAME"):
        theirs[attributes.SERVICE_NAME] = named
    return Resource.create(ours).merge(Resource(theirs))


def _parse_attributes(text: str) -> dict[str, str]:
    """`key=value,…` with percent-encoded values; what has no `=` is left out, as the SDK does."""
    pairs = (item.partition("=") for item in text.split(",") if "=" in item)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
