"""Consent that is recorded after a key epoch has begun: signed under the tokens that are logged, and believed by the sidecar."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc
from consentry_client import IntakeClient, Proof, evidence_digest, user

from consent.vocabulary.directive import Kind
from feed.errors import KeyEpochBegan
from tests.fakes.feed_log import SIGNERS, make_directive, open_log
from tests.fakes.system import ask, running_system


@pytest.fixture
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        yield Path(folder)


async def test_grant_signed_before_an_epoch_and_logged_after_it_is_to_be_sent_again(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        grant = make_directive("ada", kind=int(Kind.GRANT), proof=3, source="web")
        await log.key_epochs.begin(1)
        with pytest.raises(KeyEpochBegan):
            await log.sequencer.submit(SIGNERS.submit([grant]))
        led = log.sequencer.lead_event(grant)
        assert led != grant
        accepted = await log.sequencer.submit(SIGNERS.submit([led]))
        assert accepted.seq == log.sequencer.head.size


async def test_grant_by_a_source_after_an_epoch_is_in_force_at_the_sidecar(short_directory: Path) -> None:
    def grant() -> int:
        with IntakeClient(f"unix://{short_directory}/web.sock") as client:
            accepted = client.grant(
                user("ada"), "left", proof=Proof.AUTHENTICATED, notice_version=3, evidence=evidence_digest(b"session")
            )
            return accepted.token.seq

    async with running_system(short_directory) as system:
        await system.log(system.opt_out("bob"))
        async with grpc.aio.insecure_channel(f"unix://{short_directory}/feed-admin.sock") as channel:
            subjects = intake_pb2_grpc.SubjectServiceStub(channel)
            await subjects.BeginKeyEpoch(intake_pb2.BeginKeyEpochRequest(epoch=1))
        seq = await asyncio.to_thread(grant)
        await system.catch_up()
        async with system.stub() as stub:
            allowed = await stub.Check(ask("ada", "left"))
            denied = await stub.Check(ask("bob", "left"))
        assert (allowed.effect, allowed.deciding_seq) == (decision_pb2.EFFECT_ALLOW, seq)
        assert denied.effect == decision_pb2.EFFECT_DENY
