"""One malformed call at a listener of feed or sidecar: who calls next is answered."""

import asyncio
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2

from tests.fakes.malformed_call import send_malformed_call
from tests.fakes.system import System, ask, running_system

SECONDS = 20.0


async def effect_of(system: System, value: str) -> decision_pb2.Effect.ValueType:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with system.stub() as stub:
                    return (await stub.Check(ask(value), wait_for_ready=True)).effect
            except grpc.aio.AioRpcError:
                continue


@pytest.mark.parametrize("listener", ["sidecar-1-app", "sync"])
async def test_malformed_call_silences_nobody(
    short_directory: Path, listener: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_system(short_directory) as system:
        await send_malformed_call(system.installation.socket(listener))
        async with asyncio.timeout(SECONDS):
            while not any("has ended a server" in record.message for record in caplog.records):
                await asyncio.sleep(0.005)
        await system.log(system.opt_out("ada"))
        assert await effect_of(system, "ada") == decision_pb2.EFFECT_DENY
        mode = (short_directory / f"{listener}.sock").stat().st_mode & 0o777
        assert mode == (0o600 if listener == "sync" else 0o660)
