"""Certificate files that change under a running gRPC server, and the versions of TLS that it speaks."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hosting.addresses import TcpAddress
from hosting.development_ca import CertificateFiles
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from hosting.tls import channel_credentials, server_credentials
from tests.fakes.certificates import Authority, MountedSecret, make_authority

METHOD = "/consentry.test.v1.TestService/Echo"


@dataclass
class Echo:
    """A server that sends back what comes; its certificate is in `secret`."""

    port: int
    secret: MountedSecret
    authority: Authority
    client: CertificateFiles

    def credentials(self) -> grpc.ChannelCredentials:
        return channel_credentials(self.client.cert_file, self.client.key_file, self.authority.ca_file)


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Echo]:
    async def answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    authority = make_authority(tmp_path / "authority")
    secret = MountedSecret(tmp_path / "secret")
    secret.put(authority.issue_server(), authority)
    server = grpc.aio.server(options=EXCLUSIVE_PORT_OPTIONS)
    handlers: dict[str, Any] = {"Echo": grpc.stream_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("consentry.test.v1.TestService", handlers),))
    bound = bind_listener(server, TcpAddress("127.0.0.1", 0), server_credentials(*secret.settings.values()))
    assert isinstance(bound, TcpAddress)
    await server.start()
    yield Echo(bound.port, secret, authority, authority.issue("client", "spiffe://shop.example/client"))
    await server.stop(None)


@asynccontextmanager
async def open_stream(echo: Echo) -> AsyncIterator[Any]:
    async with grpc.aio.secure_channel(f"127.0.0.1:{echo.port}", echo.credentials()) as channel:
        rpc: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
        yield rpc(timeout=30)


async def ask(stream: Any, text: bytes) -> bytes:
    await stream.write(text)
    answer: bytes = await stream.read()
    return answer


def make_context(echo: Echo, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client outside of gRPC, which takes any cipher, so that the server alone says no."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(echo.authority.ca_file)
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    if version is not None:
        with warnings.catch_warnings():
            # The old versions are deprecated; that they are refused is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    return context


def shake_hands(echo: Echo, context: ssl.SSLContext) -> tuple[str | None, bytes, bytes]:
    """The version agreed on, the server's certificate (DER), and what it sends first: nothing if it hangs up."""
    with (
        socket.create_connection(("127.0.0.1", echo.port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
    ):
        return tls.version(), tls.getpeercert(binary_form=True) or b"", tls.recv(64)


async def shown_certificate(echo: Echo) -> bytes:
    context = make_context(echo)
    context.load_cert_chain(echo.client.cert_file, echo.client.key_file)
    return (await asyncio.to_thread(shake_hands, echo, context))[1]


def der_of(files: CertificateFiles) -> bytes:
    return x509.load_pem_x509_certificate(files.cert_file.read_bytes()).public_bytes(Encoding.DER)


async def test_changed_files_are_shown_to_new_connections_and_the_stream_stays(echo: Echo) -> None:
    async with open_stream(echo) as stream:
        assert await ask(stream, b"before") == b"before"
        first = await shown_certificate(echo)
        for _ in range(2):
            renewed = echo.authority.issue_server()
            echo.secret.put(renewed, echo.authority)
            assert await shown_certificate(echo) == der_of(renewed) != first
            assert await ask(stream, b"after") == b"after"


async def test_half_written_files_leave_the_former_certificate_in_use(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    first = await shown_certificate(echo)
    renewed = echo.authority.issue_server()
    old_key = (echo.secret.directory / "tls.key").read_bytes()
    ca_pem = echo.authority.ca_file.read_bytes()
    async with open_stream(echo) as stream:
        for cert_pem, problem in (
            (renewed.cert_file.read_bytes(), "not the key of the certificate"),
            (renewed.cert_file.read_bytes()[:100], "no certificate in PEM"),
        ):
            echo.secret.put_contents(cert_pem, old_key, ca_pem)
            assert await shown_certificate(echo) == first
            assert problem in caplog.text
            assert await ask(stream, b"on") == b"on"
        echo.secret.put(renewed, echo.authority)
        assert await shown_certificate(echo) == der_of(renewed)


async def test_authority_that_is_taken_out_lets_nobody_new_in_and_ends_no_stream(echo: Echo, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    async with open_stream(echo) as stream:
        assert await ask(stream, b"before") == b"before"
        echo.secret.put(echo.authority.issue_server(), other)
        async with open_stream(echo) as refused:
            assert await refused.code() is grpc.StatusCode.UNAVAILABLE
        assert await ask(stream, b"after") == b"after"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_from_1_2_on_is_accepted(echo: Echo, version: ssl.TLSVersion) -> None:
    context = make_context(echo, version)
    context.load_cert_chain(echo.client.cert_file, echo.client.key_file)
    agreed, _, first_bytes = await asyncio.to_thread(shake_hands, echo, context)
    assert agreed == version.name.replace("_", ".")
    # A SETTINGS frame: HTTP/2 begins.
    assert first_bytes[3] == 4


async def test_tls_1_3_is_agreed_on_where_both_may_choose(echo: Echo) -> None:
    context = make_context(echo)
    context.load_cert_chain(echo.client.cert_file, echo.client.key_file)
    assert (await asyncio.to_thread(shake_hands, echo, context))[0] == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_before_1_2_is_refused(echo: Echo, version: ssl.TLSVersion) -> None:
    context = make_context(echo, version)
    context.load_cert_chain(echo.client.cert_file, echo.client.key_file)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(shake_hands, echo, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_client_without_certificate_is_sent_nothing(echo: Echo, version: ssl.TLSVersion) -> None:
    """With TLS 1.3 a client believes itself connected before the server has seen its certificate."""
    try:
        _, _, first_bytes = await asyncio.to_thread(shake_hands, echo, make_context(echo, version))
    except (ssl.SSLError, ConnectionError):
        first_bytes = b""
    assert first_bytes == b""


async def test_plain_text_is_sent_nothing(echo: Echo) -> None:
    def knock() -> bytes:
        with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            try:
                return connection.recv(64)
            except ConnectionError:
                return b""

    assert await asyncio.to_thread(knock) == b""
