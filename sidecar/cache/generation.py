"""One generation of the file: its data key, and the rows that are sealed under it."""

import asyncio
import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

from sidecar.cache.identity import MANIFEST_AAD, Binding
from sidecar.cache.manifest import Manifest, SegmentSizes, format_manifest
from sidecar.cache.sealing import DATA_KEY_BYTES, DataKey
from sidecar.cache.segments import CutTable
from sidecar.cache.table import BuiltTable
from sidecar.cache.writer import CacheWriter, Statement
from sidecar.ports import KeyProvider

KEY_PURPOSE = "cache-data-key"
"""What the key provider binds the wrapped data key to."""

PUT_META = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
ADD_DELTA = "INSERT INTO delta (first_seq, last_seq, blob) VALUES (?, ?, ?)"
DELETE_DELTAS = "DELETE FROM delta"
_ADD_SEGMENT = "INSERT INTO segment (generation, number, blob) VALUES (?, ?, ?)"
_SEGMENTS_AT_A_TIME = 16
"""So many are written or deleted in one transaction, so that a batch of events never waits for a whole table."""
_HAS_OTHERS = "SELECT 1 FROM segment WHERE generation <> ? LIMIT 1"
_DELETE_OTHERS = "DELETE FROM segment WHERE rowid IN (SELECT rowid FROM segment WHERE generation <> ? LIMIT ?)"


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """Seals rows for the file.

    Attributes:
        wrapped_key: Its data key as the key provider wrapped it.
        data_key: The same, ready for use.
        binding: Ties rows to this generation.
    """

    wrapped_key: bytes
    data_key: DataKey
    binding: Binding

    @classmethod
    def create(cls, keys: KeyProvider, binding: Binding) -> Self:
        """A generation with a fresh data key."""
        fresh = os.urandom(DATA_KEY_BYTES)
        return cls(keys.wrap(fresh, KEY_PURPOSE), DataKey(fresh), binding)

    def rewrap(self, keys: KeyProvider) -> Self:
        """The same under the newest key of a provider."""
        return replace(self, wrapped_key=keys.wrap(self.data_key.reveal(), KEY_PURPOSE))

    def key_statement(self) -> Statement:
        """Writes the wrapped key, twice (`sidecar.cache.loading`)."""
        return PUT_META, [("key", self.wrapped_key), ("key_copy", self.wrapped_key)]

    def manifest_statement(self, manifest: Manifest) -> Statement:
        """Writes a manifest."""
        return PUT_META, [("manifest", self.data_key.seal("manifest", MANIFEST_AAD, format_manifest(manifest)))]

    def meta_statement(self, name: str, plaintext: bytes) -> tuple[Statement, bytes]:
        """Writes a row of `meta`; and the hash that the manifest binds it by."""
        sealed = self.data_key.seal("meta", self.binding.place(name), plaintext)
        return (PUT_META, [(name, sealed)]), sha256(sealed).digest()

    def open_meta(self, name: str, sealed: bytes) -> bytes:
        """Opens such a row; raises CorruptCache."""
        return self.data_key.open("meta", self.binding.place(name), sealed)

    def seal_delta(self, first_seq: int, last_seq: int, delta_bytes: bytes) -> bytes:
        """Seals a run of events."""
        return self.data_key.seal("delta", self.binding.place("delta", first_seq, last_seq), delta_bytes)

    def open_delta(self, first_seq: int, last_seq: int, sealed: bytes) -> bytes:
        """Opens one; raises CorruptCache."""
        return self.data_key.open("delta", self.binding.place("delta", first_seq, last_seq), sealed)


@dataclass(frozen=True, slots=True)
class StagedTable:
    """A table that is in the file and that no manifest names yet: a crash now leaves rows that mean nothing.

    Attributes:
        generation: Whose rows they are.
        built: The table.
        sizes: For the manifest.
        segments_hash: For the manifest.
    """

    generation: Generation
    built: BuiltTable
    sizes: SegmentSizes
    segments_hash: bytes


async def stage_table(
    writer: CacheWriter, keys: KeyProvider, binding: Binding, built: BuiltTable, current_generation: int
) -> StagedTable:
    """Write a table's segments, in steps between which batches of events can be written.

    Args:
        writer: The file.
        keys: Wraps the fresh data key.
        binding: Of the new generation.
        built: The table.
        current_generation: The one in force; segments of any other are left over from a crash or a full disk, and deleted.

    Raises:
        CacheWriteFailed: What is in force is not changed.
    """
    generation = await asyncio.to_thread(Generation.create, keys, binding)
    cut = await asyncio.to_thread(CutTable, built)
    digest = sha256()
    await _delete_others(writer, current_generation)
    for start in range(0, cut.segment_count, _SEGMENTS_AT_A_TIME):
        numbers = range(start, min(start + _SEGMENTS_AT_A_TIME, cut.segment_count))
        segments = await asyncio.to_thread(cut.seal, numbers, generation.data_key, binding)
        for segment in segments:
            digest.update(segment.blob)
        await writer.commit([(_ADD_SEGMENT, [(binding.generation, *segment) for segment in segments])])
    return StagedTable(generation, built, cut.sizes, digest.digest())


async def delete_other_generations(writer: CacheWriter, generation: int) -> None:
    """Delete the segments of all generations but one, and empty the log of writes; raises CacheWriteFailed."""
    await _delete_others(writer, generation)
    await writer.truncate_log()


async def _delete_others(writer: CacheWriter, generation: int) -> None:
    while await writer.read(_HAS_OTHERS, (generation,)):
        await writer.commit([(_DELETE_OTHERS, [(generation, _SEGMENTS_AT_A_TIME)])])
