"""The encrypted cache: what is in force, what is durable, and the order between the two.

A batch is first committed to the file and then, in one step without an await, put in force; only then may it be acknowledged. So whatever
kills the process, the file holds everything that was acknowledged, and possibly one batch more, which the feed then does not send again.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consent.event import ErasureEvent
from consent.eventlog.acknowledgement import Receipt
from consent.key_epoch import current_epoch
from consent.key_ring import KeyRing
from consent.policy import Policy
from consent.state import Cluster
from hosting.clock import Clock
from hosting.locks import InstanceLock, create_directory
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.deltas import fold_events
from sidecar.cache.durable import DurableCache
from sidecar.cache.generation import StagedTable
from sidecar.cache.high_water import HighWaterFile
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.key_watch import report_failure, watch_keys
from sidecar.cache.mark_keeping import MarkKeeper
from sidecar.cache.opening import Opened, open_or_set_aside
from sidecar.cache.receipt_outbox import ReceiptOutbox
from sidecar.cache.rekeying import rekey_table
from sidecar.cache.sealed_secrets import Secrets
from sidecar.cache.size_waiters import SizeWaiters
from sidecar.cache.table import BuiltTable, Table
from sidecar.cache.table_building import build_table, merge_table
from sidecar.cache.writer import CacheWriter
from sidecar.errors import CacheError, CacheWriteFailed, CorruptCache
from sidecar.ports import (
    EMPTY_HEAD,
    NO_CHANGE,
    KeyProvider,
    LogHead,
    OutboxChange,
    VerifiedBatch,
    VerifiedSnapshot,
)

CHECKPOINT_INTERVAL_MS = 5_000
"""A checkpoint alone is written no more often; half of what is promised, so that a slow disk does not break the promise."""
OUTBOX_DELAY_SECONDS = 0.5
"""How long an acknowledgement may wait to be written; until then a crash makes it one with a later time."""
MERGE_AFTER_ENTRIES = 50_000
"""Entries behind the table after which it is merged: they are folded anew at each start."""
KEY_CHECK_SECONDS = 30.0
"""How often the key provider is asked for a newer key-encryption key."""

__all__ = ["CHECKPOINT_INTERVAL_MS", "KEY_CHECK_SECONDS", "MERGE_AFTER_ENTRIES", "CacheIdentity", "EncryptedCache"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _InForce:
    """What checks are answered from; replaced as a whole.

    Attributes:
        table: The last merge.
        overlay: Clusters that changed since, by token; filled in place, in one step.
        added: Tokens of the overlay that are not in the table.
        head: The log held.
        policy: Of the head's tenant state.
    """

    table: Table
    overlay: dict[bytes, Cluster]
    added: int
    head: LogHead
    policy: Policy | None


class EncryptedCache:
    """The sidecar's cache (`sidecar.ports.Cache`). Use `open`; until `close`, its tasks merge, keep what is pending and follow the keys."""

    def __init__(
        self,
        durable: DurableCache,
        in_force: _InForce,
        outbox: ReceiptOutbox,
        marks: MarkKeeper,
        keys: KeyProvider,
        clock: Clock,
        merge_after_entries: int,
        key_check_seconds: float,
    ) -> None:
        self._durable = durable
        self._outbox = outbox
        self._keys = keys
        self._in_force = in_force
        self._marks = marks
        self._clock = clock
        self._merge_after_entries = merge_after_entries
        self._merge_at_size = durable.manifest.base_size + merge_after_entries
        self._has_erasure = False
        self._is_intact = True
        self._is_checkpoint_pending = False
        self._checkpoint_kept_ms = clock.boot_ms()
        self._keys_checked_ms = clock.boot_ms()
        self._waiters = SizeWaiters()
        # Held from sealing to the change in force, by whatever changes what is held.
        self._changing = asyncio.Lock()
        # Held while a generation is made, which lasts; batches go on meanwhile.
        self._making_generation = asyncio.Lock()
        self._work = asyncio.Event()
        self._on_close = contextlib.ExitStack()
        self._maintenance = asyncio.create_task(self._maintain())
        self._key_watch = asyncio.create_task(watch_keys(self.rewrap_key, key_check_seconds))
        for task in (self._maintenance, self._key_watch):
            task.add_done_callback(report_failure)

    @classmethod
    async def open(
        cls,
        directory: Path,
        keys: KeyProvider,
        identity: CacheIdentity,
        *,
        high_water_path: Path | None,
        clock: Clock,
        merge_after_entries: int = MERGE_AFTER_ENTRIES,
        key_check_seconds: float = KEY_CHECK_SECONDS,
    ) -> Self:
        """Open the cache in a directory, or make an empty one.

        Args:
            directory: Its own directory, created with mode 0700 if missing.
            keys: Wraps and unwraps its data keys.
            identity: Whose cache it must be.
            high_water_path: File of the high-water mark, best on another volume; None for none.
            clock: For the rhythm of writes and names of files set aside.
            merge_after_entries: Entries after which a merge is due.
            key_check_seconds: How often `keys` is asked for a newer KEK.

        Raises:
            InstanceLocked: Another process works on the directory.
            DirectoryUnusable: A directory cannot be created.
            WrongCacheKey: None of the keys opens the file, which is left as it is.
            ForeignCache: The file is of another sidecar, tenant or log, and left as it is.
            CacheWriteFailed: The file cannot be opened, or not be created.
            KeyServiceUnavailable, KeyServiceRefused: The key cannot be had; the file is left as it is.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(InstanceLock(directory))
            path = directory / CACHE_FILE_NAME
            high_water = _prepare_mark(high_water_path, keys, identity)
            opened = await asyncio.to_thread(open_or_set_aside, path, keys, identity, high_water, clock)
            writer = await CacheWriter.open(path, opened.schema_version)
            try:
                durable, in_force, outbox = await _start(opened, writer, keys, identity)
                marks = MarkKeeper(high_water, clock)
                await marks.keep(durable.manifest, at_once=True)
            except BaseException:
                await writer.close()
                raise
            cache = cls(durable, in_force, outbox, marks, keys, clock, merge_after_entries, key_check_seconds)
            if opened.content is not None and opened.content.has_erasure:
                cache._merge_soon()
            cache._on_close = stack.pop_all()
            return cache

    async def close(self) -> None:
        """Keep what is still pending, and let go of the file. A merge that runs is given up, or waited for if it is at its commit."""
        for task in (self._maintenance, self._key_watch):
            task.cancel()
        await asyncio.wait([self._maintenance, self._key_watch])
        async with self._making_generation:
            with self._on_close:
                if self._is_checkpoint_pending:
                    await self._keep_checkpoint()
                await self._keep_outbox()
                async with self._changing:
                    await self._marks.keep(self._durable.manifest, at_once=True)
                    await self._durable.close()

    @property
    def head(self) -> LogHead:
        """What is in force."""
        return self._in_force.head

    @property
    def policy(self) -> Policy | None:
        """The policy in force, None before the first."""
        return self._in_force.policy

    @property
    def generation(self) -> int:
        """Number of the segments' generation."""
        return self._durable.manifest.generation

    @property
    def subject_count(self) -> int:
        """Tokens held."""
        return self._in_force.table.row_count + self._in_force.added

    @property
    def is_intact(self) -> bool:
        """Whether everything read since the start was authentic."""
        return self._is_intact

    @property
    def key_ring(self) -> KeyRing | None:
        """The tenant's keys, None before they first came."""
        return self._durable.secrets.key_ring

    @property
    def key_check_age_seconds(self) -> float:
        """Since the key provider was last asked for a newer key-encryption key and answered."""
        return (self._clock.boot_ms() - self._keys_checked_ms) / 1000

    @property
    def private_key(self) -> bytes:
        """The sidecar's own X25519 private key of 32 bytes."""
        return self._durable.secrets.private_key

    @property
    def signing_seed(self) -> bytes:
        """Seed of the sidecar's own Ed25519 key, 32 bytes."""
        return self._durable.secrets.signing_seed

    @property
    def owes_receipt(self) -> bool:
        """Whether something is in force that is to be acknowledged and was not."""
        return self._outbox.is_owed

    @property
    def unconfirmed(self) -> tuple[Receipt, ...]:
        """Acknowledgements that the log does not hold yet, by size."""
        return self._outbox.receipts

    def note_receipt(self, receipt: Receipt) -> None:
        """Keep an acknowledgement until the log holds it; durable with the next batch, or within about a second."""
        self._outbox.note(receipt)
        self._work.set()

    def find(self, token: bytes) -> Cluster | None:
        """The cluster of a token; memory only."""
        in_force = self._in_force
        return in_force.overlay.get(token) or in_force.table.find(token)

    async def apply(
        self, batch: VerifiedBatch, change: OutboxChange = NO_CHANGE, key_ring: KeyRing | None = None
    ) -> None:
        """Keep a batch durably, then put it in force. A caller that is cancelled does not stop it half-way.

        Args:
            batch: Follows what is held.
            change: To the outbox.
            key_ring: For the head after the batch, where a key epoch begins in it.

        Raises:
            CacheWriteFailed: Nothing changed.
            CorruptCache: A key epoch begins, and the file was changed behind our back; `is_intact` is then false.
            ValueError: The batch does not follow what is held, or the ring not the batch: a bug, both were checked.
        """
        if current_epoch(batch.head.tenant) > current_epoch(self.head.tenant):
            await self._apply_epoch(batch, change, key_ring)
        else:
            await asyncio.shield(self._apply(batch, change))

    async def _apply_epoch(self, batch: VerifiedBatch, change: OutboxChange, key_ring: KeyRing | None) -> None:
        """Make a generation under the new tokens beside the one in force, then change to it, to the batch and to the ring at once.

        A crash before that leaves the state, the log and the keys before the epoch, which fit each other; after it those of the epoch.
        """
        _verify_follows(batch, self.head)
        if key_ring is None or not key_ring.matches(batch.head.tenant.key_commitments):
            raise ValueError("the key ring does not fit the batch")
        async with self._making_generation:
            before, tenant = self._in_force, batch.head.tenant
            try:
                built = BuiltTable(before.table, await self._durable.read_tails())
                built = await asyncio.to_thread(
                    rekey_table, built, dict(before.overlay), batch.events, key_ring.subject_keys, tenant.drop_seqs
                )
                policy = await asyncio.to_thread(tenant.load_policy)
                staged = await self._durable.stage(built)
                await asyncio.shield(self._switch(staged, batch.head, policy, change, key_ring))
            except CorruptCache:
                self._is_intact = False
                raise
            await self._durable.clean_up()

    async def _apply(self, batch: VerifiedBatch, change: OutboxChange) -> None:
        async with self._changing:
            before, head = self._in_force, batch.head
            _verify_follows(batch, before.head)
            events = ((logged.seq, logged.event) for logged in batch.events)
            changed = fold_events(events, self.find, head.tenant.drop_seqs)
            new_tenant = head.tenant if head.tenant != before.head.tenant else None
            policy = before.policy if new_tenant is None else await asyncio.to_thread(new_tenant.load_policy)
            added = sum(token not in before.overlay and not before.table.has(token) for token in changed)
            writing = self._outbox.prepare(change, head.size)
            await self._durable.append(batch, new_tenant, writing.statements)
            # From here to the end of the block nothing waits: checks see all of the batch or nothing.
            self._in_force = replace(before, added=before.added + added, head=head, policy=policy)
            before.overlay.update(changed)
            self._outbox.take(writing)
            self._note_kept_checkpoint()
            if any(isinstance(logged.event, ErasureEvent) for logged in batch.events):
                self._merge_soon()
            if head.size >= self._merge_at_size:
                self._work.set()
        self._waiters.announce(head.size)
        await self._marks.keep(self._durable.manifest)

    async def load_snapshot(
        self, snapshot: VerifiedSnapshot, change: OutboxChange = NO_CHANGE, key_ring: KeyRing | None = None
    ) -> None:
        """Replace everything held by a verified snapshot, in one step with the key ring where one is given.

        Raises:
            CacheWriteFailed: Nothing changed.
            MalformedState: A record is not canonical: a bug, `trusted_log` has checked it.
        """
        async with self._making_generation:
            built = await asyncio.to_thread(build_table, snapshot.records)
            policy = await asyncio.to_thread(snapshot.head.tenant.load_policy)
            staged = await self._durable.stage(built)
            await asyncio.shield(self._switch(staged, snapshot.head, policy, change, key_ring))
            await self._durable.clean_up()

    async def _switch(
        self, staged: StagedTable, head: LogHead, policy: Policy | None, change: OutboxChange, key_ring: KeyRing | None
    ) -> None:
        async with self._changing:
            writing = self._outbox.prepare(change, head.size)
            # Checks see the table, the log and the keys before it, or those after it: nothing waits once it is durable.
            await self._durable.switch(staged, head, head.size, writing.statements, key_ring)
            self._outbox.take(writing)
            self._in_force = _InForce(staged.built.table, {}, 0, head, policy)
            self._merge_at_size = head.size + self._merge_after_entries
            self._has_erasure = False
            self._is_intact = True
            self._note_kept_checkpoint()
        self._waiters.announce(head.size)
        await self._marks.keep(self._durable.manifest, at_once=True)

    async def merge(self) -> None:
        """Make a new generation of what is held; checks and batches go on meanwhile.

        Raises:
            CacheWriteFailed: What was held is held on.
            CorruptCache: The file was changed behind our back; `is_intact` is then false until a snapshot replaces everything.
        """
        async with self._making_generation:
            before = self._in_force
            overlay, base_size = dict(before.overlay), before.head.size
            had_erasure, self._has_erasure = self._has_erasure, False
            try:
                tails = await self._durable.read_tails()
                built = await asyncio.to_thread(merge_table, before.table, tails, overlay)
                staged = await self._durable.stage(built)
                await asyncio.shield(self._switch_to_merged(staged, overlay, base_size))
            except CacheError as error:
                self._has_erasure |= had_erasure
                if isinstance(error, CorruptCache):
                    self._is_intact = False
                raise
            await self._durable.clean_up()

    async def _switch_to_merged(self, staged: StagedTable, merged: dict[bytes, Cluster], base_size: int) -> None:
        async with self._changing:
            await self._durable.switch(staged, self._in_force.head, base_size)
            now, table = self._in_force, staged.built.table
            overlay = {token: cluster for token, cluster in now.overlay.items() if merged.get(token) is not cluster}
            added = sum(not table.has(token) for token in overlay)
            self._in_force = replace(now, table=table, overlay=overlay, added=added)
            self._merge_at_size = 0 if self._has_erasure else base_size + self._merge_after_entries
        await self._marks.keep(self._durable.manifest, at_once=True)

    async def save_checkpoint(self, head: LogHead) -> None:
        """Keep a newer checkpoint for the same size: in force at once, durable within 10 s.

        Raises:
            ValueError: It is for another size.
        """
        if head.size != self._in_force.head.size:
            raise ValueError("the checkpoint is for another size than the one held")
        self._in_force = replace(self._in_force, head=head)
        self._is_checkpoint_pending = True
        if self._checkpoint_due_in_ms() <= 0:
            await self._keep_checkpoint()
        else:
            self._work.set()

    async def wait_for_size(self, size: int, timeout_seconds: float) -> bool:
        """Wait until at least `size` entries are in force; False when the time is up."""
        return self._in_force.head.size >= size or await self._waiters.wait(size, timeout_seconds)

    async def save_key_ring(self, ring: KeyRing) -> None:
        """Keep the tenant's keys, sealed; raises CacheWriteFailed with nothing changed."""
        await asyncio.shield(self._save_key_ring(ring))

    async def _save_key_ring(self, ring: KeyRing) -> None:
        async with self._changing:
            await self._durable.keep_secrets(replace(self._durable.secrets, key_ring=ring))

    async def rewrap_key(self) -> None:
        """Take up a newer key-encryption key, if there is one; checks go on meanwhile, and batches wait for one small commit.

        Raises:
            CacheWriteFailed: The older key is still needed.
        """
        await asyncio.to_thread(self._keys.refresh)
        self._keys_checked_ms = self._clock.boot_ms()
        # No merge runs meanwhile: the key of the generation that it makes could be wrapped under the older one.
        async with self._making_generation:
            await asyncio.shield(self._rewrap_key())

    async def _rewrap_key(self) -> None:
        async with self._changing:
            await self._durable.rewrap_key()
            await self._marks.rewrap(self._durable.manifest)

    async def _maintain(self) -> None:
        """Merge when it is due and keep what is pending, until cancelled."""
        while True:
            self._work.clear()
            if self._in_force.head.size >= self._merge_at_size:
                await self._merge_or_postpone()
            if self._is_checkpoint_pending and self._checkpoint_due_in_ms() <= 0:
                await self._keep_checkpoint()
            if self._outbox.is_unsaved:
                # A batch that comes meanwhile, as it does under load, takes the acknowledgement with it.
                await asyncio.sleep(OUTBOX_DELAY_SECONDS)
                await self._keep_outbox()
            await self._marks.keep(self._durable.manifest)
            waits_ms = [self._checkpoint_due_in_ms()] if self._is_checkpoint_pending else []
            waits_ms += self._marks.due_in_ms(self._durable.manifest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(waits_ms) / 1000 if waits_ms else None):
                    await self._work.wait()

    async def _keep_outbox(self) -> None:
        await asyncio.shield(self._keep_outbox_now())

    async def _keep_outbox_now(self) -> None:
        async with self._changing:
            writing = self._outbox.prepare(NO_CHANGE, 0)
            if not writing.statements:
                return
            try:
                await self._durable.keep_outbox(writing.statements)
            except CacheWriteFailed as error:
                _log.warning("acknowledgements are not kept yet; after a restart they would be made anew: %s", error)
                return
            self._outbox.take(writing)

    def _merge_soon(self) -> None:
        """A new generation under a key of its own leaves nothing readable of who was erased in the one before."""
        self._has_erasure = True
        self._merge_at_size = 0
        self._work.set()

    async def _merge_or_postpone(self) -> None:
        try:
            await self.merge()
        except CacheError as error:
            _log.error("the cache could not be merged, what it holds is kept: %s", error)
            # Tried again with the next batch where somebody waits to be erased.
            size = self._in_force.head.size
            self._merge_at_size = size + (1 if self._has_erasure else self._merge_after_entries)

    def _checkpoint_due_in_ms(self) -> int:
        return self._checkpoint_kept_ms + CHECKPOINT_INTERVAL_MS - self._clock.boot_ms()

    def _note_kept_checkpoint(self) -> None:
        self._is_checkpoint_pending = False
        self._checkpoint_kept_ms = self._clock.boot_ms()

    async def _keep_checkpoint(self) -> None:
        await asyncio.shield(self._keep_checkpoint_now())

    async def _keep_checkpoint_now(self) -> None:
        async with self._changing:
            checkpoint = self._in_force.head.checkpoint
            # Whether it can be written or not, the next attempt comes an interval later.
            self._checkpoint_kept_ms = self._clock.boot_ms()
            try:
                await self._durable.keep_checkpoint(checkpoint)
            except CacheWriteFailed as error:
                _log.warning(
                    "the newest checkpoint is not kept yet; after a restart the cache would look older: %s", error
                )
                return
            self._is_checkpoint_pending = self._in_force.head.checkpoint is not checkpoint
        await self._marks.keep(self._durable.manifest)


