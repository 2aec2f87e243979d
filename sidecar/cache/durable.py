"""The durable side of the cache: every write is one transaction that also replaces the manifest."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from consent.key_ring import KeyRing
from consent.state_record import format_tenant
from consent.tenant_state import TenantState
from sidecar.cache.deltas import format_delta
from sidecar.cache.generation import (
    ADD_DELTA,
    DELETE_DELTAS,
    Generation,
    StagedTable,
    delete_other_generations,
    stage_table,
)
from sidecar.cache.identity import Binding, CacheIdentity
from sidecar.cache.loading import SELECT_DELTAS, SELECT_SEGMENTS
from sidecar.cache.manifest import NO_DELTAS_HASH, Manifest, chain
from sidecar.cache.sealed_secrets import Secrets, format_secrets
from sidecar.cache.segments import SealedSegment, open_tails, tail_numbers
from sidecar.cache.table import BuiltTable
from sidecar.cache.writer import CacheWriter, Statement
from sidecar.errors import CacheWriteFailed
from sidecar.ports import CheckpointSeen, KeyProvider, LogHead, VerifiedBatch

_log = logging.getLogger(__name__)


class DurableCache:
    """What the file holds. The caller lets one method at a time change it (`stage` and `clean_up` change nothing that is in force).

    Every method that writes raises CacheWriteFailed with nothing changed.

    Attributes:
        manifest: As in the file.
        secrets: As in the file.
    """

    def __init__(
        self,
        writer: CacheWriter,
        keys: KeyProvider,
        generation: Generation,
        manifest: Manifest,
        secrets: Secrets,
        boot_count: int,
    ) -> None:
        self.manifest = manifest
        self.secrets = secrets
        self._writer = writer
        self._keys = keys
        self._generation = generation
        self._boot_count = boot_count

    @classmethod
    async def create(
        cls,
        writer: CacheWriter,
        keys: KeyProvider,
        identity: CacheIdentity,
        generation: int,
        head: LogHead,
        built: BuiltTable,
        secrets: Secrets,
    ) -> Self:
        """Put the first generation into an empty file."""
        staged = await stage_table(writer, keys, Binding(identity, generation), built, current_generation=0)
        statements, manifest = _switch_statements(staged, head, secrets, head.size, [], boot_count=1)
        await _write(writer, statements)
        return cls(writer, keys, staged.generation, manifest, secrets, boot_count=1)

    async def append(
        self, batch: VerifiedBatch, new_tenant: TenantState | None, others: Sequence[Statement] = ()
    ) -> None:
        """Add a batch.

        Args:
            batch: Follows what is held; with events.
            new_tenant: The tenant's state where the batch changes it.
            others: Statements of the outbox that belong to the batch.
        """
        first_seq, last_seq = batch.events[0].seq, batch.events[-1].seq
        sealed = self._generation.seal_delta(first_seq, last_seq, format_delta(batch.events))
        manifest = replace(
            self.manifest,
            frontier=batch.head.frontier.copy(),
            checkpoint=batch.head.checkpoint,
            delta_count=self.manifest.delta_count + 1,
            deltas_hash=chain(self.manifest.deltas_hash, sealed),
        )
        statements: list[Statement] = [(ADD_DELTA, [(first_seq, last_seq, sealed)]), *others]
        if new_tenant is not None:
            statement, tenant_hash = self._generation.meta_statement("tenant", format_tenant(new_tenant))
            statements.append(statement)
            manifest = replace(manifest, tenant_hash=tenant_hash)
        await self._commit(statements, manifest)

    async def keep_checkpoint(self, checkpoint: CheckpointSeen | None) -> None:
        """Replace the newest checkpoint."""
        await self._commit([], replace(self.manifest, checkpoint=checkpoint))

    async def keep_secrets(self, secrets: Secrets) -> None:
        """Replace the secrets."""
        statement, secrets_hash = self._generation.meta_statement("secrets", format_secrets(secrets))
        await self._commit([statement], replace(self.manifest, secrets_hash=secrets_hash))
        self.secrets = secrets

    async def keep_outbox(self, statements: Sequence[Statement]) -> None:
        """Write to the outbox alone, which the manifest does not bind."""
        await self._writer.commit(statements)

    async def rewrap_key(self) -> None:
        """Wrap the data key anew, if the key provider has a newer key."""
        if self._keys.is_current(self._generation.wrapped_key):
            return
        rewrapped = await asyncio.to_thread(self._generation.rewrap, self._keys)
        # A crash before this commit leaves the older wrapping in force, after it the newer; the data key is the same one.
        await self._writer.commit([rewrapped.key_statement()])
        self._generation = rewrapped
        _log.info("the cache's key is wrapped under the newest key-encryption key")
        try:
            await self._writer.truncate_log()
        except CacheWriteFailed as error:
            _log.warning("the older wrapping of the cache's key stays in the log of writes for now: %s", error)

    async def read_tails(self) -> bytearray:
        """The tails of the table in force; raises CorruptCache or CacheWriteFailed."""
        sizes, number = self.manifest.sizes, self.manifest.generation
        wanted = tail_numbers(sizes)
        rows = await self._writer.read(SELECT_SEGMENTS, (number, wanted.start, wanted.stop))
        segments = [SealedSegment(*row) for row in rows]
        generation = self._generation
        return await asyncio.to_thread(open_tails, segments, sizes, generation.data_key, generation.binding)

    async def stage(self, built: BuiltTable) -> StagedTable:
        """Write the segments of the next generation beside those in force."""
        binding = Binding(self.manifest.identity, self.manifest.generation + 1)
        try:
            return await stage_table(self._writer, self._keys, binding, built, self.manifest.generation)
        except CacheWriteFailed:
            await self.clean_up()
            raise

    async def switch(
        self,
        staged: StagedTable,
        head: LogHead,
        base_size: int,
        others: Sequence[Statement] = (),
        key_ring: KeyRing | None = None,
    ) -> None:
        """Make a staged generation the one in force.

        Args:
            staged: What `stage` wrote.
            head: What is held from now on.
            base_size: The log size of the staged table. Deltas behind it are sealed anew under the new generation's key.
            others: Statements of the outbox that belong to the change.
            key_ring: Takes the place of the one held, in the same commit; None leaves that.

        Raises:
            CorruptCache: A delta in the file is no longer authentic.
        """
        deltas = []
        if base_size < head.size:
            for first_seq, last_seq, sealed in await self._writer.read(SELECT_DELTAS, (base_size,)):
                delta_bytes = self._generation.open_delta(first_seq, last_seq, sealed)
                deltas.append((first_seq, last_seq, staged.generation.seal_delta(first_seq, last_seq, delta_bytes)))
        secrets = self.secrets if key_ring is None else replace(self.secrets, key_ring=key_ring)
        statements, manifest = _switch_statements(staged, head, secrets, base_size, deltas, self._boot_count)
        # A crash before this commit leaves the older generation in force, after it the new one; the other's segments mean nothing.
        await _write(self._writer, [*others, *statements])
        self._generation.data_key.wipe()
        self._generation, self.manifest, self.secrets = staged.generation, manifest, secrets

    async def clean_up(self) -> None:
        """Delete what is left of other generations; on a full disk it is done by the next merge."""
        try:
            await delete_other_generations(self._writer, self.manifest.generation)
        except CacheWriteFailed as error:
            _log.warning("segments of an older generation stay in the cache for now: %s", error)

    async def close(self) -> None:
        """End the connection; what was committed is durable already."""
        await self._writer.close()

    async def _commit(self, statements: list[Statement], manifest: Manifest) -> None:
        manifest = replace(manifest, boot_count=self._boot_count)
        await _write(self._writer, [*statements, self._generation.manifest_statement(manifest)])
        self.manifest = manifest


async def _write(writer: CacheWriter, statements: Sequence[Statement]) -> None:
    """Commit statements of which the last writes the manifest.

    A commit can fail after it was made durable. The file then holds this very manifest (no other sealed one is equal), and going on from
    the older one would contradict it.
    """
    try:
        await writer.commit(statements)
    except CacheWriteFailed:
        if not await _has_manifest(writer, statements[-1][1][0][1]):
            raise
        _log.warning("a commit of the cache was reported as failed and is in the file")


async def _has_manifest(writer: CacheWriter, sealed: bytes) -> bool:
    try:
        return await writer.read("SELECT value FROM meta WHERE name = 'manifest'") == [(sealed,)]
    except CacheWriteFailed:
        return False


def _switch_statements(
    staged: StagedTable,
    head: LogHead,
    secrets: Secrets,
    base_size: int,
    deltas: Sequence[tuple[int, int, bytes]],
    boot_count: int,
) -> tuple[list[Statement], Manifest]:
    generation = staged.generation
    tenant_statement, tenant_hash = generation.meta_statement("tenant", format_tenant(head.tenant))
    secrets_statement, secrets_hash = generation.meta_statement("secrets", format_secrets(secrets))
    deltas_hash = NO_DELTAS_HASH
    for _, _, sealed in deltas:
        deltas_hash = chain(deltas_hash, sealed)
    manifest = Manifest(
        identity=generation.binding.identity,
        generation=generation.binding.generation,
        boot_count=boot_count,
        base_size=base_size,
        frontier=head.frontier.copy(),
        checkpoint=head.checkpoint,
        tenant_hash=tenant_hash,
        secrets_hash=secrets_hash,
        sizes=staged.sizes,
        segments_hash=staged.segments_hash,
        delta_count=len(deltas),
        deltas_hash=deltas_hash,
    )
    statements = [
        generation.key_statement(),
        tenant_statement,
        secrets_statement,
        (DELETE_DELTAS, [()]),
        (ADD_DELTA, deltas),
        generation.manifest_statement(manifest),
    ]
    return statements, manifest
