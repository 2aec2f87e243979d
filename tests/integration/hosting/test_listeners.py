"""Real gRPC servers and the addresses that they bind."""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hosting.addresses import TcpAddress, UnixAddress, format_address
from hosting.errors import SocketInUse
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from hosting.sockets import SocketLease

METHOD = "/consentry.test.v1.TestService/Echo"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, whatever the test's name is."""
    with tempfile.TemporaryDirectory(prefix="listener") as name:
        yield Path(name)


def echo_server() -> grpc.aio.Server:
    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.aio.server(options=EXCLUSIVE_PORT_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("consentry.test.v1.TestService", handlers),))
    return server


async def ask(target: str) -> bytes:
    async with grpc.aio.insecure_channel(target) as channel:
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return await echo(b"hello", timeout=10)


async def test_bind_listener_port_zero_returns_the_port_it_got() -> None:
    server = echo_server()
    address = bind_listener(server, TcpAddress("127.0.0.1", 0))
    await server.start()

    assert isinstance(address, TcpAddress)
    assert address.port > 0
    assert await ask(format_address(address)) == b"hello"
    await server.stop(None)


async def test_bind_listener_port_in_use_is_refused_by_name() -> None:
    first, second = echo_server(), echo_server()
    address = bind_listener(first, TcpAddress("127.0.0.1", 0))

    with pytest.raises(SocketInUse, match=f"{format_address(address)}: cannot be bound"):
        bind_listener(second, address)

    # A server that is freed without a start and a stop logs itself as it goes, which another test's log would keep.
    for server in (first, second):
        await server.start()
        await server.stop(None)


async def test_leased_unix_socket_serves_with_its_mode_and_is_gone_afterwards(directory: Path) -> None:
    path = directory / "run" / "check.sock"
    server = echo_server()

    with SocketLease(path) as lease:
        assert bind_listener(server, UnixAddress(path)) == UnixAddress(path)
        lease.publish()
        await server.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert await ask(format_address(UnixAddress(path))) == b"hello"
        await server.stop(None)

    assert not path.exists()


async def test_leased_unix_socket_second_server_is_refused_while_the_first_answers(directory: Path) -> None:
    path = directory / "check.sock"
    server = echo_server()

    with SocketLease(path) as lease:
        bind_listener(server, UnixAddress(path))
        lease.publish()
        await server.start()
        with pytest.raises(SocketInUse), SocketLease(path):
            pass
        assert await ask(format_address(UnixAddress(path))) == b"hello"
        await server.stop(None)
