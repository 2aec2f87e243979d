"""The manifest: the one sealed value that says what else belongs to the cache, so that rows cannot be swapped, left out or mixed."""

from dataclasses import dataclass
from hashlib import sha256

from consent import encoding as wire
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier, parse_frontier
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.record_layout import LAYOUT_HASH
from sidecar.errors import CorruptCache
from sidecar.ports import CheckpointSeen

FORMAT_VERSION = 1
NO_DELTAS_HASH = bytes(32)
_HEAD = bytes((FORMAT_VERSION,)) + LAYOUT_HASH


@dataclass(frozen=True, slots=True)
class SegmentSizes:
    """Bytes of each part of the table before it was cut into segments (`sidecar.cache.segments`)."""

    directory: int
    rows: int
    spill: int
    tails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the file holds.

    Attributes:
        identity: Whose it is.
        generation: Number of the segments' generation.
        boot_count: Starts of the sidecar that wrote to this cache.
        base_size: Log size that the segments are the fold of; deltas follow it without a gap.
        frontier: Right edge of the log's tree at the size held.
        checkpoint: The newest one for that size.
        tenant_hash: Of the sealed row `tenant`.
        secrets_hash: Of the sealed row `secrets`.
        sizes: Of the table's parts.
        segments_hash: Over all sealed segments in order.
        delta_count: Number of deltas.
        deltas_hash: `chain` over all sealed deltas in order.
    """

    identity: CacheIdentity
    generation: int
    boot_count: int
    base_size: int
    frontier: Frontier
    checkpoint: CheckpointSeen | None
    tenant_hash: bytes
    secrets_hash: bytes
    sizes: SegmentSizes
    segments_hash: bytes
    delta_count: int = 0
    deltas_hash: bytes = NO_DELTAS_HASH


def chain(deltas_hash: bytes, sealed_delta: bytes) -> bytes:
    """The hash over a run of deltas that is one longer."""
    return sha256(deltas_hash + sha256(sealed_delta).digest()).digest()


def _read_frontier(data: bytes, at: int) -> tuple[Frontier, int]:
    frontier_bytes, at = wire.BLOB.read(data, at)
    try:
        return parse_frontier(frontier_bytes), at
    except EventLogError:
        raise wire.Truncated("a frontier is not one") from None


_FRONTIER = wire.Field("frontier", lambda frontier: wire.BLOB.write(frontier.to_bytes()), _read_frontier)
_CHECKPOINT = wire.record(
    CheckpointSeen,
    (
        ("note", wire.BLOB),
        ("time_ms", wire.TIME),
        ("age_at_arrival_ms", wire.TIME),
        ("arrived_boot_ms", wire.TIME),
        ("boot_id", wire.STRING),
    ),
)
_MANIFEST = wire.record(
    Manifest,
    (
        (
            "identity",
            wire.record(CacheIdentity, (("sidecar_id", wire.STRING), ("tenant", wire.STRING), ("origin", wire.STRING))),
        ),
        ("generation", wire.U64),
        ("boot_count", wire.U64),
        ("base_size", wire.U64),
        ("frontier", _FRONTIER),
        ("checkpoint", wire.optional(_CHECKPOINT)),
        ("tenant_hash", wire.HASH),
        ("secrets_hash", wire.HASH),
        (
            "sizes",
            wire.record(
                SegmentSizes,
                (("directory", wire.U64), ("rows", wire.U64), ("spill", wire.U64), ("tails", wire.U64)),
            ),
        ),
        ("segments_hash", wire.HASH),
        ("delta_count", wire.U64),
        ("deltas_hash", wire.HASH),
    ),
)


def format_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest, before it is sealed: version, fingerprint of the encoding of records, fields."""
    return _HEAD + _MANIFEST.write(manifest)


def parse_manifest(manifest_bytes: bytes) -> Manifest:
    """Read them back.

    Raises:
        CorruptCache: Authentic bytes of another version or encoding of records, or not a manifest.
    """
    if not manifest_bytes.startswith(_HEAD):
        raise CorruptCache("the cache was written by another version of this program")
    try:
        manifest: Manifest = wire.read_whole(_MANIFEST, manifest_bytes[len(_HEAD) :])
    except wire.Truncated as error:
        raise CorruptCache(f"the manifest is not readable: {error}") from None
    return manifest
