"""What the sidecar's parts expect of each other. Adapters are built in `runtime` only."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from consent.event import FIRST_INFORMATIVE_TYPE, Event
from consent.eventlog.acknowledgement import Receipt
from consent.eventlog.attestation import Attestation
from consent.eventlog.journal_head import JournalDisposal, JournalHead
from consent.eventlog.merkle import Frontier
from consent.key_ring import KeyRing
from consent.policy import Policy
from consent.state import Cluster
from consent.tenant_state import EMPTY_TENANT, TenantState
from journal.format import FrameKind


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """The newest verified checkpoint for the size held, and when it came.

    Attributes:
        note: The signed note, as it came.
        time_ms: Unix ms of its cosignature.
        age_at_arrival_ms: How old it was then by the wall clock, at least 0.
        arrived_boot_ms: `Clock.boot_ms` then.
        boot_id: Which boot that clock belongs to.
    """

    note: bytes
    time_ms: int
    age_at_arrival_ms: int
    arrived_boot_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class LogHead:
    """How much of the log is held: the state is the fold of exactly these entries.

    Attributes:
        frontier: Right edge of the Merkle tree; its size is the log size. Never changed in place.
        tenant: Policy and key commitments at that size.
        checkpoint: The newest one for that size, None before the first.
    """

    frontier: Frontier
    tenant: TenantState = EMPTY_TENANT
    checkpoint: CheckpointSeen | None = None

    @property
    def size(self) -> int:
        """Entries held."""
        return self.frontier.size


EMPTY_HEAD = LogHead(Frontier())


class LoggedEvent(NamedTuple):
    """An event at its place in the log, with its canonical bytes; an `ErasedEvent` has none.

    `traceparent` is what the feed sent beside the entry: nothing vouches for it, and nothing may depend on it but spans.
    """

    seq: int
    event: Event
    event_bytes: bytes
    traceparent: str = ""

    @property
    def changes_answers(self) -> bool:
        """Whether it is folded."""
        return bool(self.event_bytes) and self.event_bytes[1] < FIRST_INFORMATIVE_TYPE


@dataclass(frozen=True, slots=True)
class VerifiedBatch:
    """Entries that `trusted_log` let through, and the head after them.

    Attributes:
        events: Consecutive, following the head before.
        head: What is held once they are folded.
    """

    events: Sequence[LoggedEvent]
    head: LogHead


@dataclass(frozen=True, slots=True)
class VerifiedSnapshot:
    """A state that the log commits to.

    Attributes:
        records: Canonical cluster records in the order of their first token (`consent.state_record`).
        head: What is held once they are loaded.
    """

    records: Sequence[bytes]
    head: LogHead


@dataclass(frozen=True, slots=True)
class OutboxChange:
    """What a batch changes about the acknowledgements that the log does not hold yet.

    Attributes:
        owes_receipt: The size that the batch leads to is to be acknowledged.
        confirmed_size: The log holds an acknowledgement of this size, so nothing up to it needs to be sent again; 0 for none.
    """

    owes_receipt: bool = False
    confirmed_size: int = 0


NO_CHANGE = OutboxChange()


class Cache(Protocol):
    """The encrypted local copy, and the table in memory that answers from it.

    Writes come from one task (the follower). Each is durable before the table changes, and the table changes in one step, so a check
    never sees half a batch.
    """

    @property
    def head(self) -> LogHead:
        """What is in force."""
        ...

    @property
    def policy(self) -> Policy | None:
        """The policy in force, None before the first."""
        ...

    @property
    def generation(self) -> int:
        """Number of the segments' generation; grows with each merge or snapshot."""
        ...

    @property
    def subject_count(self) -> int:
        """Tokens held."""
        ...

    @property
    def is_intact(self) -> bool:
        """Whether everything read since the start was authentic."""
        ...

    def find(self, token: bytes) -> Cluster | None:
        """The cluster of a token; memory only."""
        ...

    async def apply(
        self, batch: VerifiedBatch, change: OutboxChange = NO_CHANGE, key_ring: KeyRing | None = None
    ) -> None:
        """Keep a batch durably, with what it changes about the outbox, then put it in force.

        Raises CacheWriteFailed with nothing changed.

        Args:
            batch: Follows what is held.
            change: To the outbox.
            key_ring: For the head after the batch, where a key epoch begins in it: all that is held changes to the new tokens, in one
                step with the ring.
        """
        ...

    async def load_snapshot(
        self, snapshot: VerifiedSnapshot, change: OutboxChange = NO_CHANGE, key_ring: KeyRing | None = None
    ) -> None:
        """Replace everything held, the keys too where a ring is given. Raises CacheWriteFailed with nothing changed."""
        ...

    @property
    def owes_receipt(self) -> bool:
        """Whether something is in force that is to be acknowledged and was not: a crash came in between."""
        ...

    @property
    def unconfirmed(self) -> Sequence[Receipt]:
        """Acknowledgements that the log does not hold yet, by size."""
        ...

    def note_receipt(self, receipt: Receipt) -> None:
        """Keep an acknowledgement until the log holds it, in place of whatever was owed; durable within about a second."""
        ...

    async def save_checkpoint(self, head: LogHead) -> None:
        """Keep a newer checkpoint for the same size: in force at once, durable within 10 s."""
        ...

    async def wait_for_size(self, size: int, timeout_seconds: float) -> bool:
        """Wait until at least `size` entries are in force; False when the time is up."""
        ...

    async def save_key_ring(self, ring: KeyRing) -> None:
        """Keep the tenant's keys, sealed."""
        ...

    @property
    def key_ring(self) -> KeyRing | None:
        """The tenant's keys, None before they first came."""
        ...

    @property
    def private_key(self) -> bytes:
        """The sidecar's own X25519 private key of 32 bytes, made at the first start and kept sealed."""
        ...

    @property
    def signing_seed(self) -> bytes:
        """Seed of the sidecar's own Ed25519 key, 32 bytes, made at the first start and kept sealed."""
        ...


