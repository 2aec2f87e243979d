"""The task that keeps the cache up with the feed."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consent.errors import ConsentError
from consent.key_epoch import current_epoch
from consent.key_ring import KeyRing, open_key_ring
from hosting.clock import Clock
from sidecar.errors import FeedUnavailable, FollowerFault, KeyRingRejected, RefusedAsRetired, SidecarError
from sidecar.ports import (
    Cache,
    EntriesFrame,
    Feed,
    FeedStream,
    Frame,
    HeartbeatFrame,
    SnapshotRequiredFrame,
    StatusListener,
    SyncState,
    VerifiedBatch,
)
from sidecar.sync.backoff import Backoff
from sidecar.sync.enrolment import Enrolment
from sidecar.sync.freshness import observe
from sidecar.sync.receipts import Receipts, is_acknowledged
from sidecar.sync.trusted_log import TrustedLog
from sidecar.telemetry.metrics import SyncMeter

logger = logging.getLogger(__name__)

MS_PER_DAY = 86_400_000
AUDIT_KEY_RESERVE_DAYS = 7
"""Fewer days of audit keys than this in hand, and the ring is fetched anew."""


NoteApplied = Callable[[VerifiedBatch, int], None]
"""Told of a batch that is in force, and of the Unix ms at which it had been verified; never raises."""


@dataclass(frozen=True, slots=True)
class FollowerIdentity:
    """Who follows: bound into the key ring's seal.

    Attributes:
        sidecar_id: The sidecar's name.
        tenant: The tenant of the trust file.
        enrolment_token_file: Where a token may lie with which its own key is enrolled.
    """

    sidecar_id: str
    tenant: str
    enrolment_token_file: Path | None = None


class Follower:
    """Follows the feed for ever: connects, verifies, keeps, acknowledges, and starts over with backoff after any error.

    Args:
        feed: The centre.
        cache: What is held.
        trusted: The door, at the cache's head.
        identity: Who follows.
        clock: The time.
        boot_id: Which boot the clock belongs to.
        backoff: Delays between attempts.
        on_change: Called when status or readiness may have changed.

    Attributes:
        state: Where it is.
        last_error_reason: Stable name of what interrupted it last; empty while in sync.
        enrolment: Of this sidecar's own key.
        meter: Counts what comes.
        note_applied: Called after each batch that came into force.
    """

    def __init__(
        self,
        feed: Feed,
        cache: Cache,
        trusted: TrustedLog,
        identity: FollowerIdentity,
        clock: Clock,
        boot_id: str,
        backoff: Backoff,
        on_change: StatusListener,
    ) -> None:
        self._feed = feed
        self._cache = cache
        self._trusted = trusted
        self._identity = identity
        self._clock = clock
        self._boot_id = boot_id
        self._backoff = backoff
        self._on_change = on_change
        self.note_applied: NoteApplied | None = None
        self.meter = SyncMeter()
        self.state = SyncState.EMPTY if cache.head.checkpoint is None else SyncState.DISCONNECTED
        self.last_error_reason = ""
        self._keys_seen_on = 0
        token_file = identity.enrolment_token_file
        self.enrolment = Enrolment(cache, identity.sidecar_id, trusted.origin, token_file, clock)
        self._receipts = Receipts(cache, self.enrolment, trusted.origin, clock)

    async def run(self) -> None:
        """Follow until cancelled.

        This is the boundary behind which a defect may not spread: whatever goes wrong with one stream, checks go on from what is held
        and the next attempt starts from there. The text of a foreign error could hold anything, so its type alone is named.
        """
        while True:
            try:
                await self._follow_once()
            except SidecarError as error:
                self._note_failure(error)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # gRPC cancels a call whose connection it has lost, and nobody asked this task to end.
                self._note_failure(FeedUnavailable("the call was cancelled"))
            except Exception as error:  # noqa: BLE001 - the boundary
                self._note_failure(FollowerFault(f"unexpected {type(error).__name__}"))
            await asyncio.sleep(self._backoff.next_seconds())

    async def _follow_once(self) -> None:
        await self.enrolment.ask(self._feed, is_new_connection=True)
        await self._prepare_keys()
        if not self._cache.is_intact:
            await self._load_snapshot()
        stream, is_first = self._feed.subscribe(self._cache.head, self._cache.generation), True
        async for frame in stream.frames():
            if is_first:
                await self._send_unconfirmed(stream)
            is_first = False
            await self._take(frame, stream)
            self._backoff.reset()
            self._note_progress()
        raise FeedUnavailable("the feed closed the stream")

    async def _take(self, frame: Frame, stream: FeedStream) -> None:
        try:
            match frame:
                case EntriesFrame():
                    batch = self._trusted.receive_entries(frame, observe(self._clock, self._boot_id))
                    if batch is not None:
                        await self._apply(batch, stream)
                case HeartbeatFrame():
                    head = self._trusted.receive_heartbeat(frame, observe(self._clock, self._boot_id))
                    if head is not None:
                        await self._cache.save_checkpoint(head)
                        self._trusted.advance(head)
                    if self._today() != self._keys_seen_on:
                        await self._prepare_keys()
                    await self.enrolment.ask(self._feed)
                case SnapshotRequiredFrame():
                    await self._load_snapshot()
                    await stream.acknowledge(self._receipts.sign(self._cache.head))
        except SidecarError as error:
            # The feed learns why before the stream ends; what is held stays in force and ages.
            await stream.refuse(self._cache.head.size, error.reason)
            raise

    async def _apply(self, batch: VerifiedBatch, stream: FeedStream) -> None:
        """Verify (done), commit, swap, acknowledge.

        A crash before the commit costs nothing; after it, the acknowledgement that the commit says is owed is made by the next start.
        """
        started_ms, started = self._clock.now_ms(), time.perf_counter()
        before, after = self._cache.head.tenant, batch.head.tenant
        begins_epoch = current_epoch(after) > current_epoch(before)
        # What is held is answered from, under its own keys, until it is there under the new one.
        ring = await self._fetch_ring(after.key_commitments) if begins_epoch else None
        await self._cache.apply(batch, self._receipts.plan(batch), ring)
        self._trusted.advance(batch.head)
        self.meter.note_batch(len(batch.events), started)
        if self.note_applied is not None:
            self.note_applied(batch, started_ms)
        if after.key_commitments != before.key_commitments and not begins_epoch:
            await self._refresh_keys()
        if is_acknowledged(batch):
            await stream.acknowledge(self._receipts.sign(batch.head))

    async def _send_unconfirmed(self, stream: FeedStream) -> None:
        """What an earlier stream, or an earlier run, has acknowledged and the log does not hold; the feed drops what it has."""
        for receipt in self._receipts.unconfirmed():
            await stream.acknowledge(receipt)

    async def _load_snapshot(self) -> None:
        wire = await self._feed.fetch_snapshot(self._cache.head.size)
        # Many records take their time, in which checks go on.
        moment = observe(self._clock, self._boot_id)
        snapshot = await asyncio.to_thread(self._trusted.receive_snapshot, wire, moment)
        commitments, ring = snapshot.head.tenant.key_commitments, self._cache.key_ring
        if commitments and (ring is None or not ring.matches(commitments)):
            ring = await self._fetch_ring(commitments)
        await self._cache.load_snapshot(snapshot, self._receipts.plan_snapshot(snapshot.head), ring)
        self._trusted.advance(snapshot.head)
        await self._refresh_keys()

    async def _prepare_keys(self) -> None:
        """Refresh the keys where that is due; a ring that still fits the log does not keep entries from coming."""
        try:
            await self._refresh_keys()
        except SidecarError as error:
            ring, commitments = self._cache.key_ring, self._cache.head.tenant.key_commitments
            if ring is None or not ring.matches(commitments):
                raise
            logger.warning("the key ring cannot be refreshed", extra={"fields": {"reason": error.reason}})

    def _today(self) -> int:
        return self._clock.now_ms() // MS_PER_DAY

    async def _refresh_keys(self) -> None:
        """Fetch the key ring where it is missing, of another epoch than the log's, or short of audit keys."""
        self._keys_seen_on = self._today()
        commitments = self._cache.head.tenant.key_commitments
        if not commitments or _is_sufficient(self._cache.key_ring, commitments, self._today()):
            return
        await self._cache.save_key_ring(await self._fetch_ring(commitments))

    async def _fetch_ring(self, commitments: tuple[bytes, ...]) -> KeyRing:
        """The key ring for a log that commits to these keys; the feed's may be of an epoch that has not come here yet."""
        private_key = X25519PrivateKey.from_private_bytes(self._cache.private_key)
        sealed = await self._feed.fetch_keys(private_key.public_key().public_bytes_raw())
        identity = self._identity
        try:
            ring = open_key_ring(sealed, private_key, tenant=identity.tenant, sidecar_id=identity.sidecar_id)
        except ConsentError as error:
            raise KeyRingRejected(error.reason) from None
        fitting = ring.fit(commitments)
        if fitting is None:
            raise KeyRingRejected("the subject keys are not those that the log commits to")
        return fitting

    def _note_failure(self, error: SidecarError) -> None:
        self.meter.count_error(error.reason)
        if isinstance(error, RefusedAsRetired):
            self.enrolment.note_retired()
        is_absence = isinstance(error, FeedUnavailable)
        state = SyncState.DISCONNECTED if is_absence else SyncState.REFUSED
        if self._cache.head.checkpoint is None and is_absence:
            state = SyncState.EMPTY
        if (state, error.reason) != (self.state, self.last_error_reason):
            level = logging.WARNING if is_absence else logging.ERROR
            logger.log(level, "sync interrupted: %s", error, extra={"fields": {"reason": error.reason}})
        self.state, self.last_error_reason = state, error.reason
        self._on_change()

    def _note_progress(self) -> None:
        self.meter.note_frame()
        if self.state is not SyncState.IN_SYNC:
            logger.info("in sync", extra={"fields": {"log_size": self._cache.head.size}})
        self.state, self.last_error_reason = SyncState.IN_SYNC, ""
        self._on_change()


def _is_sufficient(ring: KeyRing | None, commitments: tuple[bytes, ...], today: int) -> bool:
    if ring is None or not ring.matches(commitments):
        return False
    return max((day for day, _ in ring.audit_keys), default=0) >= today + AUDIT_KEY_RESERVE_DAYS
