"""Following a real feed: reconnects, snapshots, restarts, and a feed that cannot be trusted any more."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from consentry.decision.v1 import decision_pb2

from consent.vocabulary.subject import Tokeniser
from feed.ports import Submission
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from hosting.errors import InstanceLocked
from hosting.key_files import create_key_file
from sidecar.errors import ForeignCache, MissingCacheKey, UnusableStartFile, WrongCacheKey
from sidecar.ports import SyncState
from sidecar.runtime import RunningSidecar, running_sidecar
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.fakes.system import System, ask, policy_event, running_system

PATIENCE_SECONDS = 20.0


async def wait_until_state(sidecar: RunningSidecar, state: SyncState) -> None:
    """The follower says nothing when it changes its state, so this looks."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sidecar.follower.state is not state:
            await asyncio.sleep(0.005)


async def effect_of(system: System, value: str = "ada") -> decision_pb2.Effect.ValueType:
    async with system.stub() as stub:
        return (await stub.Check(ask(value))).effect


async def test_follower_feed_that_restarts_is_caught_up_with(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await system.log(system.opt_out("ada"))
        await feed_only.aclose()
        await wait_until_state(system.sidecar, SyncState.DISCONNECTED)
        assert await effect_of(system, "ada") == decision_pb2.EFFECT_DENY
        async with running_feed(system.installation.feed_settings()) as feed:
            system.feed = feed
            await system.log(system.opt_out("bob"))
            assert await effect_of(system, "bob") == decision_pb2.EFFECT_DENY
            await wait_until_state(system.sidecar, SyncState.IN_SYNC)


async def test_follower_far_behind_starts_from_a_snapshot_and_goes_on_entry_by_entry(short_directory: Path) -> None:
    changes = {
        "event_log": {
            "directory": short_directory / "log",
            "keys_directory": short_directory / "keys",
            "max_stream_entries": 20,
        }
    }
    installation = install(short_directory)
    async with running_feed(installation.feed_settings(**changes)) as feed:
        settings = installation.sidecar_settings()
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system = System(installation, feed, sidecar, settings, _tokeniser(short_directory))
            await feed.log.submit(Submission([policy_event(POLICY)]))
            await system.catch_up()
        await feed.log.submit(Submission([system.opt_out(f"person-{number}") for number in range(60)]))
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system.sidecar = sidecar
            await system.catch_up()
            # The snapshot's own STATE_ROOT entry is in the log too.
            assert (sidecar.cache.head.size, sidecar.cache.subject_count) == (feed.log.head.size, 60)
            assert await effect_of(system, "person-59") == decision_pb2.EFFECT_DENY
            assert await effect_of(system, "nobody") == decision_pb2.EFFECT_ALLOW
            await system.log(system.opt_out("late"))
            assert await effect_of(system, "late") == decision_pb2.EFFECT_DENY


async def test_sidecar_restarted_while_the_feed_is_down_answers_as_before(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only:
        async with running_system(short_directory, feed_lifetime=feed_only) as system:
            await system.log(system.opt_out("ada"), system.opt_out("ada", "left", kind=1, proof=3, assurance=2))
            before = system.sidecar.cache.head
            await feed_only.aclose()
        async with running_sidecar(system.settings, boot_id="test") as sidecar:
            after = sidecar.cache.head
            assert (after.size, after.frontier, after.tenant) == (before.size, before.frontier, before.tenant)
            assert await effect_of(system, "ada") == decision_pb2.EFFECT_DENY
            assert await effect_of(system, "nobody") == decision_pb2.EFFECT_ALLOW


async def test_follower_feed_with_an_older_database_is_refused_and_answers_go_on(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await feed_only.aclose()
        shutil.copytree(short_directory / "log", short_directory / "backup")
        shutil.copytree(short_directory / "high-water", short_directory / "marks")
        async with running_feed(system.installation.feed_settings()) as feed:
            system.feed = feed
            await system.log(system.opt_out("ada"))
        # Everything of the feed's is set back, the mark of how far it was included: only the sidecar knows.
        shutil.rmtree(short_directory / "high-water")
        shutil.copytree(short_directory / "marks", short_directory / "high-water")
        shutil.rmtree(short_directory / "log")
        shutil.copytree(short_directory / "backup", short_directory / "log")
        async with running_feed(system.installation.feed_settings()):
            await wait_until_state(system.sidecar, SyncState.REFUSED)
            assert system.sidecar.follower.last_error_reason == "FEED_REFUSED"
            assert await effect_of(system, "ada") == decision_pb2.EFFECT_DENY


async def test_follower_another_history_of_the_same_size_is_refused(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await feed_only.aclose()
        shutil.rmtree(short_directory / "high-water")
        shutil.rmtree(short_directory / "log")
        async with running_feed(system.installation.feed_settings()) as feed:
            await feed.log.submit(Submission([policy_event(POLICY), system.opt_out("eve")]))
            await wait_until_state(system.sidecar, SyncState.REFUSED)
            assert await effect_of(system, "eve") == decision_pb2.EFFECT_ALLOW
            assert system.sidecar.cache.head.size == 2


async def test_sidecar_second_one_on_the_same_cache_is_refused(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        with pytest.raises(InstanceLocked):
            async with running_sidecar(system.settings):
                pass
        assert await effect_of(system) == decision_pb2.EFFECT_ALLOW


async def _start_and_stop(directory: Path, sidecar_id: str = "sidecar-1") -> None:
    async with running_sidecar(install_again(directory).sidecar_settings(sidecar_id), boot_id="test"):
        pass


def install_again(directory: Path) -> TestInstallation:
    """The installation that is there already."""
    return TestInstallation(directory, None)  # type: ignore[arg-type]


async def test_sidecar_wrong_cache_key_stops_the_start_and_leaves_the_file(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await system.log(system.opt_out())
    cache_file = system.settings.cache.directory / "cache.db"
    before = cache_file.read_bytes()
    (short_directory / "cache.key").unlink()
    with pytest.raises(MissingCacheKey):
        await _start_and_stop(short_directory)
    create_key_file(short_directory / "cache.key", bytes(32), use="cache-kek")
    with pytest.raises(WrongCacheKey):
        await _start_and_stop(short_directory)
    assert cache_file.read_bytes() == before


async def test_sidecar_cache_of_another_sidecar_stops_the_start(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await system.log(system.opt_out())
    shutil.copytree(short_directory / "sidecar-1", short_directory / "sidecar-2")
    with pytest.raises(ForeignCache):
        await _start_and_stop(short_directory, "sidecar-2")


@pytest.mark.parametrize("name", ["trust.note", "root.pub"])
@pytest.mark.parametrize("content", [None, b"", b"not one of ours\n", bytes(40)])
async def test_sidecar_trust_file_that_cannot_be_used_stops_the_start(
    short_directory: Path, name: str, content: bytes | None
) -> None:
    install(short_directory)
    path = short_directory / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UnusableStartFile, match=name):
        await _start_and_stop(short_directory)


def _tokeniser(directory: Path) -> Tokeniser:
    return Tokeniser([load_keys(directory / "keys", ORIGIN).subject_key])