class KeyProvider(Protocol):
    """Keeps the key-encryption keys (KEKs), outside of every file that they protect.

    They never come from the feed: a restart during an outage must still open the cache.
    """

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """Encrypt a data key under the newest KEK, bound to `purpose`.

        Raises:
            KeyServiceUnavailable, KeyServiceRefused: No KEK is at hand yet; never once `refresh` has returned.
        """
        ...

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        """Decrypt it under whichever KEK it names.

        Raises:
            WrongCacheKey: No KEK at hand opens it.
            KeyServiceUnavailable, KeyServiceRefused: Its KEK is kept elsewhere, and cannot be had from there.
        """
        ...

    def is_current(self, wrapped_key: bytes) -> bool:
        """Whether it is wrapped under the newest KEK; if not, it wants to be wrapped anew."""
        ...

    def refresh(self) -> None:
        """Take up a newer KEK where there is one; may block, so never on the event loop.

        What is held stays in use where nothing newer can be had.

        Raises:
            KeyServiceUnavailable, KeyServiceRefused: Nothing is held yet, and nothing can be had.
        """
        ...


class Journal(Protocol):
    """The decision record."""

    async def append(self, record: bytes, decisions: int) -> None:
        """Keep a record as durably as the mode says; when this returns, the answer may leave.

        In mode `group` it returns without having waited for anything.

        Raises:
            JournalUnavailable: It cannot be kept.
        """
        ...

    def count_answered(self, decisions: int) -> None:
        """Count decisions that are handed back to a caller; only to be called on the event loop."""
        ...

    @property
    def backlog_records(self) -> int:
        """Decisions that were recorded and not yet shipped."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedPlace:
    """The last head of a chain that the log holds.

    Attributes:
        number: Of the head.
        segment: In which the chain ends there.
        is_ended: The chain goes no further: it is a final or a recovery head.
    """

    number: int
    segment: int
    is_ended: bool


class JournalNotes(Protocol):
    """What retention needs of the journal that is written."""

    def note(self, kind: FrameKind, content: bytes) -> None:
        """Keep a frame that is no record of a decision; raises JournalUnavailable where it is not kept."""
        ...

    def flush(self) -> None:
        """Put everything on the disk; `is_writable` says whether it went well."""
        ...

    def note_disposed(self, chain_id: bytes, decisions: int) -> None:
        """Segments with so many decisions were disposed of."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether the last attempt to write succeeded."""
        ...


class HeadSource(Protocol):
    """Signed heads of the journal on their way to the feed. Safe from several threads; every method may block."""

    def pending(self, limit: int) -> list[JournalHead]:
        """The oldest heads that the log does not hold, at most `limit`, those of a chain in their order."""
        ...

    def confirm(self, heads: Sequence[JournalHead]) -> None:
        """The log holds these; durable when this returns. Raises OSError where it is not: they are sent again."""
        ...

    def logged(self, chain_id: bytes) -> LoggedPlace | None:
        """How far a chain is logged, None where nothing of it is."""
        ...


@dataclass(frozen=True, slots=True)
class WireEntry:
    """An entry as the feed sent it; nothing about it is trusted.

    Attributes:
        type_byte: As stated beside the payload.
        opening: 32 bytes; empty once the payload was erased.
        event_bytes: Canonical event bytes; empty once the payload was erased.
        attestations: Signatures beside it.
        commitment: 32 bytes, for an entry without payload only.
        traceparent: Of the request that led to it, or empty; its form is checked where it is used.
    """

    type_byte: int
    opening: bytes
    event_bytes: bytes
    attestations: tuple[Attestation, ...] = ()
    commitment: bytes = b""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class EntriesFrame:
    """Consecutive entries; `checkpoint_note` is empty where more of the same batch follows."""

    from_seq: int
    entries: Sequence[WireEntry]
    checkpoint_note: bytes


