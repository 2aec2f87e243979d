"""The follower's boundary: whatever a feed or a defect throws at it, it goes on, and says what happened."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from consent.eventlog.acknowledgement import Receipt
from consent.eventlog.journal_head import JournalDisposal, JournalHead
from consent.key_ring import KeyRing, seal_key_ring
from sidecar.errors import FeedRefused, FeedUnavailable, SequenceGap
from sidecar.ports import EMPTY_HEAD, EntryProof, Frame, LogHead, OutboxChange, SyncState, VerifiedBatch, WireSnapshot
from sidecar.sync.backoff import Backoff
from sidecar.sync.follower import Follower, FollowerIdentity, NoteApplied
from sidecar.sync.trusted_log import TrustedLog
from tests.fakes.clock import FakeClock
from tests.fakes.signing_feed import START_MS, SUBJECT_KEY, TRUST, SigningFeed, opt_out


class Stream:
    """One Subscribe call: sends frames, then raises what it was told to."""

    def __init__(self, frames: list[Frame], error: BaseException) -> None:
        self._frames = frames
        self._error = error
        self.acknowledged: list[int] = []
        self.refused: list[str] = []

    async def frames(self) -> AsyncIterator[Frame]:
        for frame in self._frames:
            yield frame
        raise self._error

    async def acknowledge(self, receipt: Receipt) -> None:
        self.acknowledged.append(receipt.size)

    async def refuse(self, size: int, reason: str) -> None:
        self.refused.append(reason)


class ScriptedFeed:
    """Answers each Subscribe with the next stream of its script; the last one never ends."""

    def __init__(self, *streams: Stream) -> None:
        self._streams = list(streams)
        self.idle = asyncio.Event()

    def subscribe(self, head: LogHead, generation: int) -> Any:
        if self._streams:
            return self._streams.pop(0)
        return self

    async def frames(self) -> AsyncIterator[Frame]:
        self.idle.set()
        await asyncio.Event().wait()
        yield SigningFeed().heartbeat()

    async def fetch_snapshot(self, held_size: int) -> WireSnapshot:
        raise FeedUnavailable("not scripted")

    async def fetch_keys(self, recipient_public_key: bytes) -> bytes:
        raise FeedUnavailable("not scripted")

    async def enrol(self, public_key: bytes, possession: bytes, token: str) -> bool:
        raise FeedRefused("not scripted")

    async def fetch_entry_proof(self, seq: int, tree_size: int) -> EntryProof:
        raise FeedUnavailable("not scripted")

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        raise FeedUnavailable("not scripted")

    async def close(self) -> None:
        return


class HeldInMemory:
    """A cache that keeps heads only."""

    generation, subject_count, is_intact, policy = 0, 0, True, None
    private_key = signing_seed = bytes(range(32))
    owes_receipt = False

    def __init__(self) -> None:
        self.head = EMPTY_HEAD
        self.key_ring: KeyRing | None = KeyRing((SUBJECT_KEY,), ((10**6, bytes(32)),))

    async def apply(self, batch: VerifiedBatch, change: OutboxChange, key_ring: KeyRing | None = None) -> None:
        self.head = batch.head
        self.key_ring = key_ring or self.key_ring

    async def save_checkpoint(self, head: LogHead) -> None:
        self.head = head


async def follow(
    *streams: Stream, feed: ScriptedFeed | None = None, note_applied: NoteApplied | None = None
) -> tuple[Follower, HeldInMemory, list[tuple[SyncState, str]]]:
    """Follow a script to its end; returns the states on the way."""
    cache, states = HeldInMemory(), list[tuple[SyncState, str]]()
    feed = feed or ScriptedFeed(*streams)
    identity, clock = FollowerIdentity("s", "tenant-1"), FakeClock(START_MS + 500)

    def note() -> None:
        states.append((follower.state, follower.last_error_reason))

    follower = Follower(
        feed,
        cache,  # type: ignore[arg-type]
        TrustedLog(TRUST, cache.head),
        identity,
        clock,
        "boot-1",
        Backoff(0.001, 0.002),
        note,
    )
    follower.note_applied = note_applied
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(10):
            await feed.idle.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return follower, cache, states


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (lambda: FeedUnavailable("gone"), SyncState.DISCONNECTED, "FEED_UNAVAILABLE"),
        (lambda: SequenceGap("gap"), SyncState.REFUSED, "SEQUENCE_GAP"),
        (lambda: ValueError("ada@example.com"), SyncState.REFUSED, "FOLLOWER_FAULT"),
        (lambda: KeyError(b"token"), SyncState.REFUSED, "FOLLOWER_FAULT"),
        (asyncio.CancelledError, SyncState.DISCONNECTED, "FEED_UNAVAILABLE"),
    ],
    ids=["unavailable", "refused", "defect", "key error", "call cancelled by gRPC"],
)
async def test_follower_goes_on_after_whatever_ends_a_stream(
    error: Callable[[], BaseException], state: SyncState, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    feed = SigningFeed([opt_out(1)])
    first, second = (
        Stream([feed.entries()], error()),
        Stream([feed.heartbeat(time_ms=START_MS + 1000)], FeedUnavailable("end")),
    )
    _, cache, states = await follow(first, second)
    assert cache.head.size == 2
    assert (state, reason) in states
    assert states[-1] == (SyncState.DISCONNECTED, "FEED_UNAVAILABLE")
    assert "ada@example.com" not in caplog.text
    assert "token" not in caplog.text


async def test_follower_acknowledges_what_changes_answers_and_refuses_by_name() -> None:
    feed = SigningFeed([opt_out(1)])
    good, bad = Stream([feed.entries()], FeedUnavailable("end")), Stream([feed.entries()], FeedUnavailable("end"))
    _, cache, _ = await follow(good, bad)
    assert (good.acknowledged, good.refused) == ([2], [])
    assert (bad.acknowledged, bad.refused) == ([], ["SEQUENCE_GAP"])
    assert cache.head.size == 2


class KeyedFeed(ScriptedFeed):
    """Hands out a key ring, whatever is asked."""

    def __init__(self, ring: KeyRing, *streams: Stream) -> None:
        super().__init__(*streams)
        self._ring = ring

    async def fetch_keys(self, recipient_public_key: bytes) -> bytes:
        return seal_key_ring(self._ring, recipient_public_key, tenant="tenant-1", sidecar_id="s")


AUDIT_KEYS = ((10**6, bytes(32)),)
NEXT_KEY, LAST_KEY = bytes([7]) * 32, bytes([8]) * 32


@pytest.mark.parametrize(
    ("keys", "is_taken"),
    [
        ((SUBJECT_KEY, NEXT_KEY), True),
        ((SUBJECT_KEY, NEXT_KEY, LAST_KEY), True),
        ((SUBJECT_KEY, LAST_KEY), False),
        ((LAST_KEY, NEXT_KEY), False),
        ((SUBJECT_KEY,), False),
    ],
    ids=["the key", "of a later epoch too", "another key", "another first key", "no new key"],
)
async def test_follower_key_epoch_is_taken_with_the_key_that_the_log_commits_to_and_no_other(
    keys: tuple[bytes, ...], is_taken: bool
) -> None:
    feed = SigningFeed([opt_out(1)])
    before = feed.entries()
    feed.begin_epoch(NEXT_KEY)
    stream = Stream([before, feed.entries(3)], FeedUnavailable("end"))
    _, cache, states = await follow(stream, feed=KeyedFeed(KeyRing(keys, AUDIT_KEYS), stream))
    if is_taken:
        assert cache.head.size == 3
        assert cache.key_ring is not None
        assert cache.key_ring.subject_keys == (SUBJECT_KEY, NEXT_KEY)
    else:
        # State and keys from before the epoch stay in force, together.
        assert cache.head.size == 2
        assert cache.key_ring is not None
        assert cache.key_ring.subject_keys == (SUBJECT_KEY,)
        assert stream.refused == ["KEY_RING_REJECTED"]
        assert (SyncState.REFUSED, "KEY_RING_REJECTED") in states


async def test_follower_tells_of_each_batch_once_it_is_in_force() -> None:
    feed = SigningFeed([opt_out(1)])
    applied = list[tuple[int, int]]()
    stream = Stream([feed.entries()], FeedUnavailable("end"))
    _, cache, _ = await follow(
        stream, note_applied=lambda batch, started_ms: applied.append((batch.head.size, started_ms))
    )
    assert applied == [(cache.head.size, START_MS + 500)]
