"""The SDK's exporters, where "yes, but not these" and "look elsewhere" are no success.

OTLP lets a receiver answer an export with success and say in the answer that it has rejected some of the spans. The SDK's exporters do
not read that answer, and take a redirection over HTTP for success too; either way spans would be gone and nobody would know.
They are also given our own encoding, which is the same as theirs and several times as fast.
"""

from collections.abc import Sequence
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from hosting.telemetry.encoding import encode_spans
from hosting.telemetry.errors import SpansRefused

_PROTOBUF: Final = "application/x-protobuf"


class Answers:
    """What a receiver has answered to the export that is under way."""

    def __init__(self) -> None:
        self._rejected = 0

    def begin(self) -> None:
        """An export begins."""
        self._rejected = 0

    def note(self, answer: ExportTraceServiceResponse) -> None:
        """Take note of an answer."""
        self._rejected += max(0, answer.partial_success.rejected_spans)

    def verify(self) -> None:
        """Raise SpansRefused where the receiver has rejected a span."""
        if self._rejected:
            raise SpansRefused(self._rejected)


class ConfirmingGrpcExporter(GrpcSpanExporter):
    """OTLP over gRPC; `export` raises SpansRefused. Takes the SDK exporter's arguments."""

    _channel: Any

    def __init__(self, **options: Any) -> None:
        self._answers = Answers()
        super().__init__(**options)

    def _initialize_channel_and_stub(self) -> None:
        # Also called after a connection was lost.
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _NotingStub(self._client, self._answers)

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return encode_spans(data)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        self._answers.begin()
        result = super().export(spans)
        self._answers.verify()
        if result is not SpanExportResult.SUCCESS and not self._shutdown:
            # A connection that a network has swallowed would be believed in for many minutes; the SDK makes a new one only where the
            # other side says that it is gone.
            self._channel.close()
            self._initialize_channel_and_stub()
        return result


class ConfirmingHttpExporter(HttpSpanExporter):
    """OTLP over HTTP; `export` raises SpansRefused. Takes the SDK exporter's arguments, but for the session."""

    def __init__(self, **options: Any) -> None:
        self._answers = Answers()
        super().__init__(session=_NotingSession(self._answers), **options)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        self._answers.begin()
        result = self._client.export(encode_spans(spans).SerializeToString())
        self._answers.verify()
        return SpanExportResult.SUCCESS if result.success else SpanExportResult.FAILURE


class _NotingStub:
    """A stub of the collector's service whose answers are noted."""

    def __init__(self, stub: Any, answers: Answers) -> None:
        self._stub = stub
        self._answers = answers

    def Export(self, **call: Any) -> ExportTraceServiceResponse:  # noqa: N802 - gRPC's name
        answer: ExportTraceServiceResponse = self._stub.Export(**call)
        self._answers.note(answer)
        return answer


class OwnCertificateSession(requests.Session):
    """Keeps to the certificate it was given: by itself the library prefers what REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE name."""

    def merge_environment_settings(self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """What the library would have taken from the environment, but for the certificate."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _NotingSession(OwnCertificateSession):
    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self._answers = answers

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = super().send(request, **options)
        if 300 <= response.status_code < 400:
            raise requests.exceptions.InvalidURL("the receiver is elsewhere: a redirection is not followed")
        is_protobuf = response.headers.get("content-type", "").partition(";")[0].strip().lower() == _PROTOBUF
        if response.ok and is_protobuf:
            try:
                self._answers.note(ExportTraceServiceResponse.FromString(response.content))
            except DecodeError:
                raise requests.exceptions.ContentDecodingError("the answer is not OTLP") from None
        return response
