"""A bad network between feed and sidecar: whatever it does, no answer is wrong, and in the end the sidecar holds the log."""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc

from consent.vocabulary.subject import Tokeniser
from feed.ports import Submission
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from sidecar.runtime import running_sidecar
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_network import Fault, FaultyNetwork, faulty_network
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, install
from tests.fakes.system import System, ask, policy_event

PATIENCE_SECONDS = 60.0
SIMULATED_MS = 600_000
LONG_SECONDS = 150


@pytest.fixture
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        yield Path(folder)


class Weather:
    """Records opt-outs, lets faults strike, and asks, for ever the same rule: denied once is denied for good.

    Args:
        system: What runs.
        network: Between feed and sidecar.
        clock: Of both programs.
        chance: Decides.
    """

    def __init__(self, system: System, network: FaultyNetwork, clock: FakeClock, chance: random.Random) -> None:
        self.system, self.network, self.clock, self.chance = system, network, clock, chance
        self.recorded: list[str] = []
        self.denied: set[str] = set()
        self.wrong: list[str] = []

    async def storm(self, rounds: int) -> None:
        """Each round: a fault, some opt-outs, some answers, and a share of the simulated time."""
        async with self.system.stub() as stub:
            for number in range(rounds):
                self.network.turn(self.chance.choice(list(Fault)))
                for _ in range(self.chance.randrange(1, 4)):
                    await self._record(f"person-{len(self.recorded)}")
                self.clock.advance(SIMULATED_MS // rounds)
                for name in self.chance.sample(self.recorded, min(8, len(self.recorded))):
                    await self._ask(stub, name)
                if number % 4 == 0:
                    # Nobody may wait for what a silent connection has swallowed, as the follower's own limit sees to in earnest.
                    self.network.drop_connections()
                await asyncio.sleep(self.chance.random() * 0.05)

    async def _record(self, name: str) -> None:
        await self.system.feed.log.submit(Submission([self.system.opt_out(name)]))
        self.recorded.append(name)

    async def _ask(self, stub: "decision_pb2_grpc.ConsentDecisionServiceAsyncStub", name: str) -> None:
        response = await stub.Check(ask(name))
        if response.effect == decision_pb2.EFFECT_ALLOW:
            self.wrong += [name] if name in self.denied else []
        elif response.deciding_seq:
            self.denied.add(name)


async def run_storm(directory: Path, seed: int, rounds: int) -> Weather:
    chance, clock = random.Random(seed), FakeClock()
    installation = install(directory)
    tokeniser = Tokeniser([load_keys(directory / "keys", ORIGIN).subject_key])
    address = {"address": installation.socket("network"), "backoff_first_ms": 10, "backoff_most_ms": 100}
    settings = installation.sidecar_settings(feed=address)
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(running_feed(installation.feed_settings(), clock=clock))
        await feed.log.submit(Submission([policy_event(POLICY)]))
        network = await stack.enter_async_context(
            faulty_network(directory / "network.sock", directory / "sync.sock", chance)
        )
        sidecar = await stack.enter_async_context(running_sidecar(settings, clock=clock, boot_id="test"))
        system = System(installation, feed, sidecar, settings, tokeniser)
        await system.catch_up()
        weather = Weather(system, network, clock, chance)
        await weather.storm(rounds)
        # Fair weather: it converges, and then everybody's no is in force.
        network.turn(Fault.NONE)
        network.drop_connections()
        assert await sidecar.cache.wait_for_size(feed.log.head.size, PATIENCE_SECONDS)
        assert sidecar.cache.head.frontier.root_hash() == feed.log.head.frontier.root_hash()
        async with system.stub() as stub:
            for name in weather.recorded:
                assert (await stub.Check(ask(name))).effect == decision_pb2.EFFECT_DENY
    return weather


async def test_bad_network_converges_without_a_wrong_answer(short_directory: Path) -> None:
    weather = await run_storm(short_directory, seed=1, rounds=40)
    assert weather.wrong == []
    assert weather.denied


@pytest.mark.long(seconds=LONG_SECONDS)
@pytest.mark.parametrize("seed", range(5))
async def test_bad_network_for_ten_minutes_of_simulated_time(short_directory: Path, seed: int) -> None:
    weather = await run_storm(short_directory, seed=100 + seed, rounds=300)
    assert weather.wrong == []
    assert len(weather.denied) > 100


async def test_network_that_swallows_everything_is_noticed(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.sync.feed_client.SILENCE_SECONDS", 1.0)
    chance, clock = random.Random(3), FakeClock()
    installation = install(short_directory)
    settings = installation.sidecar_settings(
        feed={"address": installation.socket("network"), "backoff_first_ms": 10, "backoff_most_ms": 100}
    )
    async with (
        running_feed(installation.feed_settings(), clock=clock) as feed,
        faulty_network(short_directory / "network.sock", short_directory / "sync.sock", chance) as network,
        running_sidecar(settings, clock=clock, boot_id="test") as sidecar,
    ):
        assert await sidecar.cache.wait_for_size(feed.log.head.size, PATIENCE_SECONDS)
        network.turn(Fault.HALF_OPEN)
        await feed.log.submit(Submission([policy_event(POLICY)]))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sidecar.follower.last_error_reason != "FEED_UNAVAILABLE":
                await asyncio.sleep(0.01)
        network.turn(Fault.NONE)
        network.drop_connections()
        assert await sidecar.cache.wait_for_size(feed.log.head.size, PATIENCE_SECONDS)
