"""What the shipper is for: a receiver that is away, slow, choosy or elsewhere, and a shipper that is killed, and no decision is missing."""

import asyncio
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.fakes.faulty_network import faulty_network
from tests.fakes.journal_material import make_record
from tests.fakes.otlp_receiver import PROTOCOLS, ReceivedSpan, SpanStore, make_receiver
from tests.integration.sidecar.station import ShipperProcess, Station

CATCH_UP_SECONDS = 120.0


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path / "journal", segment_max_bytes=1 << 20)
    yield made
    made.close()


def distinct(store: SpanStore) -> int:
    """Decisions received; a repetition counts once."""
    return len(set(store.decision_ids()))


def assert_repetitions_are_recognisable(store: SpanStore) -> None:
    first: dict[tuple[str, str], ReceivedSpan] = {}
    for span in store.spans:
        assert first.setdefault((span.trace_id, span.span_id), span) == span


def wait_for_count(store: SpanStore, count: int) -> None:
    """Wait until so many spans were received, the first ones and repetitions; then look closely."""
    store.wait_until(lambda known: known.span_count >= count, CATCH_UP_SECONDS)
    store.wait_until(lambda known: distinct(known) >= count, CATCH_UP_SECONDS)


@pytest.mark.parametrize("protocol", ["grpc", pytest.param("http/protobuf", marks=pytest.mark.long(seconds=10))])
def test_receiver_away_for_ten_of_twelve_parts_misses_no_decision(station: Station, protocol: str) -> None:
    # Twelve seconds at 500 decisions a second, without waiting for them to pass.
    receiver = make_receiver(protocol, SpanStore())
    receiver.start()
    station.start_shipper(receiver.environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"})
    station.append(range(500))
    wait_for_count(receiver.store, 300)
    receiver.stop()
    station.append(range(500, 5_500))
    assert station.journal.backlog_records >= 5_000
    receiver.start()
    station.append(range(5_500, 6_000))
    wait_for_count(receiver.store, 6_000)
    assert_repetitions_are_recognisable(receiver.store)
    station.stop_shipper()
    receiver.stop()
    assert (station.shipped(), station.journal.backlog_records) == (6_000, 0)


@pytest.mark.parametrize(
    ("decisions", "items"), [(5_000, 1), pytest.param(100_000, 1, marks=pytest.mark.long(seconds=60)), (5_000, 1_000)]
)
def test_burst_at_a_slow_receiver_misses_no_decision(station: Station, decisions: int, items: int) -> None:
    receiver = make_receiver("grpc", SpanStore(seconds_per_request=0.05))
    receiver.start()
    station.start_shipper(receiver.environ)
    station.append(range(0, decisions, items), items)
    receiver.store.wait_until(lambda store: store.span_count >= decisions // items, CATCH_UP_SECONDS)
    receiver.store.wait_until(lambda store: distinct(store) == decisions, CATCH_UP_SECONDS)
    assert len(receiver.store.decision_ids()) == decisions
    station.stop_shipper()
    receiver.stop()


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.long(seconds=90))])
def test_shipper_killed_again_and_again_under_load_misses_no_decision(station: Station, kills: int) -> None:
    receiver = make_receiver("grpc", SpanStore())
    receiver.start()
    load = Load(station)
    shipper = ShipperProcess(station.directory, receiver.environ)
    for _ in range(kills):
        before = receiver.store.span_count
        load.wait_for(200)
        # Another moment of its work each time: it is killed as soon as something of this round has come.
        receiver.store.wait_until(lambda store, before=before: store.span_count > before, CATCH_UP_SECONDS)  # type: ignore[misc]
        shipper.kill()
        shipper = ShipperProcess(station.directory, receiver.environ)
    made = load.stop()
    wait_for_count(receiver.store, made)
    assert distinct(receiver.store) == made
    assert_repetitions_are_recognisable(receiver.store)
    shipper.kill()
    receiver.stop()


class Load:
    """Decisions that are recorded one after the other until `stop`, with a short pause between groups."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._made = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, more: int) -> None:
        """Wait until so many more were recorded."""
        with self._changed:
            wanted = self._made + more
            assert self._changed.wait_for(lambda: self._made >= wanted, CATCH_UP_SECONDS)

    def stop(self) -> int:
        """How many there are."""
        self._stopped.set()
        self._thread.join()
        return self._made

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            for number in range(self._made, self._made + 20):
                self._station.journal.append_now(make_record(number), 1)
            with self._changed:
                self._made += 20
                self._changed.notify_all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_receiver_that_rejects_spans_in_its_answer_gets_them_again(station: Station, protocol: str) -> None:
    is_choosy = threading.Event()
    is_choosy.set()
    store = SpanStore(rejects=lambda span: is_choosy.is_set() and span.attributes["consent.decision.effect"] == "DENY")
    receiver = make_receiver(protocol, store)
    receiver.start()
    station.append(range(30))
    station.start_shipper(receiver.environ)
    # What it took came more than once by now, since what it rejected was sent again.
    store.wait_until(lambda store: store.span_count > 40)
    assert distinct(store) < 30
    is_choosy.clear()
    store.wait_until(lambda store: distinct(store) == 30)
    station.stop_shipper()
    receiver.stop()
    assert station.shipped() == 30
    assert_repetitions_are_recognisable(store)


class _Elsewhere(BaseHTTPRequestHandler):
    """Sends every request somewhere else, as a proxy does that wants TLS; or answers what is not OTLP."""

    status: int
    asked: threading.Semaphore

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b"<html>" if self.status == 200 else b""
        self.send_response(self.status)
        self.send_header("location", "https://elsewhere.example/v1/traces")
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.asked.release()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing for each request."""


@pytest.mark.parametrize("status", [301, 307, 200])
def test_answer_that_is_no_confirmation_counts_as_none(station: Station, status: int) -> None:
    asked = threading.Semaphore(0)
    handler = type("Handler", (_Elsewhere,), {"status": status, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    station.append(range(3))
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    station.start_shipper({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    # Asked again after the first answer: that one did not count.
    for _ in range(2):
        assert asked.acquire(timeout=CATCH_UP_SECONDS)
    station.stop_shipper()
    server.shutdown()
    thread.join()
    server.server_close()
    assert station.shipped() == 0


def test_switches_of_opentelemetry_thin_no_decision(station: Station) -> None:
    switches = {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1",
    }
    receiver = make_receiver("grpc", SpanStore())
    receiver.start()
    station.append(range(10))
    station.append(range(1_000, 1_001), items=1_200)
    shipper = ShipperProcess(station.directory, receiver.environ | switches)
    receiver.store.wait_until(lambda store: distinct(store) == 1_210, CATCH_UP_SECONDS)
    shipper.kill()
    receiver.stop()
    assert all(len(span.attributes) > 1 and not span.dropped for span in receiver.store.spans)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_connection_that_a_network_has_swallowed_is_given_up(station: Station, protocol: str) -> None:
    receiver = make_receiver(protocol, SpanStore())
    receiver.start()
    async with faulty_network(receiver.port, random.Random(1)) as network:
        environ = receiver.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{network.port}"}
        station.start_shipper(environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"})
        station.append(range(3))
        await asyncio.to_thread(receiver.store.wait_until, lambda store: distinct(store) == 3)
        network.strand_connections()
        station.append(range(3, 6))
        await asyncio.to_thread(receiver.store.wait_until, lambda store: distinct(store) == 6)
        await asyncio.to_thread(station.stop_shipper)
    receiver.stop()
