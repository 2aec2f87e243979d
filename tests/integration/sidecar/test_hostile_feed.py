"""What a feed that has the log's keys and means harm can send: each refused by name, answers go on, and age into DENY."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.feed.v1 import feed_pb2

from consent.event import DirectiveEvent
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.keys import KeyKind, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from consent.vocabulary.subject import Tokeniser
from sidecar.ports import EntriesFrame, SyncState, WireEntry
from sidecar.runtime import RunningSidecar, running_sidecar
from tests.fakes.clock import FakeClock
from tests.fakes.histories import POLICY
from tests.fakes.hostile_feed import Frame, HostileFeed, serving
from tests.fakes.installation import install
from tests.fakes.signing_feed import (
    ORIGIN,
    START_MS,
    STOLEN_KEY,
    SUBJECT_KEY,
    TRUST,
    SigningFeed,
    opt_out,
)
from tests.fakes.system import ask, policy_event, reason_of

PATIENCE_SECONDS = 20.0
TOO_LONG_MS = 40 * 86_400_000
TOKENISER = Tokeniser([SUBJECT_KEY])
ROOT_KEY = generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, bytes([7]) * 32)


def denial(value: str, **changes: Any) -> DirectiveEvent:
    return opt_out(0, token=TOKENISER.token("user", value), **changes)


def honest_log(*events: DirectiveEvent) -> SigningFeed:
    return SigningFeed([replace(policy_event(POLICY), origin=ORIGIN), denial("ada"), *events])


def from_where_it_is(log: SigningFeed, size: int | None = None) -> Callable[[feed_pb2.Hello], Iterable[Frame]]:
    """What an honest feed sends."""

    def script(hello: feed_pb2.Hello) -> Iterable[Frame]:
        end = log.size if size is None else size
        return [log.entries(hello.size + 1, end)] if hello.size < end else [log.heartbeat(end)]

    return script


class Attacked:
    """A sidecar that holds an honest log, and the feed that will now do otherwise."""

    def __init__(self, directory: Path, log: SigningFeed, feed: HostileFeed, sidecar: RunningSidecar, clock: FakeClock):
        self.installation = directory
        self.log, self.feed, self.sidecar, self.clock = log, feed, sidecar, clock

    async def reason(self, value: str) -> str:
        async with grpc.aio.insecure_channel(f"unix://{self.installation}/sidecar-1-app.sock") as channel:
            response = await decision_pb2_grpc.ConsentDecisionServiceStub(channel).Check(ask(value))
            name = decision_pb2.Effect.Name(response.effect).removeprefix("EFFECT_")
            return f"{name} {reason_of(response)}"

    async def expect_refusal(self, reason: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.sidecar.follower.last_error_reason != reason:
                await asyncio.sleep(0.005)

    async def expect_old_answers_that_age(self) -> None:
        assert await self.reason("ada") == "DENY GLOBAL_OPT_OUT"
        assert (await self.reason("nobody")).startswith("ALLOW")
        self.clock.advance(TOO_LONG_MS)
        assert await self.reason("nobody") == "DENY CACHE_TOO_STALE"


@asynccontextmanager
async def attacked(directory: Path) -> AsyncIterator[Attacked]:
    installation = install(directory)
    (directory / "trust.note").write_bytes(seal_trust(TRUST, ROOT_KEY))
    (directory / "root.pub").write_text(f"{format_verifier_key(ROOT_KEY.verifier_key)}\n", encoding="utf-8")
    log, clock = honest_log(), FakeClock(START_MS + 500)
    async with serving(HostileFeed(from_where_it_is(log)), directory / "sync.sock") as feed:
        settings = installation.sidecar_settings()
        async with running_sidecar(settings, clock=clock, boot_id="test") as sidecar:
            assert await sidecar.cache.wait_for_size(log.size, PATIENCE_SECONDS)
            system = Attacked(directory, log, feed, sidecar, clock)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while sidecar.cache.key_ring is None:
                    await asyncio.sleep(0.005)
            yield system


def grown(log: SigningFeed, *events: DirectiveEvent) -> EntriesFrame:
    """The next entries of the log, honestly."""
    first = log.size + 1
    for event in events or (denial("eve"), denial("bob")):
        log.append(event)
    return log.entries(first)


def with_last_entry(frame: EntriesFrame, entry: WireEntry) -> EntriesFrame:
    return replace(frame, entries=[*frame.entries[:-1], entry])


def rollback(log: SigningFeed) -> Frame:
    return log.heartbeat(log.size - 1, START_MS + 1_000)


def fork(log: SigningFeed) -> Frame:
    return honest_fork(log).heartbeat(log.size, START_MS + 1_000)


def honest_fork(log: SigningFeed) -> SigningFeed:
    return SigningFeed([replace(policy_event(POLICY), origin=ORIGIN), denial("somebody else")])


def gap(log: SigningFeed) -> Frame:
    frame = grown(log)
    return replace(frame, from_seq=frame.from_seq + 1, entries=frame.entries[1:])


def replay(log: SigningFeed) -> Frame:
    return log.entries(1)


def other_content(log: SigningFeed) -> Frame:
    """An entry that is held already, with other content."""
    return honest_fork(log).entries(log.size)


def reordered(log: SigningFeed) -> Frame:
    frame = grown(log)
    return replace(frame, entries=list(reversed(frame.entries)))


def dropped(log: SigningFeed) -> Frame:
    frame = grown(log)
    return replace(frame, entries=frame.entries[:1])


def stolen_key(log: SigningFeed) -> Frame:
    frame = grown(log)
    return replace(frame, checkpoint_note=log.checkpoint(log_key=STOLEN_KEY))


def without_cosigner(log: SigningFeed) -> Frame:
    frame = grown(log)
    return replace(frame, checkpoint_note=b"\n".join(frame.checkpoint_note.split(b"\n")[:-2]) + b"\n")


def future(log: SigningFeed) -> Frame:
    return log.heartbeat(log.size, START_MS + 3_600_000)


def unknown_type(log: SigningFeed) -> Frame:
    frame = grown(log)
    entry = WireEntry(0x7F, bytes(32), bytes((1, 0x7F)))
    return with_last_entry(frame, entry)


def truncated_event(log: SigningFeed) -> Frame:
    frame = grown(log)
    return with_last_entry(frame, replace(frame.entries[-1], event_bytes=frame.entries[-1].event_bytes[:-1]))


def of_another_log(log: SigningFeed) -> Frame:
    return grown(log, denial("eve", origin="other.example/log"))


def empty_frame(log: SigningFeed) -> Frame:
    return EntriesFrame(log.size + 1, [], log.checkpoint())


def unknown_message(log: SigningFeed) -> Frame:
    return feed_pb2.SubscribeResponse()


def oversized(log: SigningFeed) -> Frame:
    return with_last_entry(grown(log), WireEntry(0x86, bytes(32), bytes(17 * 1024 * 1024)))


ATTACKS: list[tuple[Callable[[SigningFeed], Frame], str]] = [
    (rollback, "LOG_ROLLBACK"),
    (fork, "LOG_FORK"),
    (gap, "SEQUENCE_GAP"),
    (replay, "SEQUENCE_GAP"),
    (other_content, "SEQUENCE_GAP"),
    (reordered, "ROOT_MISMATCH"),
    (dropped, "ROOT_MISMATCH"),
    (stolen_key, "CHECKPOINT_REJECTED"),
    (without_cosigner, "CHECKPOINT_REJECTED"),
    (future, "CHECKPOINT_FROM_FUTURE"),
    (unknown_type, "ENTRY_REJECTED"),
    (truncated_event, "ENTRY_REJECTED"),
    (of_another_log, "ENTRY_REJECTED"),
    (empty_frame, "MALFORMED_FRAME"),
    (unknown_message, "MALFORMED_FRAME"),
    (oversized, "MALFORMED_FRAME"),
]


@pytest.mark.parametrize(("attack", "reason"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
async def test_attack_is_refused_by_name_and_what_is_held_serves_on_and_ages(
    short_directory: Path, attack: Callable[[SigningFeed], Frame], reason: str
) -> None:
    async with attacked(short_directory) as system:
        size = system.log.size
        frame = attack(system.log)
        system.feed.play(lambda _: [frame])
        await system.expect_refusal(reason)
        assert system.sidecar.follower.state is SyncState.REFUSED
        if attack not in (oversized, unknown_message):
            # What cannot be read as a frame at all ends the stream without a word.
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await system.feed.nacks.get() == reason
        assert system.sidecar.cache.head.size == size
        await system.expect_old_answers_that_age()


async def test_after_an_attack_an_honest_feed_is_followed_again(short_directory: Path) -> None:
    async with attacked(short_directory) as system:
        frame = gap(system.log)
        system.feed.play(lambda _: [frame])
        await system.expect_refusal("SEQUENCE_GAP")
        system.feed.play(from_where_it_is(system.log))
        assert await system.sidecar.cache.wait_for_size(system.log.size, PATIENCE_SECONDS)
        assert await system.reason("eve") == "DENY GLOBAL_OPT_OUT"


async def test_endless_entries_without_a_checkpoint_are_refused(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.sync.trusted_log.MAX_PENDING_ENTRIES", 50)
    async with attacked(short_directory) as system:
        size = system.log.size
        for number in range(80):
            system.log.append(denial(f"person-{number}"))
        frames = [
            replace(system.log.entries(seq, seq), checkpoint_note=b"") for seq in range(size + 1, system.log.size + 1)
        ]
        system.feed.play(lambda _: frames)
        await system.expect_refusal("MALFORMED_FRAME")
        await system.expect_old_answers_that_age()


async def test_frozen_log_ages_however_often_it_is_shown(short_directory: Path) -> None:
    async with attacked(short_directory) as system:
        old = system.log.heartbeat()
        system.feed.play(lambda _: [old] * 100)
        await asyncio.sleep(0)
        system.clock.advance(TOO_LONG_MS)
        assert await system.reason("nobody") == "DENY CACHE_TOO_STALE"
        system.feed.play(lambda _: [old] * 100)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while system.sidecar.follower.state is not SyncState.IN_SYNC:
                await asyncio.sleep(0.005)
        assert await system.reason("nobody") == "DENY CACHE_TOO_STALE"


async def test_snapshot_of_another_state_is_refused(short_directory: Path) -> None:
    async with attacked(short_directory) as system:
        held = system.log.size
        system.log.append(denial("eve"))
        snapshot = system.log.snapshot(held)
        system.feed.snapshot = replace(snapshot, chunks=SigningFeed([denial("ada")]).snapshot().chunks)
        required = feed_pb2.SubscribeResponse(snapshot_required=feed_pb2.SnapshotRequired(min_seq=held))
        system.feed.play(lambda _: [required])
        await system.expect_refusal("SNAPSHOT_REJECTED")
        assert system.sidecar.cache.head.size == held
        await system.expect_old_answers_that_age()


async def test_snapshot_of_another_history_is_a_fork(short_directory: Path) -> None:
    async with attacked(short_directory) as system:
        held = system.log.size
        other = honest_fork(system.log)
        other.append(denial("eve"))
        system.feed.snapshot = other.snapshot(held)
        required = feed_pb2.SubscribeResponse(snapshot_required=feed_pb2.SnapshotRequired(min_seq=held))
        system.feed.play(lambda _: [required])
        await system.expect_refusal("LOG_FORK")
        await system.expect_old_answers_that_age()


async def test_two_sidecars_that_were_shown_different_histories_hold_the_proof() -> None:
    """Equivocation: each history is consistent in itself; the two checkpoints that the sidecars keep convict the log."""
    checkpoints = []
    for person in ("eve", "grace"):
        with tempfile.TemporaryDirectory(prefix="csty-") as folder:
            async with attacked(Path(folder)) as system:
                system.log.append(denial(person))
                system.feed.play(from_where_it_is(system.log))
                assert await system.sidecar.cache.wait_for_size(system.log.size, PATIENCE_SECONDS)
                seen = system.sidecar.cache.head.checkpoint
                assert seen is not None
                checkpoints.append(seen.note)
    one, two = (verify_checkpoint(note, TRUST, None).checkpoint for note in checkpoints)
    assert one.size == two.size
    assert one.root_hash != two.root_hash
