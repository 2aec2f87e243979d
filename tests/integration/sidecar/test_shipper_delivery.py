"""Journal to receiver, over the SDK's real exporters: nothing missing, whatever goes away in between."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosting.development_ca import create_development_ca, issue_certificate
from sidecar.journal.position import POSITION_FILE_NAME
from tests.fakes.journal_material import CALLER_SPAN_ID, TRACE_ID
from tests.fakes.otlp_receiver import (
    PROTOCOLS,
    GrpcReceiver,
    HttpReceiver,
    OtlpReceiver,
    ServerCertificate,
    SpanStore,
    make_receiver,
)
from tests.integration.sidecar.station import STOP_WITHIN_SECONDS, Station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture(params=PROTOCOLS)
def receiver(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    made = make_receiver(request.param)
    made.start()
    yield made
    made.stop()


def test_shipper_delivers_every_decision_once_while_nothing_fails(receiver: OtlpReceiver, station: Station) -> None:
    station.start_shipper(receiver.environ | {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=web-1"})
    station.append(range(300))
    station.append(range(1_000, 1_002), items=1_200)
    receiver.store.wait_until(lambda store: len(store.decision_ids()) >= 2_700)
    assert len(set(receiver.store.decision_ids())) == len(receiver.store.decision_ids()) == 2_700
    span = receiver.store.spans[0]
    assert (span.trace_id, span.parent_span_id) == (TRACE_ID.hex(), CALLER_SPAN_ID.hex())
    assert span.resource["service.name"] == "consentry-sidecar"
    assert span.resource["service.instance.id"] == "pod-1"
    assert span.resource["k8s.pod.name"] == "web-1"
    station.stop_shipper()
    assert station.shipped() == 2_700
    assert station.journal.backlog_records == 0


def test_shipper_delivers_a_new_decision_soon_when_idle(receiver: OtlpReceiver, station: Station) -> None:
    station.start_shipper(receiver.environ)
    station.append(range(1))
    receiver.store.wait_until(lambda store: len(store.spans) == 1)
    station.append(range(1, 2))
    receiver.store.wait_until(lambda store: len(store.spans) == 2, timeout_seconds=5)


def test_shipper_catches_up_after_the_receiver_was_away(receiver: OtlpReceiver, station: Station) -> None:
    station.start_shipper(receiver.environ)
    station.append(range(100))
    receiver.store.wait_until(lambda store: len(set(store.decision_ids())) == 100)
    receiver.stop()
    station.append(range(100, 600))
    assert station.journal.backlog_records >= 500
    receiver.start()
    receiver.store.wait_until(lambda store: len(set(store.decision_ids())) == 600)
    assert station.journal.recorded_decisions == 600


def test_shipper_started_before_its_receiver_waits_for_it(receiver: OtlpReceiver, station: Station) -> None:
    receiver.stop()
    station.append(range(50))
    station.start_shipper(receiver.environ)
    receiver.start()
    receiver.store.wait_until(lambda store: len(set(store.decision_ids())) == 50)


def test_shipper_restarted_again_and_again_misses_nothing_and_repeats_recognisably(
    receiver: OtlpReceiver, station: Station
) -> None:
    for start in range(0, 400, 100):
        station.append(range(start, start + 100))
        station.start_shipper(receiver.environ)
        count = start + 30
        receiver.store.wait_until(lambda store, count=count: len(set(store.decision_ids())) > count)  # type: ignore[misc]
        station.stop_shipper()
    station.start_shipper(receiver.environ)
    receiver.store.wait_until(lambda store: len(set(store.decision_ids())) == 400)
    spans = receiver.store.spans
    assert len({span.span_id for span in spans}) == 400
    assert {(span.span_id, span.attributes["consent.decision.id"]) for span in spans} == {
        (span.span_id, span.attributes["consent.decision.id"])
        for span in {span.span_id: span for span in spans}.values()
    }


def test_shipper_without_its_position_sends_the_same_spans_again(receiver: OtlpReceiver, station: Station) -> None:
    station.append(range(20))
    for round_number in (1, 2):
        station.start_shipper(receiver.environ)
        expected = 20 * round_number
        receiver.store.wait_until(lambda store, expected=expected: len(store.spans) == expected)  # type: ignore[misc]
        station.stop_shipper()
        (station.directory / POSITION_FILE_NAME).unlink()
    first, second = receiver.store.spans[:20], receiver.store.spans[20:]
    assert first == second


def test_shipper_reads_what_an_earlier_process_left(receiver: OtlpReceiver, station: Station) -> None:
    station.append(range(10))
    station.journal.close()
    station.journal = station.open_journal()
    station.append(range(10, 20))
    station.start_shipper(receiver.environ)
    receiver.store.wait_until(lambda store: len(store.spans) == 20)
    assert [span.end_ns for span in receiver.store.spans] == sorted(span.end_ns for span in receiver.store.spans)


def test_shipper_splits_what_a_receiver_finds_too_large(station: Station) -> None:
    receiver = GrpcReceiver(max_request_bytes=60_000)
    receiver.start()
    station.append(range(500))
    station.start_shipper(receiver.environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.3"})
    receiver.store.wait_until(lambda store: len(set(store.decision_ids())) == 500)
    receiver.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shipper_stops_soon_while_a_receiver_never_answers(station: Station, protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        station.append(range(3))
        station.start_shipper({"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        connection, _ = silent.accept()
        started = time.monotonic()
        station.stop_shipper()
        assert time.monotonic() - started < STOP_WITHIN_SECONDS
        connection.close()
    assert station.shipped() == 0


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_shipper_follows_headers_and_compression(receiver: OtlpReceiver, station: Station, compression: str) -> None:
    extra = {"OTEL_EXPORTER_OTLP_HEADERS": "x-team=data%20privacy", "OTEL_EXPORTER_OTLP_COMPRESSION": compression}
    station.append(range(5))
    station.start_shipper(receiver.environ | extra)
    receiver.store.wait_until(lambda store: len(store.spans) == 5)
    assert receiver.store.metadata[0]["x-team"] == "data privacy"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shipper_over_mutual_tls_whatever_other_authorities_the_environment_names(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    authority = create_development_ca(tmp_path)
    server = issue_certificate(tmp_path, "collector", san_ips=["127.0.0.1"])
    client = issue_certificate(tmp_path, "sidecar")
    # Another authority, which did not sign the receiver's certificate.
    (tmp_path / "others").mkdir()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(create_development_ca(tmp_path / "others").cert_file))
    certificate = ServerCertificate(server.cert_file, server.key_file, authority.cert_file)
    store = SpanStore()
    receiver: OtlpReceiver = (GrpcReceiver if protocol == "grpc" else HttpReceiver)(store, certificate=certificate)
    receiver.start()
    station.append(range(5))
    station.start_shipper(
        receiver.environ
        | {
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.cert_file),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(client.cert_file),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(client.key_file),
        }
    )
    store.wait_until(lambda store: len(store.spans) == 5)
    station.stop_shipper()
    receiver.stop()
    assert station.shipped() == 5
