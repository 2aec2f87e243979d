"""A person is erased, with a real feed and real sidecars: a denial of everything stays, and no byte of what was there."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

from consent.event import EventType, LinkEvent, RestrictionEvent, UnlinkEvent
from feed.ports import Submission
from feed.runtime import running_feed
from sidecar.runtime import running_sidecar
from sidecar.sync.feed_client import GrpcFeed
from tests.fakes.installation import ORIGIN, TestInstallation
from tests.fakes.system import System, ask, reason_of, running_system

MAX_STREAM_ENTRIES = {"stream": 1000, "snapshot": 3}


async def erase(installation: TestInstallation, value: str) -> intake_pb2.EraseSubjectResponse:
    """What `consentry-feed erase` does."""
    identifier = event_pb2.Identifier(namespace="user", value=value)
    async with grpc.aio.insecure_channel(installation.socket("feed-admin")) as channel:
        stub = intake_pb2_grpc.SubjectServiceStub(channel)
        return await stub.EraseSubject(intake_pb2.EraseSubjectRequest(identifier=identifier))


async def say(system: System) -> None:
    """Ada, known by two names, and Bob, who was taken for somebody else once."""
    token = system.tokeniser.token
    await system.log(
        system.opt_out("ada", "left", kind=1, proof=3, assurance=2),
        system.opt_out("ada-2", "right"),
        LinkEvent(origin=ORIGIN, left=token("user", "ada"), right=token("user", "ada-2"), proof=3, occurred_at_ms=1),
        RestrictionEvent(origin=ORIGIN, token=token("user", "ada"), restricted=True, proof=3, occurred_at_ms=1),
        system.opt_out("cyd", "left"),
        LinkEvent(origin=ORIGIN, left=token("user", "bob"), right=token("user", "cyd"), proof=2, occurred_at_ms=1),
        UnlinkEvent(origin=ORIGIN, left=token("user", "bob"), right=token("user", "cyd"), occurred_at_ms=1),
        system.opt_out("bob", "right"),
    )


async def answer(system: System, value: str) -> str:
    async with system.stub() as stub:
        return reason_of(await stub.Check(ask(value)))


async def sealed_values(system: System) -> dict[int, bytes]:
    """What stands sealed in the feed's database for the entries of the log and its people."""
    store = system.feed.log._store
    async with store._database.reading() as connection:  # type: ignore[attr-defined]
        entries = await connection.execute_fetchall("SELECT seq, sealed FROM entry")
    return {row[0]: row[1] for row in entries}


