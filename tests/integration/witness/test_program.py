"""A witness in a process of its own, a real feed that asks it, and a sidecar that demands it."""

import asyncio
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from consent.event import DirectiveEvent
from consent.eventlog.keys import KeyKind, format_verifier_key, generate_signing_key, parse_verifier_key
from consent.eventlog.trust import TrustedKey, open_trust, seal_trust
from consent.eventlog.witness import format_witness_request
from feed.ports import Submission
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import load_keys
from hosting.development_ca import create_development_ca, issue_certificate
from sidecar.runtime import RunningSidecar, running_sidecar
from tests.e2e.deployment import short_folder
from tests.e2e.processes import Program, clean_environment, command_path
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.fakes.signing_feed import LOG_KEY, START_MS, SigningFeed, opt_out
from tests.fakes.signing_feed import ORIGIN as SIGNED_ORIGIN
from witness.memory import EVIDENCE_FOLDER
from witness.setup import set_up

SECONDS = 20.0


def make_opt_out(number: int) -> DirectiveEvent:
    return replace(opt_out(number), origin=ORIGIN)


class WitnessHome:
    """The folder of a witness, and its program."""

    def __init__(self, folder: Path, log_key: str, origin: str = ORIGIN) -> None:
        self.folder = folder / "witness"
        self.public_key = set_up(self.folder, "witness.example/1", origin, [log_key], 7750)
        self.settings = self.folder / "witness.yaml"
        self.change(address="127.0.0.1:0")
        self.program = Program(
            "witness",
            [command_path("consentry-witness"), "serve", "-c", str(self.settings)],
            log_directory=folder,
            environ=clean_environment(),
        )

    def change(self, **changes: object) -> None:
        settings = yaml.safe_load(self.settings.read_text(encoding="utf-8")) | changes
        self.settings.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def start(self) -> int:
        """Start it; returns its port, the same one after a restart."""
        line = self.program.start().wait_for_line(" listening ")
        port = int(line.rpartition("port=")[2])
        self.change(address=f"127.0.0.1:{port}")
        return port


def post(port: int, body: bytes, context: ssl.SSLContext | None = None) -> tuple[int, bytes, str]:
    scheme = "https" if context else "http"
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}/add-checkpoint", body, method="POST")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
    )
    try:
        with opener.open(request, timeout=SECONDS) as response:
            return response.status, response.read(), response.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers["Content-Type"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("wit") as path:
        yield path


def demand(installation: TestInstallation, key: str) -> None:
    """Let the trust file demand this witness."""
    root_key = generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, os.urandom(32))
    old_root = parse_verifier_key((installation.directory / "root.pub").read_text(encoding="utf-8").strip())
    trust = open_trust((installation.directory / "trust.note").read_bytes(), old_root)
    trust = replace(trust, witness_keys=(TrustedKey(parse_verifier_key(key)),), witness_threshold=1)
    (installation.directory / "trust.note").write_bytes(seal_trust(trust, root_key))
    text = f"{format_verifier_key(root_key.verifier_key)}\n"
    (installation.directory / "root.pub").write_text(text, encoding="utf-8")


@asynccontextmanager
async def witnessed_system(folder: Path) -> AsyncIterator[tuple[WitnessHome, RunningFeed, RunningSidecar]]:
    installation = install(folder / "site")
    log_key = load_keys(folder / "site" / "keys", ORIGIN).log_key.verifier_key
    home = WitnessHome(folder, format_verifier_key(log_key))
    demand(installation, home.public_key)
    with home.program:
        port = home.start()
        witnesses = [{"url": f"http://127.0.0.1:{port}", "key": home.public_key}]
        settings = installation.feed_settings(witnesses=witnesses, witness_seconds=0.1)
        async with (
            running_feed(settings) as feed,
            running_sidecar(installation.sidecar_settings(), boot_id="test") as sidecar,
        ):
            yield home, feed, sidecar


async def witnessed_after(sidecar: RunningSidecar, time_ms: int) -> None:
    async with asyncio.timeout(SECONDS):
        while (seen := sidecar.cache.head.checkpoint) is None or seen.time_ms <= time_ms:
            await asyncio.sleep(0.01)


