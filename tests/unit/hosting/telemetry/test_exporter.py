"""Which exporter the standard variables ask for, and what stops the start. That they work is in tests/integration."""

from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter

from hosting.telemetry.errors import TelemetryMisconfigured
from hosting.telemetry.exporter import build_exporter

PREFIX = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, GrpcSpanExporter),
        ({PREFIX + "PROTOCOL": "grpc"}, GrpcSpanExporter),
        ({PREFIX + "PROTOCOL": "http/protobuf"}, HttpSpanExporter),
        ({PREFIX + "PROTOCOL": "http/protobuf", TRACES + "PROTOCOL": "grpc"}, GrpcSpanExporter),
        ({PREFIX + "PROTOCOL": "", TRACES + "PROTOCOL": " http/protobuf "}, HttpSpanExporter),
    ],
)
def test_build_exporter_follows_the_protocol(environ: dict[str, str], kind: type[SpanExporter]) -> None:
    exporter = build_exporter(environ)
    assert isinstance(exporter, kind)
    exporter.shutdown()


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({PREFIX + "ENDPOINT": "http://collector.example:9/"}, "http://collector.example:9/v1/traces"),
        ({PREFIX + "ENDPOINT": "https://collector.example/otlp"}, "https://collector.example/otlp/v1/traces"),
        ({TRACES + "ENDPOINT": "http://collector.example/in"}, "http://collector.example/in"),
    ],
)
def test_build_exporter_http_endpoint(environ: dict[str, str], endpoint: str) -> None:
    exporter = build_exporter({PREFIX + "PROTOCOL": "http/protobuf"} | environ)
    assert vars(exporter)["_endpoint"] == endpoint
    exporter.shutdown()


@pytest.mark.parametrize(
    ("environ", "endpoint", "is_insecure"),
    [
        ({}, "localhost:4317", True),
        ({PREFIX + "ENDPOINT": "http://collector.example:9"}, "collector.example:9", True),
        ({PREFIX + "ENDPOINT": "https://collector.example:9"}, "collector.example:9", False),
        ({PREFIX + "ENDPOINT": "collector.example:9"}, "collector.example:9", False),
        ({PREFIX + "ENDPOINT": "collector.example:9", PREFIX + "INSECURE": "TRUE"}, "collector.example:9", True),
        (
            {PREFIX + "ENDPOINT": "https://collector.example:9", TRACES + "INSECURE": "true"},
            "collector.example:9",
            False,
        ),
        ({TRACES + "ENDPOINT": "unix:///run/otlp.sock"}, "unix:///run/otlp.sock", True),
    ],
)
def test_build_exporter_grpc_endpoint(environ: dict[str, str], endpoint: str, is_insecure: bool) -> None:
    exporter = build_exporter(environ)
    assert isinstance(exporter, GrpcSpanExporter)
    assert (exporter._endpoint, exporter._insecure) == (endpoint, is_insecure)
    exporter.shutdown()


def test_build_exporter_passes_headers_and_timeout_on() -> None:
    environ = {PREFIX + "HEADERS": "Authorization=Bearer%20s3cret,x-team=privacy", TRACES + "TIMEOUT": "3.5"}
    exporter = build_exporter(environ)
    assert dict(vars(exporter)["_headers"]) == {"authorization": "Bearer s3cret", "x-team": "privacy"}
    assert vars(exporter)["_timeout"] == 3.5
    exporter.shutdown()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENDPOINT", "ftp://secret.example"),
        ("HEADERS", "secret"),
        ("TIMEOUT", "secret"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "-1"),
        ("TIMEOUT", "nan"),
        ("TIMEOUT", "inf"),
        ("COMPRESSION", "secret"),
    ],
)
def test_build_exporter_refuses_what_it_cannot_follow_without_showing_it(protocol: str, name: str, value: str) -> None:
    with pytest.raises(TelemetryMisconfigured) as caught:
        build_exporter({PREFIX + "PROTOCOL": protocol, TRACES + name: value})
    assert TRACES + name in str(caught.value)
    assert "secret" not in str(caught.value)


def test_build_exporter_refuses_an_unknown_protocol() -> None:
    with pytest.raises(TelemetryMisconfigured, match="expected one of grpc, http/protobuf"):
        build_exporter({PREFIX + "PROTOCOL": "http/json"})


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("name", ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"])
def test_build_exporter_refuses_a_missing_file(protocol: str, name: str, tmp_path: Path) -> None:
    environ = {
        PREFIX + "PROTOCOL": protocol,
        PREFIX + "ENDPOINT": "https://collector.example:9",
        PREFIX + name: str(tmp_path / "missing.pem"),
    }
    with pytest.raises(TelemetryMisconfigured, match="cannot be read"):
        build_exporter(environ)
