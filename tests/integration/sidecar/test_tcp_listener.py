"""A TCP listener: mutual TLS, and the caller is whom the certificate names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hosting.addresses import TcpAddress
from hosting.development_ca import create_development_ca, development_files, issue_certificate
from hosting.tls import channel_credentials
from sidecar.grpc_api.decision_service import SERVICE
from tests.fakes.system import System, ask, reason_of, running_system

MAILER, BILLING = "spiffe://shop.example/mailer", "billing.shop.example"


def make_certificates(directory: Path) -> None:
    directory.mkdir()
    create_development_ca(directory)
    issue_certificate(directory, "sidecar", san_dns=("localhost",), san_ips=("127.0.0.1",))
    issue_certificate(directory, "mailer", san_uris=(MAILER,))
    issue_certificate(directory, "billing", san_dns=(BILLING,))
    issue_certificate(directory, "nobody", san_dns=("nobody.example",))


def tls_files(directory: Path, name: str) -> dict[str, Path]:
    files = development_files(directory, name)
    return {"cert_file": files.cert_file, "key_file": files.key_file, "ca_file": development_files(directory).cert_file}


@pytest.fixture
async def system(short_directory: Path) -> AsyncIterator[System]:
    make_certificates(short_directory / "tls")
    callers = [
        {"name": "mailer", "identity": MAILER, "detail": "full"},
        {"name": "billing", "identity": BILLING, "detail": "full", "purposes": ["contract"], "methods": ["Check"]},
    ]
    listener = {"address": "127.0.0.1:0", "tls": tls_files(short_directory / "tls", "sidecar"), "callers": callers}
    async with running_system(short_directory, sidecar_changes={"listeners": [listener]}) as running:
        yield running


@asynccontextmanager
async def stub_as(system: System, name: str, folder: str = "tls") -> AsyncIterator[Any]:
    address = system.sidecar.addresses[0]
    assert isinstance(address, TcpAddress)
    credentials = channel_credentials(*tls_files(system.installation.directory / folder, name).values())
    async with grpc.aio.secure_channel(f"127.0.0.1:{address.port}", credentials) as channel:
        yield decision_pb2_grpc.ConsentDecisionServiceStub(channel)


async def test_tcp_caller_is_known_by_its_certificate(system: System) -> None:
    async with stub_as(system, "mailer") as mailer, stub_as(system, "billing") as billing:
        assert reason_of(await mailer.Check(ask())) == "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN"
        assert reason_of(await billing.Check(ask())) == "CALLER_NOT_PERMITTED_FOR_PURPOSE"
        assert reason_of(await billing.Check(ask(purpose="contract"))) == "NO_CHOICE_REQUIRED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await billing.GetStatus(decision_pb2.GetStatusRequest())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_tcp_certificate_that_names_no_caller_is_refused_whatever_metadata_says(system: System) -> None:
    async with stub_as(system, "nobody") as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask(), metadata=(("caller", "mailer"), ("x-forwarded-client-cert", MAILER)))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_tcp_certificate_of_another_authority_and_no_certificate_do_not_connect(system: System) -> None:
    make_certificates(system.installation.directory / "other-tls")
    async with stub_as(system, "mailer", "other-tls") as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    address = system.sidecar.addresses[0]
    assert isinstance(address, TcpAddress)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{address.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await decision_pb2_grpc.ConsentDecisionServiceStub(channel).Check(ask(), timeout=5)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def list_services(system: System) -> list[str]:
    async with grpc.aio.insecure_channel(system.installation.socket("sidecar-1-app")) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        responses = [response async for response in stub.ServerReflectionInfo(requests)]
    return [service.name for service in responses[0].list_services_response.service]


async def test_reflection_is_off_unless_it_is_asked_for(short_directory: Path) -> None:
    async with running_system(short_directory / "a") as system:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await list_services(system)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with running_system(short_directory / "b", sidecar_changes={"reflection": True}) as system:
        assert SERVICE in await list_services(system)