def time_of(sidecar: RunningSidecar) -> int:
    seen = sidecar.cache.head.checkpoint
    assert seen is not None
    return seen.time_ms


async def test_sidecar_is_fresh_only_as_long_as_the_witness_cosigns(folder: Path) -> None:
    async with witnessed_system(folder) as (home, feed, sidecar):
        await witnessed_after(sidecar, 0)
        await witnessed_after(sidecar, time_of(sidecar))
        home.program.kill()
        # The feed goes on and signs anew; without the witness none of it makes the sidecar's data look newer.
        times = []
        for number in range(4):
            await feed.log.resign_now()
            accepted = await feed.log.submit(Submission([make_opt_out(number)]))
            assert await sidecar.cache.wait_for_size(accepted.seq, SECONDS)
            times.append(time_of(sidecar))
        assert times[-1] == times[-2]
        home.start()
        await witnessed_after(sidecar, times[-1])


def test_second_history_is_refused_after_a_crash_too_and_kept_as_evidence(folder: Path) -> None:
    honest, forked = SigningFeed([opt_out(1), opt_out(2)]), SigningFeed([opt_out(1), opt_out(3), opt_out(4)])
    home = WitnessHome(folder, format_verifier_key(LOG_KEY.verifier_key), SIGNED_ORIGIN)
    with home.program:
        port = home.start()
        status, answer, _ = post(port, format_witness_request(0, (), honest.checkpoint(3, START_MS)))
        assert status == 200
        assert answer.startswith("\N{EM DASH} witness.example/1 ".encode())
        home.program.kill()
        port = home.start()
        status, answer, content_type = post(port, format_witness_request(0, (), forked.checkpoint(4, START_MS)))
        assert (status, answer, content_type) == (409, b"3\n", "text/x.tlog.size")
        body = format_witness_request(3, (), forked.checkpoint(3, START_MS))
        status, answer, _ = post(port, body)
        assert status == 409
        assert answer.startswith(b"ROOT_DIFFERS")
        evidence = [path.read_bytes() for path in (home.folder / "memory" / EVIDENCE_FOLDER).iterdir()]
        assert evidence == [body]
        assert post(port, bytes(400 * 1024))[0] == 400
        assert home.program.stop() == 0


def test_witness_over_tls_takes_only_clients_with_a_certificate(folder: Path) -> None:
    tls = folder / "tls"
    tls.mkdir(mode=0o700)
    authority = create_development_ca(tls)
    server = issue_certificate(tls, "witness", san_ips=("127.0.0.1",))
    client = issue_certificate(tls, "feed", san_dns=("localhost",))
    home = WitnessHome(folder, format_verifier_key(LOG_KEY.verifier_key), SIGNED_ORIGIN)
    files = {"cert_file": server.cert_file, "key_file": server.key_file, "ca_file": authority.cert_file}
    home.change(tls={name: str(path) for name, path in files.items()})
    body = format_witness_request(0, (), SigningFeed([opt_out(1)]).checkpoint())
    with home.program:
        port = home.start()
        context = ssl.create_default_context(cafile=str(authority.cert_file))
        with pytest.raises((urllib.error.URLError, OSError)):
            post(port, body, context)
        context.load_cert_chain(client.cert_file, client.key_file)
        assert post(port, body, context)[0] == 200


@pytest.mark.parametrize("fault", ["memory gone", "key open to others", "second witness"])
def test_witness_that_cannot_be_trusted_does_not_start(folder: Path, fault: str) -> None:
    home = WitnessHome(folder, format_verifier_key(generate_signing_key(ORIGIN, KeyKind.LOG, bytes(32)).verifier_key))
    other = WitnessHomeAgain(home)
    with home.program, other:
        if fault == "memory gone":
            (home.folder / "memory" / "cosigned.json").unlink()
        elif fault == "key open to others":
            (home.folder / "witness.key").chmod(0o644)
        else:
            home.start()
        other.start()
        assert other.wait_for_exit() == 2


class WitnessHomeAgain(Program):
    """A second program with the same folder."""

    def __init__(self, home: WitnessHome) -> None:
        command = [command_path("consentry-witness"), "serve", "-c", str(home.settings)]
        super().__init__("again", command, log_directory=home.folder, environ=clean_environment())
