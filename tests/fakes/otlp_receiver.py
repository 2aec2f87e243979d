"""A real OTLP receiver of spans and metrics, over gRPC or HTTP, that keeps what it gets in memory.

It can be stopped and started again on the same port, as a collector is that goes away. As a program it serves until it is told to stop::

    python -m tests.fakes.otlp_receiver --protocol grpc --port 0 --print-port --spans FILE
"""

import argparse
import gzip
import json
import signal
import ssl
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import add_MetricsServiceServicer_to_server
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.fakes.otlp_metrics import MetricStore

PROTOCOLS = ("grpc", "http/protobuf")


@dataclass(frozen=True)
class ReceivedEvent:
    """One event of a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ReceivedSpan:
    """One span as it came; ids in hexadecimal, `parent_span_id` empty without a parent, `kind` as `SERVER`, `INTERNAL`, …."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    events: tuple[ReceivedEvent, ...]
    dropped: int
    resource: Mapping[str, Any]


class SpanStore:
    """What a receiver has got. It outlives the receiver's stops, and may be shared by several.

    Args:
        on_span: Told of each span.
        rejects: Says which spans a receiver refuses in its answer to an export that it takes.
        seconds_per_request: How long it takes over each request: a slow receiver.
    """

    def __init__(
        self,
        on_span: Callable[[ReceivedSpan], None] | None = None,
        *,
        rejects: Callable[[ReceivedSpan], bool] = lambda _: False,
        seconds_per_request: float = 0.0,
    ) -> None:
        self._rejects = rejects
        self._seconds_per_request = seconds_per_request
        self._never = threading.Event()
        self._changed = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self._metadata: list[dict[str, str]] = []
        self._on_span = on_span

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Every span in the order received, repeated ones too."""
        with self._changed:
            return list(self._spans)

    @property
    def span_count(self) -> int:
        """How many spans there are, repeated ones too; cheaper than a look at them."""
        with self._changed:
            return len(self._spans)

    @property
    def metadata(self) -> list[dict[str, str]]:
        """The headers of each request, names in lower case."""
        with self._changed:
            return list(self._metadata)

    def decision_ids(self) -> list[str]:
        """The id of every decision received, from spans of one and from the events of batches."""
        ids = []
        for span in self.spans:
            if not span.name.startswith("consent.check"):
                continue
            carriers = span.events if "consent.batch.size" in span.attributes else (span,)
            ids += [carrier.attributes["consent.decision.id"] for carrier in carriers]
        return ids

    def wait_until(self, condition: Callable[["SpanStore"], bool], timeout_seconds: float = 20.0) -> None:
        """Come back once `condition(store)` holds after something was received, at once if it does already.

        Raises:
            TimeoutError: It did not hold in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_seconds):
                raise TimeoutError(f"{len(self._spans)} spans were received, not what was waited for")

    def add(
        self, request: ExportTraceServiceRequest, metadata: Iterable[tuple[str, str | bytes]]
    ) -> ExportTraceServiceResponse:
        """Keep the spans of one request, and answer it."""
        self._never.wait(self._seconds_per_request)
        sent = list(read_spans(request))
        spans = [span for span in sent if not self._rejects(span)]
        with self._changed:
            self._spans += spans
            self._metadata.append({name.lower(): str(value) for name, value in metadata})
            for span in spans if self._on_span else ():
                if self._on_span:
                    self._on_span(span)
            self._changed.notify_all()
        answer = ExportTraceServiceResponse()
        if len(spans) < len(sent):
            answer.partial_success.rejected_spans = len(sent) - len(spans)
        return answer


class OtlpReceiver(Protocol):
    """Both kinds of receiver."""

    store: SpanStore
    metrics: MetricStore

    @property
    def port(self) -> int:
        """The port, the same over all starts."""
        ...

    @property
    def environ(self) -> dict[str, str]:
        """The standard variables that send spans here."""
        ...

    def start(self) -> None:
        """Listen."""
        ...

    def stop(self) -> None:
        """Go away; requests under way are broken off."""
        ...