def files_below(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def merged(system: System) -> None:
    """The sidecar has made its new generation and emptied its log of writes."""
    cache = system.sidecar.cache
    async with asyncio.timeout(20):
        while cache._durable.manifest.delta_count or cache._making_generation.locked():
            await asyncio.sleep(0.005)


async def test_erasure_leaves_a_denial_and_no_byte_of_what_was_there(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await say(system)
        feed_files, cache_files = short_directory / "log", system.settings.cache.directory
        before = await sealed_values(system)
        cache_rows = await system.sidecar.cache._durable._writer.read("SELECT blob FROM delta")
        assert all(sealed[-24:] in files_below(feed_files) for sealed in before.values())
        # A snapshot from before holds her too.
        feed = GrpcFeed(system.installation.socket("sync"), None, "sidecar-1")
        await feed.fetch_snapshot(0)
        await feed.close()
        assert list((feed_files / "snapshots").iterdir())

        erased = await erase(system.installation, "ada")
        assert (erased.token_count, erased.erased_count, erased.kept_count) == (2, 4, 0)
        assert len(erased.request_id) == 16
        assert list((feed_files / "snapshots").iterdir()) == []
        after = await sealed_values(system)
        gone = [sealed for seq, sealed in before.items() if after[seq] != sealed]
        assert len(gone) == 4
        held = files_below(feed_files)
        assert not [sealed for sealed in gone if sealed[-24:] in held]

        await system.catch_up()
        await merged(system)
        held = files_below(cache_files)
        assert cache_rows
        assert not [row for (row,) in cache_rows if row[-24:] in held]
        assert [await answer(system, name) for name in ("ada", "ada-2", "cyd")] == [
            "GLOBAL_OPT_OUT",
            "GLOBAL_OPT_OUT",
            "OPT_OUT",
        ]


async def test_erasure_of_a_person_who_was_linked_keeps_what_the_other_rests_on(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await say(system)
        assert await answer(system, "bob") == "OPT_OUT"
        erased = await erase(system.installation, "cyd")
        assert (erased.token_count, erased.erased_count, erased.kept_count) == (1, 0, 3)
        erased = await erase(system.installation, "bob")
        assert (erased.erased_count, erased.kept_count) == (1, 2)
        await system.catch_up()
        assert [await answer(system, name) for name in ("bob", "cyd", "nobody")] == [
            "GLOBAL_OPT_OUT",
            "GLOBAL_OPT_OUT",
            "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN",
        ]


@pytest.mark.parametrize("way", MAX_STREAM_ENTRIES)
async def test_erasure_new_sidecar_denies_whatever_way_it_comes_by_the_log(short_directory: Path, way: str) -> None:
    changes = {
        "event_log": {
            "directory": short_directory / "log",
            "keys_directory": short_directory / "keys",
            "max_stream_entries": MAX_STREAM_ENTRIES[way],
        }
    }
    async with running_system(short_directory, feed_changes=changes) as system:
        await say(system)
        await erase(system.installation, "ada")
        await system.log(system.opt_out("dan"))
        settings = system.installation.sidecar_settings("sidecar-2")
        async with running_sidecar(settings, boot_id="test") as sidecar:
            assert await sidecar.cache.wait_for_size(system.feed.log.head.size, 20)
            for name in ("ada", "ada-2", "bob", "cyd", "dan"):
                token = system.tokeniser.token("user", name)
                assert sidecar.cache.find(token) == system.sidecar.cache.find(token)
                assert sidecar.cache.find(token) is not None


async def test_erasure_holds_after_restarts_and_is_not_repeated(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await say(system)
        first = await erase(system.installation, "ada")
        size = system.feed.log.head.size
        again = await erase(system.installation, "ada-2")
        assert (again.request_id, again.token.seq) == (b"", first.token.seq)
        # That somebody asked again is all that was logged.
        since = await system.feed.log.read_entries(size + 1, 10)
        assert EventType.ERASURE not in [entry.type_byte for entry in since]
        await feed_only.aclose()
        async with running_feed(system.installation.feed_settings()) as feed:
            system.feed = feed
            assert (await erase(system.installation, "ada")).token.seq == first.token.seq
            await system.log(system.opt_out("dan"))
            # The log's own answer to who asks for an erased entry: its commitment, with the proof that still holds.
            client = GrpcFeed(system.installation.socket("sync"), None, "sidecar-1")
            erased_seq = next(entry.seq for entry in await feed.log.read_entries(1, size) if not entry.event_bytes)
            proof = await client.fetch_entry_proof(erased_seq, size)
            await client.close()
            assert (proof.entry.event_bytes, proof.entry.opening, len(proof.entry.commitment)) == (b"", b"", 32)
            assert await answer(system, "ada") == "GLOBAL_OPT_OUT"
            # Who comes back by proof of their own is found again.
            now_ms = feed.log.head.checkpoint_time_ms
            grant = system.opt_out(
                "ada", "left", kind=1, proof=3, assurance=2, occurred_at_ms=now_ms + 600_000, notice_version=1
            )
            await system.log(grant)
            assert await answer(system, "ada") == "GRANTED"
            last = await erase(system.installation, "ada")
            (entry,) = await feed.log.read_entries(last.token.seq, 1)
            assert (last.erased_count, entry.type_byte) == (1, EventType.ERASURE)


async def test_erasure_finds_what_was_said_in_earlier_key_epochs(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await say(system)
        async with grpc.aio.insecure_channel(system.installation.socket("feed-admin")) as channel:
            await intake_pb2_grpc.SubjectServiceStub(channel).BeginKeyEpoch(intake_pb2.BeginKeyEpochRequest(epoch=1))
        await system.log(system.opt_out("ada", "right"))
        erased = await erase(system.installation, "ada")
        assert (erased.token_count, erased.erased_count) == (2, 5)
        await system.catch_up()
        assert await answer(system, "ada") == "GLOBAL_OPT_OUT"
        async with running_sidecar(system.installation.sidecar_settings("sidecar-2"), boot_id="test") as sidecar:
            assert await sidecar.cache.wait_for_size(system.feed.log.head.size, 20)


async def test_erasure_of_nobody_keeps_them_out(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        assert await answer(system, "eve") != "GLOBAL_OPT_OUT"
        erased = await erase(system.installation, "eve")
        assert (erased.token_count, erased.erased_count) == (1, 0)
        await system.catch_up()
        assert await answer(system, "eve") == "GLOBAL_OPT_OUT"


async def test_erasure_under_load_reaches_a_sidecar_that_is_catching_up(short_directory: Path) -> None:
    """Entries lose their payload while they are on their way: what comes is one batch with the ERASURE, and nothing is refused."""
    async with running_system(short_directory) as system:
        people = [f"person-{number}" for number in range(40)]
        events = [system.opt_out(name, "left") for name in people for _ in range(60)]
        for start in range(0, len(events), 400):
            await system.feed.log.submit(Submission(events[start : start + 400]))
        async with running_sidecar(system.installation.sidecar_settings("sidecar-2"), boot_id="test") as sidecar:
            for name in people[:6]:
                await erase(system.installation, name)
            assert await sidecar.cache.wait_for_size(system.feed.log.head.size, 20)
            assert sidecar.follower.last_error_reason == ""
            await system.catch_up()
            for name in people:
                token = system.tokeniser.token("user", name)
                assert sidecar.cache.find(token) == system.sidecar.cache.find(token)