@dataclass(frozen=True, slots=True)
class HeartbeatFrame:
    """The newest checkpoint while nothing is new."""

    checkpoint_note: bytes


@dataclass(frozen=True, slots=True)
class SnapshotRequiredFrame:
    """The sidecar is too far behind to be sent entries."""

    min_seq: int


Frame = EntriesFrame | HeartbeatFrame | SnapshotRequiredFrame


@dataclass(frozen=True, slots=True)
class WireSnapshot:
    """A snapshot as the feed sent it, chunks in order.

    Attributes:
        size: Entries folded.
        frontier_hashes: Right edge of the tree at that size.
        checkpoint_note: Checkpoint for `size` + 1.
        state_root_entry: The entry at `size` + 1.
        tenant_record: `consent.state_record.format_tenant`'s bytes.
        chunks: Runs of cluster records.
        consistency_proof: That the log held before, if any, is a prefix of the one at `size` + 1.
    """

    size: int
    frontier_hashes: Sequence[bytes]
    checkpoint_note: bytes
    state_root_entry: WireEntry
    tenant_record: bytes
    chunks: Sequence[bytes]
    consistency_proof: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryProof:
    """An entry with its audit path, as the feed sent it."""

    entry: WireEntry
    audit_path: tuple[bytes, ...]
    checkpoint_note: bytes


class FeedStream(Protocol):
    """One Subscribe call."""

    def frames(self) -> AsyncIterator[Frame]:
        """What the feed sends, until it closes. Raises FeedUnavailable, FeedRefused or MalformedFrame."""
        ...

    async def acknowledge(self, receipt: Receipt) -> None:
        """Say that a size is durable and in force."""
        ...

    async def refuse(self, size: int, reason: str) -> None:
        """Say that what came was refused."""
        ...


class JournalRecorder(Protocol):
    """Where signed statements about the journal are logged."""

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        """Have signed statements about the journal logged; returns the seq of the last entry that holds one of them.

        The same ones again change nothing.

        Args:
            heads: At most 500, those of a chain in their order.
            disposals: At most 500.

        Raises:
            FeedUnavailable: Nobody knows whether they are.
            RefusedAsNotEnrolled, RefusedAsRetired: Nothing that this sidecar signs counts now.
            RefusedHead: One of them can never be logged, and none of the heads was.
        """
        ...


class Feed(JournalRecorder, Protocol):
    """The centre, as the follower sees it. Every method raises FeedUnavailable or FeedRefused."""

    def subscribe(self, head: LogHead, generation: int) -> FeedStream:
        """Open a stream from what is held."""
        ...

    async def fetch_snapshot(self, held_size: int) -> WireSnapshot:
        """The folded state, with the proof that it continues the log of `held_size` entries (none for 0)."""
        ...

    async def fetch_keys(self, recipient_public_key: bytes) -> bytes:
        """The sealed key ring."""
        ...

    async def enrol(self, public_key: bytes, possession: bytes, token: str) -> bool:
        """Ask that this Ed25519 key be enrolled; False where an operator has to approve."""
        ...

    async def fetch_entry_proof(self, seq: int, tree_size: int) -> EntryProof:
        """One entry and its audit path."""
        ...

    async def close(self) -> None:
        """End all calls."""
        ...


class SyncState(StrEnum):
    """Where the follower is."""

    EMPTY = "EMPTY"
    IN_SYNC = "IN_SYNC"
    DISCONNECTED = "DISCONNECTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class SidecarStatus:
    """What a sidecar says of itself; nothing about any person.

    Attributes:
        sidecar_id: Its name.
        tenant: Of the trust file.
        origin: Name of the log.
        head: What is in force.
        staleness_ms: Age of the newest verified checkpoint for that size, None before the first.
        generation: Of the cache.
        sync_state: Where the follower is.
        last_error_reason: Stable name of what interrupted the sync last; empty while in sync.
        subject_count: Tokens held.
        journal_backlog_records: Decisions not yet shipped.
        journal_mode: Durability of the record.
        version: Of the program.
        is_enrolled: Its own key is enrolled in the log that it holds.
        key_id: Of that key, 4 bytes.
        unconfirmed_receipts: Signed acknowledgements that the log does not hold yet.
    """

    sidecar_id: str
    tenant: str
    origin: str
    head: LogHead
    staleness_ms: int | None
    generation: int
    sync_state: SyncState
    last_error_reason: str
    subject_count: int
    journal_backlog_records: int
    journal_mode: str
    version: str
    is_enrolled: bool
    key_id: bytes
    unconfirmed_receipts: int


StatusListener = Callable[[], None]
"""Called when what `GetStatus` or readiness would say may have changed."""
