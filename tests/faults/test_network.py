"""A bad network between feed and sidecar: whatever it does, no answer is wrong, and in the end the sidecar holds the log.

Over TCP with mutual TLS, as where there is a network at all: gRPC's own library ends the process at some frames that only a peer which
was let in, or a network without TLS, could send (docs/threat-model.md).
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc

from consent.vocabulary.subject import Tokeniser
from feed.config import FeedSettings
from feed.ports import Submission
from feed.runtime import RunningFeed, running_feed
from feed.setup import TRUST_DOMAIN
from feed.signing.key_store import load_keys
from hosting.addresses import TcpAddress
from hosting.development_ca import CertificateFiles, create_development_ca, issue_certificate
from sidecar.config import SidecarSettings
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


class Site:
    """A feed and a sidecar that meet over a network with faults.

    Args:
        directory: Short.
    """

    def __init__(self, directory: Path) -> None:
        self.installation = install(directory)
        tls = directory / "tls"
        tls.mkdir(mode=0o700)
        self._authority = create_development_ca(tls)
        self._feed = issue_certificate(tls, "feed", san_ips=("127.0.0.1",))
        self._sidecar = issue_certificate(tls, "sidecar", san_uris=(f"spiffe://{TRUST_DOMAIN}/sidecar/sidecar-1",))
        self.tokeniser = Tokeniser([load_keys(directory / "keys", ORIGIN).subject_key])

    def feed_settings(self) -> FeedSettings:
        sync = {"address": "127.0.0.1:0", "tls": self._tls(self._feed), "trust_domain": TRUST_DOMAIN}
        return self.installation.feed_settings(sync=sync)

    def sidecar_settings(self, port: int) -> SidecarSettings:
        address = {"address": f"127.0.0.1:{port}", "tls": self._tls(self._sidecar)}
        return self.installation.sidecar_settings(feed=address | {"backoff_first_ms": 10, "backoff_most_ms": 100})

    def _tls(self, files: CertificateFiles) -> dict[str, Path]:
        return {"cert_file": files.cert_file, "key_file": files.key_file, "ca_file": self._authority.cert_file}


def port_of(feed: RunningFeed) -> int:
    (address, *_) = feed.addresses
    assert isinstance(address, TcpAddress)
    return address.port


async def run_storm(directory: Path, seed: int, rounds: int) -> Weather:
    # The certificates are of today, and so are the clocks.
    chance, clock, site = random.Random(seed), FakeClock(time.time_ns() // 1_000_000), Site(directory)
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(running_feed(site.feed_settings(), clock=clock))
        await feed.log.submit(Submission([policy_event(POLICY)]))
        network = await stack.enter_async_context(faulty_network(port_of(feed), chance))
        settings = site.sidecar_settings(network.port)
        sidecar = await stack.enter_async_context(running_sidecar(settings, clock=clock, boot_id="test"))
        system = System(site.installation, feed, sidecar, settings, site.tokeniser)
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


@pytest.mark.long(seconds=20)
async def test_network_that_swallows_everything_is_noticed(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.sync.feed_client.SILENCE_SECONDS", 1.0)
    chance, clock, site = random.Random(3), FakeClock(time.time_ns() // 1_000_000), Site(short_directory)
    async with (
        running_feed(site.feed_settings(), clock=clock) as feed,
        faulty_network(port_of(feed), chance) as network,
        running_sidecar(site.sidecar_settings(network.port), clock=clock, boot_id="test") as sidecar,
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
