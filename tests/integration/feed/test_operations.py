"""The commands of docs/operations.md against a running feed, as the page has them, and what a sidecar with more entries does."""

import asyncio
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc
from typer.testing import CliRunner, Result

from consent.event import ReceivedEvent
from consent.policy import format_policy
from consent.vocabulary.subject import Tokeniser
from feed.cli import app
from feed.errors import LogBehindSidecar, LogRolledBack, LogUnmarked
from feed.ports import Submission
from feed.publish import Publisher
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import load_keys
from hosting.clock import SystemClock
from tests.e2e.search import IdentifierSearch
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.integration.feed.sync_peer import refusal_of
from tests.unit.docs.pages import read_page

PEOPLE = [f"user=person-number-{number}" for number in range(6)]
COMMANDS = {
    words[1]: words[1:]
    for words in map(
        shlex.split, re.findall(r"^\$ (consentry-feed .*)$", read_page("docs/operations.md"), re.MULTILINE)
    )
}


class Site:
    """A feed's settings in a file, and the page's commands with the page's paths turned into this folder's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.installation: TestInstallation = install(directory)
        self.settings = self.installation.feed_settings(
            event_log={
                "directory": directory / "log",
                "keys_directory": directory / "keys",
                "archive_directory": directory / "archive",
            }
        )
        (directory / "backup").mkdir()
        text = yaml.safe_dump(self.settings.model_dump(mode="json", exclude_none=True))
        (directory / "feed.yaml").write_text(text, encoding="utf-8")

    def run(self, *words: str) -> Result:
        """Runs a command; it must not be the thread of a feed's loop."""
        return CliRunner().invoke(app, list(words))

    async def command(self, name: str, *more: str) -> Result:
        """Runs a command of the page."""
        return await asyncio.to_thread(self.run, *(self._here(word) for word in COMMANDS[name]), *more)

    async def record(self, *people: str) -> None:
        for person in people:
            words = ("record", "directive", "opt-out", "--id", person, "-p", "left", "-c", self._here("feed.yaml"))
            result = await asyncio.to_thread(self.run, *words)
            assert result.exit_code == 0, result.output

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RunningFeed]:
        async with running_feed(self.settings) as feed:
            if not feed.log.head.tenant.document:
                publisher = Publisher(feed.log, SystemClock(), ORIGIN)
                approvals = self.installation.signers.approve_policy(format_policy(POLICY), POLICY.version)
                await publisher.publish_policy(format_policy(POLICY), "administrator", approvals=approvals)
            yield feed

    def save(self, name: str) -> None:
        for part in ("log", "high-water", "archive"):
            shutil.copytree(self.directory / part, self.directory / name / part)

    def put_back(self, name: str) -> None:
        for part in ("log", "high-water", "archive"):
            shutil.rmtree(self.directory / part)
            shutil.copytree(self.directory / name / part, self.directory / part)

    def _here(self, word: str) -> str:
        place = str(self.directory)
        return {"feed.yaml": f"{place}/feed.yaml"}.get(
            word, word.replace("/var/lib/consentry", place).replace("/backup", f"{place}/backup")
        )


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="consentry-") as directory:
        yield Site(Path(directory))