@dataclass(frozen=True)
class ServerCertificate:
    """PEM files of a receiver that wants TLS; with `client_ca_file` it wants a certificate of each client too."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class GrpcReceiver(TraceServiceServicer):
    """OTLP over gRPC on the loopback interface."""

    def __init__(
        self,
        store: SpanStore | None = None,
        *,
        port: int = 0,
        certificate: ServerCertificate | None = None,
        max_request_bytes: int = 4 << 20,
    ) -> None:
        self.store = store or SpanStore()
        self.metrics = MetricStore()
        self._port = port
        self._certificate = certificate
        self._max_request_bytes = max_request_bytes
        self._server: grpc.Server | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def environ(self) -> dict[str, str]:
        scheme = "https" if self._certificate else "http"
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{scheme}://127.0.0.1:{self._port}",
        }

    def start(self) -> None:
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", self._max_request_bytes)]
        self._server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="otlp-receiver"), options=options)
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        add_MetricsServiceServicer_to_server(self.metrics, self._server)  # type: ignore[no-untyped-call]
        address = f"127.0.0.1:{self._port}"
        if self._certificate is None:
            self._port = self._server.add_insecure_port(address)
        else:
            self._port = self._server.add_secure_port(address, _grpc_credentials(self._certificate))
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        return self.store.add(request, context.invocation_metadata())


class HttpReceiver:
    """OTLP over HTTP with protobuf bodies, on the loopback interface."""

    def __init__(
        self, store: SpanStore | None = None, *, port: int = 0, certificate: ServerCertificate | None = None
    ) -> None:
        self.store = store or SpanStore()
        self.metrics = MetricStore()
        self._port = port
        self._certificate = certificate
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def environ(self) -> dict[str, str]:
        scheme = "https" if self._certificate else "http"
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{scheme}://127.0.0.1:{self._port}",
        }

    def start(self) -> None:
        store, metrics = self.store, self.metrics

        class Handler(_HttpHandler):
            spans_store = store
            metric_store = metrics

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._certificate is not None:
            self._server.socket = _tls_context(self._certificate).wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


class _HttpHandler(BaseHTTPRequestHandler):
    spans_store: SpanStore
    metric_store: MetricStore

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.headers.get("content-type") != "application/x-protobuf":
            self.send_error(404)
            return
        try:
            answer = self._take(_decompress(body, self.headers.get("content-encoding", "")))
        except (DecodeError, OSError, zlib.error):
            self.send_error(400)
            return
        except LookupError:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _take(self, body: bytes) -> bytes:
        match self.path:
            case "/v1/traces":
                request = ExportTraceServiceRequest.FromString(body)
                return self.spans_store.add(request, self.headers.items()).SerializeToString()
            case "/v1/metrics":
                self.metric_store.add(ExportMetricsServiceRequest.FromString(body))
                return ExportMetricsServiceResponse().SerializeToString()
            case _:
                raise LookupError(self.path)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing for each request."""


def make_receiver(protocol: str, store: SpanStore | None = None, *, port: int = 0) -> OtlpReceiver:
    """A receiver for one of `PROTOCOLS`, not yet started."""
    return GrpcReceiver(store, port=port) if protocol == "grpc" else HttpReceiver(store, port=port)


def read_spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    """The spans of a request, in order."""
    for resource_spans in request.resource_spans:
        resource = _read_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _read_span(span, resource)


def _read_span(span: Span, resource: Mapping[str, Any]) -> ReceivedSpan:
    events = (ReceivedEvent(each.name, each.time_unix_nano, _read_attributes(each.attributes)) for each in span.events)
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_read_attributes(span.attributes),
        events=tuple(events),
        dropped=span.dropped_attributes_count + span.dropped_events_count,
        resource=resource,
    )


def _read_attributes(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {attribute.key: _read_value(attribute.value) for attribute in attributes}


def _read_value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_read_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _grpc_credentials(certificate: ServerCertificate) -> grpc.ServerCredentials:
    pair = (certificate.key_file.read_bytes(), certificate.cert_file.read_bytes())
    client_ca = certificate.client_ca_file.read_bytes() if certificate.client_ca_file else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _tls_context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    if certificate.client_ca_file:
        context.load_verify_locations(certificate.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="grpc")
    parser.add_argument("--port", type=int, default=0, help="0 has the system choose one")
    parser.add_argument("--print-port", action="store_true", help="print the port, one line, once it listens")
    parser.add_argument("--spans", type=Path, help="append each span to this file, one JSON object a line")
    options = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with open(options.spans or "/dev/null", "a", encoding="utf-8", buffering=1) as file:  # noqa: PTH123

        def write_span(span: ReceivedSpan) -> None:
            file.write(json.dumps(asdict(span)) + "\n")

        receiver = make_receiver(options.protocol, SpanStore(write_span), port=options.port)
        receiver.start()
        if options.print_port:
            print(receiver.port, flush=True)
        signal.sigwait(signals)
        receiver.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
