"""A feed that signs for real and misbehaves on request: what a stolen log key, or a broken feed, could send."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from consent.event import (
    DirectiveEvent,
    ErasedEvent,
    ErasureEvent,
    Event,
    KeyEpochEvent,
    StateRootEvent,
    format_event,
)
from consent.eventlog.attestation import Attestation
from consent.eventlog.checkpoint import Checkpoint, sign_checkpoint
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.eventlog.proof import consistency_proof, inclusion_proof
from consent.eventlog.trust import Trust, TrustedKey
from consent.key_epoch import rekey_clusters, rekey_event
from consent.key_ring import commit_key
from consent.state import Cluster, fold_event
from consent.state_record import StateHasher, format_cluster, format_tenant, join_records
from consent.tenant_state import EMPTY_TENANT, TenantState, fold_tenant_event
from consent.vocabulary.subject import Rekeyer
from sidecar.ports import EntriesFrame, EntryProof, HeartbeatFrame, WireEntry, WireSnapshot
from tests.fakes.signers import Signers

ORIGIN = "signing.example/log"
TENANT = "tenant-1"
SUBJECT_KEY = bytes(range(32))
START_MS = 1_767_225_600_000

LOG_KEY = generate_signing_key(ORIGIN, KeyKind.LOG, bytes([1]) * 32)
COSIGNER_KEY = generate_signing_key(f"{ORIGIN}/cosigner", KeyKind.COSIGNER, bytes([2]) * 32)
STOLEN_KEY = generate_signing_key(ORIGIN, KeyKind.LOG, bytes([3]) * 32)
SIGNERS = Signers(ORIGIN)
TRUST = Trust(
    tenant=TENANT,
    origin=ORIGIN,
    log_keys=(TrustedKey(LOG_KEY.verifier_key),),
    cosigner_keys=(TrustedKey(COSIGNER_KEY.verifier_key),),
    source_keys=SIGNERS.source_keys,
    approver_keys=SIGNERS.approver_keys,
)


def opt_out(number: int, purpose: str = "*", **changes: object) -> DirectiveEvent:
    """A denial of the subject of this number."""
    token = number.to_bytes(16, "big")
    event = DirectiveEvent(origin=ORIGIN, token=token, kind=2, occurred_at_ms=START_MS, purpose=purpose, assurance=1)
    return replace(event, **changes)  # type: ignore[arg-type]


@dataclass(slots=True)
class _Leaf:
    event: Event
    entry: WireEntry


class SigningFeed:
    """A log in memory.

    Args:
        events: First entries, after the KEY_EPOCH that every log begins with.

    Attributes:
        subject_keys: Of the epochs that have begun, by number.
    """

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.subject_keys = [SUBJECT_KEY]
        self.frontier = Frontier()
        self.leaves: list[_Leaf] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._frontiers = [Frontier()]
        self.append(KeyEpochEvent(origin=ORIGIN, epoch=0, key_commitment=commit_key(SUBJECT_KEY)))
        for event in events:
            self.append(event)

    @property
    def size(self) -> int:
        return self.frontier.size

    def root_hash(self, size: int) -> bytes:
        return self._frontiers[size].root_hash()

    def node_at(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]

    def append(self, event: Event, attestations: tuple[Attestation, ...] | None = None) -> None:
        """Add an event, signed for as it must be, or with the signatures of an attack."""
        event_bytes = format_event(event)
        opening = len(self.leaves).to_bytes(32, "big")
        attestations = SIGNERS.sign(event) if attestations is None else attestations
        entry = WireEntry(event.TYPE, opening, event_bytes, attestations)
        self.leaves.append(_Leaf(event, entry))
        leaf_hash = hash_leaf(leaf_data(entry.type_byte, commit(opening, event_bytes)))
        for level, index, node_hash in self.frontier.append(leaf_hash):
            self._nodes[level, index] = node_hash
        self._frontiers.append(self.frontier.copy())

    def begin_epoch(self, key: bytes) -> None:
        """Append the KEY_EPOCH of the next epoch, whose key this is."""
        epoch = len(self.subject_keys)
        self.subject_keys.append(key)
        self.append(KeyEpochEvent(origin=ORIGIN, epoch=epoch, key_commitment=commit_key(key)))

    def erase(self, token: bytes, *seqs: int) -> None:
        """Append an ERASURE that names these entries, and take their payload away."""
        tokens = (token,)
        epoch = len(self.subject_keys) - 1
        self.append(
            ErasureEvent(origin=ORIGIN, key_epoch=epoch, tokens=tokens, seqs=tuple(seqs), occurred_at_ms=START_MS)
        )
        for seq in seqs:
            self.take_payload(seq)

    def take_payload(self, seq: int) -> None:
        """Leave of an entry what an erasure leaves."""
        leaf = self.leaves[seq - 1]
        commitment = commit(leaf.entry.opening, leaf.entry.event_bytes)
        leaf.entry = WireEntry(leaf.entry.type_byte, b"", b"", commitment=commitment)
        leaf.event = ErasedEvent(origin="", type_byte=leaf.entry.type_byte)

    def lead(self, event: Event) -> Event:
        """An event of epoch 0 in the epoch that the log is in."""
        for key in self.subject_keys[1:]:
            event = rekey_event(event, Rekeyer(key))
        return event

    def checkpoint(
        self, size: int | None = None, time_ms: int = START_MS, *, root_hash: bytes | None = None, **keys: object
    ) -> bytes:
        """The signed checkpoint of a size; with keys or a root of one's own for an attack."""
        size = self.size if size is None else size
        head = Checkpoint(ORIGIN, size, root_hash or self._frontiers[size].root_hash())
        log_key, cosigner_key = keys.get("log_key", LOG_KEY), keys.get("cosigner_key", COSIGNER_KEY)
        return sign_checkpoint(head, log_key, cosigner_key, time_ms // 1000)  # type: ignore[arg-type]

    def entries(self, from_seq: int = 1, to_seq: int | None = None, time_ms: int = START_MS) -> EntriesFrame:
        """A frame of consecutive entries with the checkpoint of its end."""
        to_seq = self.size if to_seq is None else to_seq
        entries = [leaf.entry for leaf in self.leaves[from_seq - 1 : to_seq]]
        return EntriesFrame(from_seq, entries, self.checkpoint(to_seq, time_ms))

    def heartbeat(self, size: int | None = None, time_ms: int = START_MS) -> HeartbeatFrame:
        return HeartbeatFrame(self.checkpoint(size, time_ms))

    def entry_proof(self, seq: int, tree_size: int) -> EntryProof:
        path = inclusion_proof(seq - 1, tree_size, lambda level, index: self._nodes[level, index])
        return EntryProof(self.leaves[seq - 1].entry, path, self.checkpoint())

    def fold(self) -> tuple[dict[bytes, Cluster], TenantState]:
        clusters: dict[bytes, Cluster] = {}
        tenant = EMPTY_TENANT
        for seq, leaf in enumerate(self.leaves, start=1):
            clusters.update(fold_event(leaf.event, seq, clusters.get, tenant.drop_seqs))
            tenant = fold_tenant_event(tenant, leaf.event, seq)
            if isinstance(leaf.event, KeyEpochEvent) and leaf.event.epoch:
                clusters = rekey_clusters(clusters, Rekeyer(self.subject_keys[leaf.event.epoch]))
        return clusters, tenant

    def snapshot(self, held_size: int = 0, time_ms: int = START_MS) -> WireSnapshot:
        """The state now, with the STATE_ROOT entry that this appends."""
        clusters, tenant = self.fold()
        records = {cluster.members[0].token: format_cluster(cluster) for cluster in clusters.values()}
        hasher = StateHasher()
        for token in sorted(records):
            hasher.add(token, records[token])
        size, before = self.size, self.frontier.copy()
        self.append(StateRootEvent(origin=ORIGIN, size=size, state_root_hash=hasher.finish(tenant)))
        proof: tuple[bytes, ...] = ()
        if held_size:
            proof = consistency_proof(held_size, self.size, lambda level, index: self._nodes[level, index])
        return WireSnapshot(
            size=size,
            frontier_hashes=tuple(before.hashes),
            checkpoint_note=self.checkpoint(time_ms=time_ms),
            state_root_entry=self.leaves[-1].entry,
            tenant_record=format_tenant(tenant),
            chunks=[join_records([records[token] for token in sorted(records)])],
            consistency_proof=proof,
        )
