"""A new subject key with a real feed and real sidecars: nobody's answer changes, whoever was away meanwhile."""

from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

from consent.event import EventType
from consent.vocabulary.subject import Tokeniser
from feed.errors import ForeignLog
from feed.ports import Submission
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from sidecar.runtime import running_sidecar
from tests.fakes.installation import ORIGIN, TestInstallation
from tests.fakes.system import System, ask, reason_of, running_system


async def begin_epoch(installation: TestInstallation, epoch: int) -> intake_pb2.BeginKeyEpochResponse:
    """What `consentry-feed rotate-subject-key` does."""
    async with grpc.aio.insecure_channel(installation.socket("feed-admin")) as channel:
        stub = intake_pb2_grpc.SubjectServiceStub(channel)
        assert (await stub.GetKeyEpoch(intake_pb2.GetKeyEpochRequest())).epoch in (epoch - 1, epoch)
        return await stub.BeginKeyEpoch(intake_pb2.BeginKeyEpochRequest(epoch=epoch))


async def say(system: System) -> None:
    """What the answers below are about."""
    await system.log(
        system.opt_out("ada"),
        system.opt_out("bob", "left", kind=1, proof=3, assurance=2),
        system.opt_out("cyd", "left"),
    )


async def answers(system: System) -> list[str]:
    async with system.stub() as stub:
        people = ("ada", "bob", "cyd", "late", "nobody")
        return [reason_of(await stub.Check(ask(value, jurisdiction="EU"))) for value in people]


async def ask_for_token(system: System, token: bytes, key_epoch: int) -> str:
    identifier = event_pb2.Identifier(token=token, key_epoch=key_epoch)
    request = ask()
    request.subject.CopyFrom(decision_pb2.Subject(identifiers=[identifier]))
    async with grpc.aio.insecure_channel(system.installation.socket("sidecar-1-admin")) as channel:
        return reason_of(await decision_pb2_grpc.ConsentDecisionServiceStub(channel).Check(request))


async def test_key_epoch_changes_no_answer_and_old_ready_tokens_keep_working(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await say(system)
        before = await answers(system)
        assert len(set(before)) == 4
        begun = await begin_epoch(system.installation, 1)
        assert (begun.epoch, begun.subject_count) == (1, 3)
        (entry,) = await system.feed.log.read_entries(begun.token.seq, 1)
        assert entry.type_byte == EventType.KEY_EPOCH
        await system.catch_up()
        assert await answers(system) == before

        await system.log(system.opt_out("late"))
        assert (await answers(system))[3] == "GLOBAL_OPT_OUT"
        again = await begin_epoch(system.installation, 1)
        assert (again.epoch, again.token.seq) == (1, 0)

        keys = load_keys(short_directory / "keys", ORIGIN)
        newest = Tokeniser((keys.subject_key, *keys.later_subject_keys))
        assert newest.epoch == 1
        old_token, new_token = system.tokeniser.token("user", "ada"), newest.token("user", "ada")
        assert old_token != new_token
        assert await ask_for_token(system, old_token, 0) == "GLOBAL_OPT_OUT"
        assert await ask_for_token(system, new_token, 1) == "GLOBAL_OPT_OUT"
        assert await ask_for_token(system, new_token, 2) == "INVALID_REQUEST"


@pytest.mark.parametrize("max_stream_entries", [1000, 2], ids=["stream", "snapshot"])
async def test_key_epoch_sidecar_that_was_away_for_two_catches_up(
    short_directory: Path, max_stream_entries: int
) -> None:
    changes = {
        "event_log": {
            "directory": short_directory / "log",
            "keys_directory": short_directory / "keys",
            "max_stream_entries": max_stream_entries,
        }
    }
    async with AsyncExitStack() as feed_only:
        async with running_system(short_directory, feed_changes=changes, feed_lifetime=feed_only) as system:
            await say(system)
            before = await answers(system)
            generation = system.sidecar.cache.generation
            await feed_only.aclose()
        async with running_feed(system.installation.feed_settings(**changes)) as feed:
            system.feed = feed
            for epoch in (1, 2):
                await begin_epoch(system.installation, epoch)
                await feed.log.submit(Submission([system.opt_out(f"other-{epoch}")]))
            async with running_sidecar(system.settings, boot_id="test") as sidecar:
                system.sidecar = sidecar
                await system.catch_up()
                assert sidecar.cache.generation > generation
                assert await answers(system) == before
                await system.log(system.opt_out("late"))
                assert (await answers(system))[3] == "GLOBAL_OPT_OUT"
        # Cut off and started again, it answers from what it made itself.
        async with running_sidecar(system.settings, boot_id="test"):
            assert (await answers(system))[:3] == before[:3]


async def test_key_epoch_after_a_restart_of_the_feed_goes_on(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await say(system)
        before = await answers(system)
        await begin_epoch(system.installation, 1)
        await feed_only.aclose()
        async with running_feed(system.installation.feed_settings()) as feed:
            system.feed = feed
            await system.catch_up()
            assert await answers(system) == before
            await begin_epoch(system.installation, 2)
            await system.log(system.opt_out("late"))
            assert (await answers(system))[:3] == before[:3]


async def test_key_epoch_takes_a_key_file_that_is_there_and_refuses_one_that_is_not_ours_alone(
    short_directory: Path,
) -> None:
    async with running_system(short_directory) as system:
        await say(system)
        path = short_directory / "keys" / "subject-1.key"
        path.write_bytes((short_directory / "keys" / "subject-0.key").read_bytes())
        path.chmod(0o600)
        size = system.feed.log.head.size
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await begin_epoch(system.installation, 1)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        # That somebody tried is all that was logged.
        since = await system.feed.log.read_entries(size + 1, 10)
        assert EventType.KEY_EPOCH not in [entry.type_byte for entry in since]
        path.unlink()
        await begin_epoch(system.installation, 1)
        assert path.stat().st_mode & 0o777 == 0o600
        await system.catch_up()


async def test_feed_without_the_key_of_an_epoch_that_has_begun_does_not_start(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await begin_epoch(system.installation, 1)
        await feed_only.aclose()
        (short_directory / "keys" / "subject-1.key").unlink()
        with pytest.raises(ForeignLog):
            async with running_feed(system.installation.feed_settings()):
                pass
