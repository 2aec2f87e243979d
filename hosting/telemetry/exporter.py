"""Where spans and metrics are sent, as the standard OTEL_EXPORTER_OTLP_* variables say.

The SDK's exporters read these variables themselves, but log and go on where a file is missing or a word is unknown. A record
of decisions must not be lost that way, so everything is read and checked here and passed to them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from hosting.telemetry.confirming import ConfirmingGrpcExporter, ConfirmingHttpExporter, OwnCertificateSession
from hosting.telemetry.errors import TelemetryMisconfigured

GRPC: Final = "grpc"
HTTP_PROTOBUF: Final = "http/protobuf"
DEFAULT_PROTOCOL: Final = GRPC
DEFAULT_TIMEOUT_SECONDS: Final = 10.0

_DEFAULT_ENDPOINTS: Final = {GRPC: "http://localhost:4317", HTTP_PROTOBUF: "http://localhost:4318"}
_GRPC_COMPRESSION: Final = {"gzip": grpc.Compression.Gzip, "none": grpc.Compression.NoCompression}
_HTTP_COMPRESSION: Final = {
    "gzip": HttpCompression.Gzip,
    "deflate": HttpCompression.Deflate,
    "none": HttpCompression.NoCompression,
}

VARIABLES: Final = (
    "PROTOCOL",
    "ENDPOINT",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "INSECURE",
)
"""What follows OTEL_EXPORTER_OTLP_TRACES_, respectively _METRICS_, or OTEL_EXPORTER_OTLP_; the first wins."""

Choice = TypeVar("Choice")
Exporter = TypeVar("Exporter")


class Signal(StrEnum):
    """What is sent; the name in variables, and the last part of the path over HTTP in lower case."""

    TRACES = "TRACES"
    METRICS = "METRICS"


def build_exporter(environ: Mapping[str, str]) -> SpanExporter:
    """The SDK's exporter of spans for OTLP over gRPC (the default) or HTTP; its `export` raises SpansRefused where a receiver rejects some.

    Args:
        environ: The environment of the process, since the SDK looks there for what is not set.

    Raises:
        TelemetryMisconfigured: A variable cannot be followed.
    """
    return _build(_Settings(environ, Signal.TRACES), ConfirmingGrpcExporter, ConfirmingHttpExporter)


def build_metric_exporter(environ: Mapping[str, str]) -> MetricExporter | None:
    """As `build_exporter`, for metrics, which are there for Prometheus either way.

    Returns:
        None where no variable names an endpoint, or `OTEL_METRICS_EXPORTER` names other exporters than `otlp`.

    Raises:
        TelemetryMisconfigured: A variable cannot be followed.
    """
    settings = _Settings(environ, Signal.METRICS)
    exporters = environ.get("OTEL_METRICS_EXPORTER", "").strip() or "otlp"
    if settings.find("ENDPOINT") is None or "otlp" not in exporters.split(","):
        return None
    return _build(settings, GrpcMetricExporter, partial(HttpMetricExporter, session=OwnCertificateSession()))


def _build(settings: "_Settings", over_grpc: Callable[..., Exporter], over_http: Callable[..., Exporter]) -> Exporter:
    readers: dict[str, Callable[[], Exporter]] = {
        GRPC: lambda: over_grpc(**_read_grpc(settings)),
        HTTP_PROTOBUF: lambda: over_http(**_read_http(settings)),
    }
    return settings.read_choice("PROTOCOL", readers, DEFAULT_PROTOCOL)()


@dataclass(frozen=True, slots=True)
class _Setting:
    """A variable that is set."""

    variable: str
    value: str
    is_for_signal: bool

    def refuse(self, expectation: str) -> TelemetryMisconfigured:
        return TelemetryMisconfigured(f"{self.variable}: {expectation}")


class _Settings:
    """The variables of one environment for one signal."""

    def __init__(self, environ: Mapping[str, str], signal: Signal) -> None:
        self._environ = environ
        self.signal = signal

    def find(self, name: str) -> _Setting | None:
        own_prefix = f"OTEL_EXPORTER_OTLP_{self.signal}_"
        for prefix, is_for_signal in ((own_prefix, True), ("OTEL_EXPORTER_OTLP_", False)):
            value = self._environ.get(prefix + name, "").strip()
            if value:
                return _Setting(prefix + name, value, is_for_signal)
        return None

    def read_file(self, name: str) -> bytes | None:
        setting = self.find(name)
        if setting is None:
            return None
        try:
            return Path(setting.value).read_bytes()
        except OSError as error:
            raise setting.refuse(f"the file cannot be read: {error.strerror}") from None

    def find_file(self, name: str) -> str | None:
        return setting.value if (setting := self.find(name)) and self.read_file(name) is not None else None

    def read_timeout_seconds(self) -> float:
        setting = self.find("TIMEOUT")
        if setting is None:
            return DEFAULT_TIMEOUT_SECONDS
        try:
            seconds = float(setting.value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise setting.refuse("expected a number of seconds above 0")
        return seconds

    def read_headers(self) -> dict[str, str]:
        setting = self.find("HEADERS")
        if setting is None:
            return {}
        # Checked here, since the SDK would log a malformed header, and with it perhaps a secret.
        if not all(item.partition("=")[1] for item in setting.value.split(",") if item.strip()):
            raise setting.refuse("expected name=value pairs, separated by commas, values percent-encoded")
        return dict(parse_env_headers(setting.value, liberal=True))

    def read_choice(self, name: str, choices: Mapping[str, Choice], default: str) -> Choice:
        setting = self.find(name)
        if setting is None:
            return choices[default]
        choice = choices.get(setting.value.lower())
        if choice is None:
            raise setting.refuse(f"expected one of {', '.join(choices)}")
        return choice


def _read_grpc(settings: _Settings) -> dict[str, Any]:
    setting = settings.find("ENDPOINT")
    endpoint = setting.value if setting else _DEFAULT_ENDPOINTS[GRPC]
    scheme = _scheme_of(endpoint)
    if setting and scheme not in ("http", "https", "unix", ""):
        raise setting.refuse("expected http://, https://, unix: or host:port")
    is_insecure = scheme in ("http", "unix") or (scheme == "" and _says_insecure(settings))
    credentials = (
        None
        if is_insecure
        else grpc.ssl_channel_credentials(
            settings.read_file("CERTIFICATE"),
            settings.read_file("CLIENT_KEY"),
            settings.read_file("CLIENT_CERTIFICATE"),
        )
    )
    return {
        "endpoint": endpoint,
        "insecure": is_insecure,
        "credentials": credentials,
        "headers": settings.read_headers(),
        "timeout": settings.read_timeout_seconds(),
        "compression": settings.read_choice("COMPRESSION", _GRPC_COMPRESSION, "none"),
    }


def _read_http(settings: _Settings) -> dict[str, Any]:
    setting = settings.find("ENDPOINT")
    endpoint = setting.value if setting else _DEFAULT_ENDPOINTS[HTTP_PROTOBUF]
    if setting and _scheme_of(endpoint) not in ("http", "https"):
        raise setting.refuse("expected http:// or https://")
    if not (setting and setting.is_for_signal):
        endpoint = f"{endpoint.removesuffix('/')}/v1/{settings.signal.lower()}"
    return {
        "endpoint": endpoint,
        "certificate_file": settings.find_file("CERTIFICATE"),
        "client_key_file": settings.find_file("CLIENT_KEY"),
        "client_certificate_file": settings.find_file("CLIENT_CERTIFICATE"),
        "headers": settings.read_headers(),
        "timeout": settings.read_timeout_seconds(),
        "compression": settings.read_choice("COMPRESSION", _HTTP_COMPRESSION, "none"),
    }


def _scheme_of(endpoint: str) -> str:
    """The scheme of an endpoint, empty for plain `host:port`."""
    return urlsplit(endpoint).scheme if "://" in endpoint or endpoint.startswith("unix:") else ""


def _says_insecure(settings: _Settings) -> bool:
    return settings.read_choice("INSECURE", {"true": True, "false": False}, "false")
