"""What the feed's parts expect of each other. Adapters are built in `runtime` only."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from consent.event import ErasedEvent, Event, parse_event
from consent.eventlog.attestation import Attestation
from consent.eventlog.keys import VerifierKey
from consent.eventlog.merkle import Frontier, commit, hash_entry, hash_leaf, leaf_data
from consent.policy import Policy
from consent.state import Cluster
from consent.tenant_state import EMPTY_TENANT, TenantState

#: Of an attestation without its path, key name and frame included; and of a step of the path.
_SIGNATURE_BYTES: Final = 256
_HASH_BYTES: Final = 34


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as the log keeps it.

    Attributes:
        seq: Its place, from 1.
        type_byte: Type of the event.
        opening: 32 random bytes; empty once the payload was erased.
        event_bytes: Canonical event bytes; empty once the payload was erased.
        traceparent: W3C trace context of the request, or empty.
        attestations: Signatures over the event beside it.
        commitment: 32 bytes that the leaf is made of, where the payload was erased; empty otherwise.
    """

    seq: int
    type_byte: int
    opening: bytes
    event_bytes: bytes
    traceparent: str = ""
    attestations: tuple[Attestation, ...] = ()
    commitment: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Bytes of what can be long, about; for bounds on memory and messages."""
        signatures = sum(_SIGNATURE_BYTES + _HASH_BYTES * len(each.audit_path) for each in self.attestations)
        return len(self.event_bytes) + signatures

    @property
    def leaf_hash(self) -> bytes:
        """What the tree holds of it, 32 bytes."""
        if self.event_bytes:
            return hash_entry(self.type_byte, self.opening, self.event_bytes)
        return hash_leaf(leaf_data(self.type_byte, self.commitment))

    def load_event(self) -> Event:
        """Its event; an ErasedEvent once the payload was erased.

        Raises:
            MalformedEvent: The bytes are no event.
        """
        return parse_event(self.event_bytes) if self.event_bytes else ErasedEvent(origin="", type_byte=self.type_byte)


def erase_payload(entry: StoredEntry) -> StoredEntry:
    """What stays of an entry whose payload is taken away."""
    commitment = commit(entry.opening, entry.event_bytes)
    return StoredEntry(entry.seq, entry.type_byte, b"", b"", commitment=commitment)


@dataclass(frozen=True, slots=True)
class FeedHead:
    """The log as it stands.

    Attributes:
        frontier: Right edge of the tree; its size is the log's. Never changed in place.
        checkpoint_note: Newest signed checkpoint for that size.
        checkpoint_time_ms: Unix ms of its cosignature.
        tenant: Policy and key commitments at that size.
        last_erasure_seq: Of the newest ERASURE that this process has logged, 0 for none: older entries may have lost their payload with
            it, and what was kept of them in memory is no longer to be used.
    """

    frontier: Frontier = field(default_factory=Frontier)
    checkpoint_note: bytes = b""
    checkpoint_time_ms: int = 0
    tenant: TenantState = EMPTY_TENANT
    last_erasure_seq: int = 0

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Names a request of a source, so that a repetition changes nothing.

    Attributes:
        source: Who sent it.
        key: The source's own key.
        digest: 32 bytes over the content: the same key with another digest is an error.
    """

    source: str
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """The entries of one request: all of them are logged, next to each other, or none.

    Attributes:
        events: In the order to be logged.
        idempotency: None where the request is its own (policy, state root).
        traceparent: W3C trace context, or empty.
        attestations: For each event the signatures over it; empty where no event has any.
    """

    events: Sequence[Event]
    idempotency: IdempotencyKey | None = None
    traceparent: str = ""
    attestations: Sequence[tuple[Attestation, ...]] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request is in the log, durably.

    Attributes:
        request_id: Of the request that was logged; of the earlier one where `is_replay`.
        seq: Of the request's last entry: its outcome.
        accepted_at_ms: Unix ms.
        rejection: The outcome was REJECTED, for this stable reason; empty otherwise.
        is_replay: The idempotency key was known with the same content.
    """

    request_id: bytes
    seq: int
    accepted_at_ms: int
    rejection: str = ""
    is_replay: bool = False


class Log(Protocol):
    """The sequencer, as intake and distribution see it."""

    @property
    def head(self) -> FeedHead:
        """What is committed."""
        ...

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        ...

    async def submit(self, submission: Submission) -> Accepted:
        """Log a request; returns after the fsync.

        Raises:
            IdempotencyKeyReused, ClusterTooLarge, Overloaded, ShuttingDown, and PolicyRejected or PolicyConflict for a POLICY event.
            consent.authority.NotAuthorised: An event lacks a signature that it needs.
            LogWriteFailed: Nothing of it was logged.
            OutcomeUnknown: It may have been; the same idempotency key finds out.
        """
        ...

    def lead_event(self, event: Event) -> Event:
        """The event with its tokens led to the key epoch that the log is in."""
        ...

    async def find_cluster(self, token: bytes) -> Cluster | None:
        """What the log knows of a token of key epoch 0, in whatever epoch it is; committed entries only."""
        ...

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        """Committed entries from `from_seq` on."""
        ...

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` after each commit and each new checkpoint; returns the call that ends it."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state at one size, ready to be sent.

    Attributes:
        size: Entries folded.
        frontier_hashes: Right edge of the tree at that size.
        checkpoint_note: Checkpoint for `size` + 1.
        state_root_entry: The entry at `size` + 1.
        tenant_record: `consent.state_record.format_tenant` at that size; the last leaf of the state root.
        chunk_count: How many chunks `chunks` yields.
        subject_count: Tokens in it.
    """

    size: int
    frontier_hashes: tuple[bytes, ...]
    checkpoint_note: bytes
    state_root_entry: StoredEntry
    tenant_record: bytes
    chunk_count: int
    subject_count: int


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness: an independent program that cosigns the log's checkpoints (c2sp.org/tlog-witness).

    Attributes:
        url: Submission prefix.
        key: Its cosigning key.
        client_files: Certificate and key to show, or None.
        ca_file: Authorities to believe instead of the system's, or None.
    """

    url: str
    key: VerifierKey
    client_files: tuple[Path, Path] | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class WitnessedCheckpoint:
    """A checkpoint with the cosignatures of those that answered."""

    size: int
    note_bytes: bytes


class Snapshots(Protocol):
    """Where snapshots come from."""

    async def newest(self) -> Snapshot:
        """The newest snapshot that is fresh enough to be continued from entry by entry, made now if there is none."""
        ...

    def chunks(self, snapshot: Snapshot) -> AsyncIterator[bytes]:
        """Runs of canonical cluster records (`consent.state_record.join_records`), at most 1 MiB each."""
        ...
