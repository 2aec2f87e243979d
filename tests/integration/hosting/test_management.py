"""The management port over real connections: what probes are told, and what hostile clients can do, which is nothing."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import hosting.management_http
from hosting.addresses import TcpAddress, UnixAddress
from hosting.errors import SettingsError, SocketInUse
from hosting.management import Management
from hosting.management_http import MAX_CONNECTIONS
from hosting.metrics import Counter, Family, Kind
from hosting.settings.server import ManagementSettings
from tests.fakes.certificates import MountedSecret, make_authority
from tests.fakes.http_probe import ask

CALLS = Family("calls_total", Kind.COUNTER, "Calls.")
LOCAL = {"address": "127.0.0.1:0"}


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[Management]:
    management = Management(ManagementSettings.model_validate(settings or LOCAL))
    await management.start()
    try:
        yield management
    finally:
        await management.stop()


def tcp(management: Management) -> TcpAddress:
    assert isinstance(management.address, TcpAddress)
    return management.address


async def test_probes_follow_the_programs_life() -> None:
    checks = {"data": False, "journal": True}
    async with listening() as management:
        assert (await ask(management.address, "/livez")).status == 200
        ready = await ask(management.address, "/readyz")
        assert (ready.status, ready.json) == (503, {"status": "not ready", "failing": ["starting"]})
        management.watch(lambda: checks)
        assert (await ask(management.address, "/readyz")).json["failing"] == ["data"]
        assert (await ask(management.address, "/startupz")).status == 503
        checks["data"] = True
        ready = await ask(management.address, "/readyz")
        assert (ready.status, ready.json) == (200, {"status": "ready", "failing": []})
        checks["journal"] = False
        assert (await ask(management.address, "/readyz")).json["failing"] == ["journal"]
        assert (await ask(management.address, "/startupz")).json == {"status": "started"}
        checks["journal"] = True
        management.drain()
        assert (await ask(management.address, "/readyz")).json["failing"] == ["draining"]
        assert (await ask(management.address, "/livez")).status == 200


async def test_metrics_are_served_in_the_format_that_is_asked_for() -> None:
    async with listening() as management:
        management.registry.add(Counter(CALLS))
        plain = await ask(management.address, "/metrics")
        assert (plain.status, plain.headers["content-type"].split(";")[0]) == (200, "text/plain")
        assert "calls_total 0.0" in plain.text
        modern = await ask(management.address, "/metrics", accept="application/openmetrics-text")
        assert modern.headers["content-type"].split(";")[0] == "application/openmetrics-text"
        assert modern.text.endswith("# EOF\n")


async def test_port_says_nothing_of_itself_and_takes_nothing_but_get() -> None:
    async with listening() as management:
        reply = await ask(management.address, "/livez")
        assert "server" not in reply.headers
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await ask(management.address, "/metrics", method=method, body=b"x" * 100_000)).status == 405
        assert (await ask(management.address, "/")).status == 404
        assert (await ask(management.address, "/readyz?x=1")).status == 503


async def test_head_of_any_size_is_refused_and_the_port_goes_on() -> None:
    async with listening() as management:
        address = tcp(management)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            assert b"400" in await reader.read(64)
        writer.close()
        assert (await ask(address, "/livez")).status == 200


async def test_probe_is_answered_while_others_hold_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as management:
        address = tcp(management)
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(2 * MAX_CONNECTIONS)]
        for _, writer in held[-MAX_CONNECTIONS:]:
            writer.write(b"GET /livez HTTP/1.1\r\n")
        assert (await ask(address, "/livez")).status == 200
        # Whoever came first made way.
        assert management._server is not None
        assert len(management._server.server_state.connections) <= MAX_CONNECTIONS
        with contextlib.suppress(ConnectionError):
            assert await held[0][0].read() == b""
        for _, writer in held:
            writer.close()


async def test_connection_that_sends_slowly_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting.management_http, "CONNECTION_SECONDS", 0.05)
    async with listening() as management:
        address = tcp(management)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /livez HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_signals_stay_with_the_program() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with listening():
        assert signal.getsignal(signal.SIGTERM) is before


async def test_unix_socket_is_for_its_group_and_goes_with_the_port(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    async with listening(address=f"unix://{path}") as management:
        assert path.stat().st_mode & 0o777 == 0o660
        assert (await ask(UnixAddress(path), "/livez")).status == 200
        with pytest.raises(SocketInUse):
            await Management(ManagementSettings.model_validate({"address": f"unix://{path}"})).start()
        assert management.address == UnixAddress(path)
    assert not path.exists()


async def test_taken_port_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SocketInUse):
            await Management(ManagementSettings.model_validate({"address": address})).start()


async def test_without_settings_nothing_listens() -> None:
    management = Management()
    await management.start()
    assert management.address is None
    await management.stop()


async def test_tls_answers_only_who_shows_a_certificate_and_takes_up_a_renewed_one(tmp_path: Path) -> None:
    authority, mounted = make_authority(tmp_path / "ca"), MountedSecret(tmp_path / "mounted")
    mounted.put(authority.issue_server("first"), authority)
    client = authority.issue("client", dns=["prometheus"])
    async with listening(address="localhost:0", tls=mounted.settings) as management:
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        with pytest.raises(OSError, match=r"(?i)certificate|eof|reset|closed|alert"):
            await ask(management.address, "/livez", tls=context)
        context.load_cert_chain(client.cert_file, client.key_file)
        assert (await ask(management.address, "/livez", tls=context)).status == 200
        assert management.certificate is not None
        assert management.certificate.seconds_left > 0
        before = await serial_of(management, context)
        mounted.put(authority.issue_server("second"), authority)
        await management._renew()
        assert await serial_of(management, context) != before


async def serial_of(management: Management, context: ssl.SSLContext) -> str:
    """Of the certificate that a new connection is shown."""
    address = tcp(management)
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    serial = str(writer.get_extra_info("peercert")["serialNumber"])
    writer.close()
    return serial


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "0.0.0.0:8080"},
        {"address": "pod.example:8080"},
        {"address": "unix:///run/m.sock", "tls": {"cert_file": "c", "key_file": "k", "ca_file": "a"}},
        {"address": "0.0.0.0:8080", "public": True, "tls": {"cert_file": "c", "key_file": "k", "ca_file": "a"}},
    ],
)
def test_settings_that_open_the_port_by_mistake_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((SettingsError, ValueError), match=r"tls|public"):
        ManagementSettings.model_validate(settings)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "unix:///run/m.sock"])
def test_settings_local_addresses_need_nothing_else(address: str) -> None:
    assert ManagementSettings.model_validate({"address": address}).public is False