def said(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    fields: dict[str, Any] = json.loads(result.stdout)
    return fields


async def test_operations_page_brings_back_a_log_whose_disk_was_lost(site: Site) -> None:
    async with site.running() as feed:
        await site.record(*PEOPLE[:3])
        backed_up = said(await site.command("backup", "--json"))["log_size"]
        await site.record(*PEOPLE[3:])
        drilled = said(await site.command("drill", "--json"))
        head = feed.log.head
    assert (drilled["log_size"], drilled["from_backup"]) == (head.size, backed_up)
    assert (drilled["opt_outs_after_backup"], drilled["passed"]) == (3, True)
    shutil.rmtree(site.directory / "log")

    with pytest.raises(LogRolledBack):
        async with site.running():
            pass
    refused = await site.command("restore", "--archive", str(site.directory / "backup"))
    assert refused.exit_code == 1
    assert "LOG_ROLLED_BACK" in refused.stderr
    restored = said(await site.command("restore", "--json"))
    assert (restored["log_size"], restored["from_archive"]) == (head.size, head.size - backed_up)

    tokeniser = Tokeniser((load_keys(site.directory / "keys", ORIGIN).subject_key,))
    async with site.running() as feed:
        assert feed.log.head.frontier == head.frontier
        for person in PEOPLE:
            assert await feed.log.find_cluster(tokeniser.token(*person.split("="))) is not None


async def test_operations_accept_log_is_an_operators_word(site: Site) -> None:
    async with site.running():
        await site.record(PEOPLE[0])
    shutil.rmtree(site.directory / "high-water")
    with pytest.raises(LogUnmarked):
        async with site.running():
            pass
    assert (await site.command("accept-log")).exit_code == 1
    accepted = await site.command("accept-log", "--yes")
    assert (accepted.exit_code, accepted.stdout) == (0, "Accepted the log of 5 entries.\n")
    offline = await site.command("backup", "--offline", "--json")
    assert said(offline)["log_size"] == 5
    async with site.running():
        pass


async def test_operations_no_file_of_the_feed_holds_an_identifier_or_a_token(site: Site) -> None:
    async with site.running():
        await site.record(*PEOPLE)
        link = ("record", "link", PEOPLE[0], PEOPLE[1], "-c", str(site.directory / "feed.yaml"))
        assert (await asyncio.to_thread(site.run, *link)).exit_code == 0
        await site.command("backup")
        site.save("while-it-runs")
    shutil.rmtree(site.directory / "log")
    await site.command("restore")

    keys = load_keys(site.directory / "keys", ORIGIN)
    tokens = [Tokeniser((keys.subject_key,)).token(*person.split("=")) for person in PEOPLE]
    searched = set()
    for path in site.directory.rglob("*"):
        if path.is_file() and "keys" not in path.parts:
            content = path.read_bytes()
            searched.add(path.name)
            assert [token for token in tokens if token in content] == [], path.name
            assert keys.kek not in content
    names = [person.partition("=")[2] for person in PEOPLE]
    assert IdentifierSearch(names).search_folder(site.directory).hits == ()
    assert {"log.db", "log.db-wal", "log-mark", "log-monday.consentry", "segment-00000000000000000001.log"} <= searched


async def say_hello(site: Site, size: int, root_hash: bytes) -> tuple[grpc.StatusCode, str]:
    """What a sidecar that holds this is refused with."""
    async with grpc.aio.insecure_channel(site.installation.socket("sync")) as channel:
        hello = feed_pb2.Hello(sidecar_id="pod-1", size=size, root_hash=root_hash)

        async def requests() -> AsyncIterator[feed_pb2.SubscribeRequest]:
            yield feed_pb2.SubscribeRequest(hello=hello)

        return await refusal_of(feed_pb2_grpc.FeedServiceStub(channel).Subscribe(requests()))


async def status(site: Site) -> dict[str, Any]:
    return said(await asyncio.to_thread(site.run, "status", "--json", "-c", str(site.directory / "feed.yaml")))


async def lose_entries(site: Site) -> tuple[int, int, bytes]:
    """Sets everything of the feed's back; returns the size there is, and size and root that there were."""
    async with site.running() as feed:
        await site.record(PEOPLE[0])
        size = feed.log.head.size
    site.save("older")
    async with site.running() as feed:
        # More than what is logged of the calls that follow.
        await site.record(PEOPLE[1], PEOPLE[3], PEOPLE[4])
        head = feed.log.head
    site.save("newest")
    site.put_back("older")
    return size, head.size, head.frontier.root_hash()


BEHIND = (grpc.StatusCode.FAILED_PRECONDITION, "LOG_BEHIND_SIDECAR")


async def test_sidecar_with_more_than_the_log_stops_the_intake_until_the_entries_are_back(site: Site) -> None:
    size, lost_size, root_hash = await lose_entries(site)
    async with site.running() as feed:
        assert (await status(site))["intake"] == "open"
        assert await say_hello(site, lost_size, root_hash) == BEHIND

        words = ("record", "directive", "opt-out", "--id", PEOPLE[2], "-p", "left", "-c", f"{site.directory}/feed.yaml")
        refused = await asyncio.to_thread(site.run, *words)
        assert refused.exit_code == 1
        assert f"entries {size + 1} to {lost_size}, which this log has lost" in refused.stderr
        shown = await status(site)
        assert (shown["intake"], shown["lost_entries"]) == ("stopped", f"{size + 1} to {lost_size}")
        assert shown["lost_entries_are_held_by"] == "pod-1"
        assert feed.log.head.size == size
        assert feed.log.head.checkpoint_note

    async with site.running() as feed:
        assert (await status(site))["intake"] == "stopped"
        with pytest.raises(LogBehindSidecar):
            await feed.log.submit(Submission([ReceivedEvent(origin=ORIGIN, received_at_ms=1, request_type=1)]))
    lost = (site.directory / "high-water" / "log-mark.lost").read_bytes()
    site.put_back("newest")
    (site.directory / "high-water" / "log-mark.lost").write_bytes(lost)
    async with site.running() as feed:
        assert (await status(site))["intake"] == "open"
        await site.record(PEOPLE[2])
    assert not (site.directory / "high-water" / "log-mark.lost").exists()


async def test_operations_resume_intake_goes_on_without_what_was_lost(site: Site) -> None:
    _, lost_size, root_hash = await lose_entries(site)
    async with site.running():
        unneeded = await site.command("resume-intake", "--yes")
        assert unneeded.stdout == "The intake was not stopped.\n"
        assert await say_hello(site, lost_size, root_hash) == BEHIND
        assert (await site.command("resume-intake")).exit_code == 1
        assert (await site.command("resume-intake", "--yes")).stdout == "The intake is open.\n"
        # The sidecar stays refused, and its word stops nothing any more; a larger loss does.
        assert await say_hello(site, lost_size, root_hash) == BEHIND
        assert (await status(site))["intake"] == "open"
    async with site.running():
        assert await say_hello(site, lost_size, root_hash) == BEHIND
        await site.record(PEOPLE[2])
        assert await say_hello(site, lost_size + 1, root_hash) == BEHIND
        assert (await status(site))["intake"] == "stopped"