def _verify_follows(batch: VerifiedBatch, head: LogHead) -> None:
    seqs = [logged.seq for logged in batch.events]
    if not seqs or seqs != list(range(head.size + 1, batch.head.size + 1)):
        raise ValueError("the batch does not follow what is held")


def _prepare_mark(path: Path | None, keys: KeyProvider, identity: CacheIdentity) -> HighWaterFile | None:
    if path is None:
        return None
    create_directory(path.parent, 0o700)
    return HighWaterFile(path, keys, identity)


async def _start(
    opened: Opened, writer: CacheWriter, keys: KeyProvider, identity: CacheIdentity
) -> tuple[DurableCache, _InForce, ReceiptOutbox]:
    content = opened.content
    if content is None:
        built = build_table(())
        signing_key = Ed25519PrivateKey.generate()
        secrets = Secrets(X25519PrivateKey.generate().private_bytes_raw(), signing_key.private_bytes_raw())
        durable = await DurableCache.create(writer, keys, identity, opened.next_generation, EMPTY_HEAD, built, secrets)
        return durable, _InForce(built.table, {}, 0, EMPTY_HEAD, None), ReceiptOutbox()
    manifest = content.manifest
    durable = DurableCache(writer, keys, content.generation, manifest, content.secrets, manifest.boot_count + 1)
    try:
        await durable.rewrap_key()
    except CacheWriteFailed as error:
        # A full disk at the start must not stop answers; the older key is still at hand.
        _log.warning("the cache's key is not wrapped under the newest key yet: %s", error)
    head = LogHead(manifest.frontier, content.tenant, manifest.checkpoint)
    policy = await asyncio.to_thread(content.tenant.load_policy)
    added = sum(not content.table.has(token) for token in content.overlay)
    outbox = ReceiptOutbox.load(content.outbox_rows, identity, content.secrets.signing_seed)
    return durable, _InForce(content.table, content.overlay, added, head, policy), outbox
