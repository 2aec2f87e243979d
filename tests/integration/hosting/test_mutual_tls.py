"""Mutual TLS between real gRPC peers on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from hosting.addresses import TcpAddress, format_address
from hosting.development_ca import CertificateFiles, create_development_ca, issue_certificate
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from hosting.tls import channel_credentials, peer_identities, server_credentials
from tests.fakes.clock import FakeClock

METHOD = "/consentry.test.v1.TestService/WhoAmI"
LONG_AGO = FakeClock(1_600_000_000_000)


@asynccontextmanager
async def running_server(files: CertificateFiles, client_ca_file: Path) -> AsyncIterator[str]:
    async def who_am_i(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return " ".join(peer_identities(context.auth_context())).encode()

    handlers: dict[str, Any] = {"WhoAmI": grpc.unary_unary_rpc_method_handler(who_am_i)}
    server = grpc.aio.server(options=EXCLUSIVE_PORT_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("consentry.test.v1.TestService", handlers),))
    credentials = server_credentials(files.cert_file, files.key_file, client_ca_file)
    address = bind_listener(server, TcpAddress("127.0.0.1", 0), credentials)
    await server.start()
    try:
        yield format_address(address)
    finally:
        await server.stop(None)


async def ask(target: str, credentials: grpc.ChannelCredentials | None) -> str:
    opened = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with opened as channel:
        who_am_i: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return (await who_am_i(b"", timeout=10)).decode()


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    directory = tmp_path / "ours"
    directory.mkdir()
    create_development_ca(directory)
    issue_certificate(directory, "feed", san_ips=["127.0.0.1"])
    issue_certificate(
        directory, "sidecar", san_uris=["spiffe://example.org/sidecar"], san_dns=["sidecar.example"], san_ips=["::1"]
    )
    return directory


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    directory = tmp_path / "theirs"
    directory.mkdir()
    create_development_ca(directory)
    issue_certificate(directory, "feed", san_ips=["127.0.0.1"])
    issue_certificate(directory, "sidecar", san_uris=["spiffe://example.org/sidecar"])
    return directory


def files_of(directory: Path, name: str) -> CertificateFiles:
    return CertificateFiles(directory / f"{name}.pem", directory / f"{name}-key.pem")


async def test_mutual_tls_trusted_client_is_known_by_its_uri_and_dns_names(ours: Path) -> None:
    client = files_of(ours, "sidecar")
    async with running_server(files_of(ours, "feed"), ours / "ca.pem") as target:
        names = await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert names == "spiffe://example.org/sidecar sidecar.example"


async def test_mutual_tls_client_without_certificate_is_refused(ours: Path) -> None:
    async with running_server(files_of(ours, "feed"), ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, grpc.ssl_channel_credentials((ours / "ca.pem").read_bytes()))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_client_of_another_authority_is_refused(ours: Path, theirs: Path) -> None:
    client = files_of(theirs, "sidecar")
    async with running_server(files_of(ours, "feed"), ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_expired_client_is_refused(ours: Path) -> None:
    client = issue_certificate(ours, "sidecar", san_uris=["spiffe://example.org/sidecar"], clock=LONG_AGO)
    async with running_server(files_of(ours, "feed"), ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_server_of_another_authority_is_refused(ours: Path, theirs: Path) -> None:
    client = files_of(ours, "sidecar")
    async with running_server(files_of(theirs, "feed"), ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_expired_server_is_refused(ours: Path) -> None:
    client = files_of(ours, "sidecar")
    server = issue_certificate(ours, "feed", san_ips=["127.0.0.1"], clock=LONG_AGO)
    async with running_server(server, ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_server_of_another_name_is_refused(ours: Path) -> None:
    client = files_of(ours, "sidecar")
    server = issue_certificate(ours, "feed", san_ips=["127.0.0.2"])
    async with running_server(server, ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, channel_credentials(client.cert_file, client.key_file, ours / "ca.pem"))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_client_in_plain_text_is_refused(ours: Path) -> None:
    async with running_server(files_of(ours, "feed"), ours / "ca.pem") as target:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask(target, None)

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
