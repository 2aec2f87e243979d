"""A server that a malformed call ends comes back; one that is stopped does not."""

import asyncio
import socket
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from hosting.addresses import parse_address
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from hosting.servers import KeptServer
from tests.fakes.malformed_call import send_malformed_call

SECONDS = 20.0


def keep(target: str) -> KeptServer:
    def make() -> grpc.aio.Server:
        server = grpc.aio.server(options=EXCLUSIVE_PORT_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        bind_listener(server, parse_address(target))
        return server

    return KeptServer(make)


async def ask(target: str) -> int:
    async with grpc.aio.insecure_channel(target, options=[("grpc.max_reconnect_backoff_ms", 100)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    response = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
                except grpc.aio.AioRpcError:
                    # A call that was under way when the server ended.
                    continue
                status: int = response.status
                return status


@pytest.fixture
def target(tmp_path: Path, unused_port: int, request: pytest.FixtureRequest) -> str:
    return f"127.0.0.1:{unused_port}" if request.param == "tcp" else f"unix://{tmp_path}/s.sock"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("target", ["tcp", "unix"], indirect=True)
async def test_server_that_a_malformed_call_ends_comes_back_each_time(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = keep(target)
    await server.start()
    for number in range(1, 4):
        await send_malformed_call(target)
        async with asyncio.timeout(SECONDS):
            while sum("has ended a server" in record.message for record in caplog.records) < number:
                await asyncio.sleep(0.005)
        assert await ask(target) == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


@pytest.mark.parametrize("target", ["tcp"], indirect=True)
async def test_server_that_is_stopped_stays_stopped(target: str) -> None:
    server = keep(target)
    await server.start()
    assert await ask(target) == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*target.split(":"))
