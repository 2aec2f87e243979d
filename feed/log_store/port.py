"""What the sequencer, the snapshots and the proofs expect of a store, whatever keeps it."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from consent.eventlog.merkle import Frontier, Node
from consent.tenant_state import EMPTY_TENANT, TenantState
from consent.vocabulary.subject import Rekeyer
from feed.ports import Accepted, StoredEntry

EMPTY_STATE_SUM = bytes(32)

RequestName = tuple[str, str]
"""Source and its own key: what a repetition is recognised by."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The log as it was committed last.

    Attributes:
        version: Grows by one with each commit; 0 before the first.
        frontier: Right edge of the tree. Never changed in place.
        checkpoint_note: Signed checkpoint for that size; empty before the first commit.
        checkpoint_time_ms: Unix ms of its cosignature.
        tenant: Policy and key commitments at that size.
        state_sum: 32 bytes over all cluster records (`feed.log_store.state_sum`).
    """

    version: int = 0
    frontier: Frontier = field(default_factory=Frontier)
    checkpoint_note: bytes = b""
    checkpoint_time_ms: int = 0
    tenant: TenantState = EMPTY_TENANT
    state_sum: bytes = EMPTY_STATE_SUM

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request that carried an idempotency key.

    Attributes:
        digest: 32 bytes over its content.
        accepted: What was answered.
    """

    digest: bytes
    accepted: Accepted


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """How a batch changes the folded state, as rows.

    Attributes:
        records: Canonical record of each new or changed cluster, by its first token.
        removed: First tokens under which no cluster stands any more.
        members: First token of the cluster of each further member, where it is new or has changed.
        removed_members: Tokens that are no longer a further member of any cluster.
    """

    records: Mapping[bytes, bytes] = field(default_factory=dict)
    removed: Collection[bytes] = ()
    members: Mapping[bytes, bytes] = field(default_factory=dict)
    removed_members: Collection[bytes] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one commit changes.

    Attributes:
        before: The head that it builds on; a commit on any other fails.
        head: The head after it.
        entries: Consecutive, from `before.size` + 1 on.
        nodes: Every node of the tree that they complete.
        changes: To the folded state.
        requests: Those with an idempotency key.
        replayed_requests: The same of a log that is restored, by the hash of their names: nobody knows the names any more.
        takes_staged_state: What `LogStore.stage_rekeyed` made takes the place of the whole folded state.
        erased: Entries from before, with their payload, of which only type and commitment stay.
    """

    before: StoredHead
    head: StoredHead
    entries: Sequence[StoredEntry]
    nodes: Sequence[Node]
    changes: ClusterChanges = field(default_factory=ClusterChanges)
    requests: Mapping[RequestName, LoggedRequest] = field(default_factory=dict)
    replayed_requests: Mapping[bytes, LoggedRequest] = field(default_factory=dict)
    takes_staged_state: bool = False
    erased: Sequence[StoredEntry] = ()

    def with_change(self, staged_state_sum: bytes, erased: Sequence[StoredEntry]) -> "Batch":
        """The batch with what it changes beyond its events.

        Args:
            staged_state_sum: Of the staged state that takes the place of the one in force; empty for none.
            erased: As the attribute.
        """
        head = replace(self.head, state_sum=staged_state_sum) if staged_state_sum else self.head
        return replace(self, head=head, takes_staged_state=bool(staged_state_sum), erased=erased)


class ClusterRow(NamedTuple):
    """A cluster as it is kept: its first token and its canonical record."""

    first_token: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """How far a sidecar has come.

    Attributes:
        sidecar_id: Which one.
        size: Entries that it holds durably and has in force.
        applied_at_ms: Unix ms by the sidecar's clock.
        received_at_ms: Unix ms by the feed's.
    """

    sidecar_id: str
    size: int
    applied_at_ms: int
    received_at_ms: int


class EnrolmentChange(NamedTuple):
    """The last ENROL or RETIRE of a sidecar.

    Attributes:
        sidecar_id: Which one.
        seq: Of the entry.
        is_retired: It is a RETIRE.
    """

    sidecar_id: str
    seq: int
    is_retired: bool


class ReceiptPlace(NamedTuple):
    """Where an acknowledgement stands in the log.

    Attributes:
        size: That it acknowledges.
        receipts_seq: Seq of the RECEIPTS entry.
    """

    size: int
    receipts_seq: int


class HeadPlace(NamedTuple):
    """Where a head of a sidecar's journal stands in the log.

    Attributes:
        number: Of the head in its chain.
        head_hash: `consent.eventlog.journal_head.hash_head`, 32 bytes.
        seq: Of the JOURNAL_HEADS entry.
    """

    number: int
    head_hash: bytes
    seq: int


class OpenAlert(NamedTuple):
    """An alert that the log says is not over.

    Attributes:
        alert: Its stable name.
        about: What it is about.
        seq: Of the ALERT entry.
    """

    alert: str
    about: str
    seq: int


class LogStore(Protocol):
    """A durable store of one log. Whoever reads sees what was committed, never half a batch.

    Every method raises CorruptLog where what is stored is not authentic or does not fit together, LogStoreError where it cannot be
    read, and LogWriteFailed where it cannot be written.
    """

    async def load_head(self) -> StoredHead:
        """Read the head and check it: signature, root over the stored nodes, and what is sealed with it.

        After a failed commit it tells whether the batch is there.
        """
        ...

    async def settle(self) -> None:
        """Make what `load_head` has found durable, whatever a failed commit has left undone."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Write a batch, durably when this returns.

        Raises:
            LogWriteFailed: All of it is there or nothing; `load_head` tells.
        """
        ...

    async def stage_rekeyed(self, before: StoredHead, rekeyer: Rekeyer) -> bytes:
        """Write the folded state in the next key epoch beside the one in force, which stays as it is; returns its sum, 32 bytes.

        Nothing may be committed meanwhile. A crash leaves rows that mean nothing and are removed by the next open.

        Args:
            before: The head that the state in force is the fold of.
            rekeyer: Of the next epoch's key.

        Raises:
            CorruptLog: The stored state is not the fold of the log.
            LogWriteFailed: Nothing is staged.
        """
        ...

    async def find_requests(self, names: Collection[RequestName]) -> Mapping[RequestName, LoggedRequest]:
        """Those of the requests that were logged before."""
        ...

    async def read_requests(self, after_hash: bytes, limit: int) -> Sequence[tuple[bytes, LoggedRequest]]:
        """The next requests in the order of the hashes of their names; `b""` starts at the beginning."""
        ...

    async def find_clusters(self, tokens: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Canonical record of the cluster of each token that is known."""
        ...

    def read_clusters(self) -> AsyncIterator[Sequence[ClusterRow]]:
        """All clusters in the order of their first token, page by page; nothing may be committed meanwhile."""
        ...

    async def count_subjects(self) -> int:
        """Tokens in all clusters."""
        ...

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        """Consecutive entries from `from_seq` on; fewer than `limit` at the end of the log or where they are large."""
        ...

    async def read_nodes(self, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Hashes of complete subtrees by (level, index)."""
        ...

    async def save_acknowledgements(self, acknowledgements: Collection[Acknowledgement]) -> None:
        """Keep what sidecars have said; a smaller size than one kept changes nothing."""
        ...

    async def load_acknowledgements(self) -> Sequence[Acknowledgement]:
        """The newest of each sidecar."""
        ...

    async def load_enrolments(self) -> Sequence[EnrolmentChange]:
        """The last ENROL or RETIRE of every sidecar that the log ever named."""
        ...

    async def find_receipt(
        self, sidecar_id: str, size: int, after_seq: int, *, newest: bool = False
    ) -> ReceiptPlace | None:
        """The sidecar's smallest logged acknowledgement of at least `size`, or its largest, in an entry behind `after_seq`."""
        ...

    async def find_journal_head(self, sidecar_id: str, chain_id: bytes, number: int | None = None) -> HeadPlace | None:
        """Where a head of a chain stands, by its number; the one with the largest number for None."""
        ...

    async def find_disposal(self, sidecar_id: str, disposal_hash: bytes) -> int | None:
        """Seq of the DISPOSAL entry that holds a disposal, by the SHA-256 of its bytes."""
        ...

    async def load_open_alerts(self) -> Sequence[OpenAlert]:
        """Every alert that began and is not over."""
        ...

    async def close(self) -> None:
        """Give the files back."""
        ...
