"""A log made by hand: its entries hash, fold and sign for real; there is no feed, no store and no time but what a test says."""

import hashlib
from collections.abc import Iterable, Sequence

from consent.event import DirectiveEvent, Event, KeyEpochEvent, LinkEvent, UnlinkEvent, format_event
from consent.eventlog.checkpoint import Checkpoint, sign_checkpoint
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.eventlog.trust import Trust, TrustedKey
from consent.key_epoch import rekey_clusters, rekey_event
from consent.key_ring import KeyRing, commit_key
from consent.state import Cluster, fold_event
from consent.state_record import StateHasher, format_cluster, parse_cluster
from consent.tenant_state import EMPTY_TENANT, TenantState, fold_tenant_event
from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import Rekeyer
from sidecar.ports import CheckpointSeen, LoggedEvent, LogHead, VerifiedBatch, VerifiedSnapshot, WireEntry
from tests.fakes.signers import Signers

ORIGIN = "log.example.org/acme"
TENANT = "acme"
START_MS = 1_767_225_600_000


def token_of(name: str) -> bytes:
    """16 bytes that a name decides, as evenly spread as real tokens."""
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"test-token").digest()


class LogBuilder:
    """A log that grows by whatever events a test gives it.

    Args:
        origin: Its name.
        tenant: Whose it is.

    Attributes:
        entries: Each entry as a feed would send it, in order.
        logged: Each event at its place, in order.
        frontier: Right edge of the tree.
        clusters: The folded state: what a cache must answer.
        tenant_state: What the log says about the tenant.
        subject_keys: Of the key epochs that have begun, and of epoch 0.
        now_ms: Time of the next checkpoint.
    """

    def __init__(self, origin: str = ORIGIN, tenant: str = TENANT) -> None:
        self.origin = origin
        self.entries: list[WireEntry] = []
        self.logged: list[LoggedEvent] = []
        self.frontier = Frontier()
        self.clusters: dict[bytes, Cluster] = {}
        self.tenant_state: TenantState = EMPTY_TENANT
        self.subject_keys = [_seed(f"{origin}/subject-0")]
        self.now_ms = START_MS
        self._log_key = generate_signing_key(origin, KeyKind.LOG, _seed(f"{origin}/log"))
        self._cosigner_key = generate_signing_key(f"{origin}/cosigner", KeyKind.COSIGNER, _seed(f"{origin}/cosigner"))
        self.signers = Signers(origin)
        self.trust = Trust(
            tenant=tenant,
            origin=origin,
            log_keys=(TrustedKey(self._log_key.verifier_key),),
            cosigner_keys=(TrustedKey(self._cosigner_key.verifier_key),),
            source_keys=self.signers.source_keys,
            approver_keys=self.signers.approver_keys,
        )

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.frontier.size

    def directive(self, name: str, **fields: object) -> DirectiveEvent:
        """An event for `append`: an opt-out of analytics by the person of that name, or what the fields say."""
        values: dict[str, object] = {
            "origin": self.origin,
            "source": "web",
            "token": token_of(name),
            "kind": int(Kind.OPT_OUT),
            "occurred_at_ms": START_MS + self.size,
            "purpose": "analytics",
            "proof": 1,
            "assurance": 1,
        }
        return DirectiveEvent(**(values | fields))  # type: ignore[arg-type]

    def link(self, left: str, right: str, proof: int = 2) -> LinkEvent:
        """An event that links two people's tokens."""
        tokens = token_of(left), token_of(right)
        return LinkEvent(origin=self.origin, left=tokens[0], right=tokens[1], proof=proof, occurred_at_ms=START_MS)

    def unlink(self, left: str, right: str) -> UnlinkEvent:
        """An event that takes a link back."""
        return UnlinkEvent(origin=self.origin, left=token_of(left), right=token_of(right), occurred_at_ms=START_MS)

    def next_epoch(self) -> KeyEpochEvent:
        """An event that begins the next key epoch; the first one begins epoch 0."""
        epoch = len(self.tenant_state.key_commitments)
        if epoch:
            self.subject_keys.append(_seed(f"{self.origin}/subject-{epoch}"))
        return KeyEpochEvent(origin=self.origin, epoch=epoch, key_commitment=commit_key(self.subject_keys[-1]))

    def key_ring(self) -> KeyRing:
        """The ring that fits the log as it is."""
        return KeyRing(tuple(self.subject_keys), ())

    def lead(self, event: Event) -> Event:
        """An event of epoch 0 in the epoch that the log is in."""
        for key in self.subject_keys[1:]:
            event = rekey_event(event, Rekeyer(key))
        return event

    def lead_token(self, token: bytes) -> bytes:
        """A token of epoch 0 in the epoch that the log is in."""
        for key in self.subject_keys[1:]:
            token = Rekeyer(key).rekey(token)
        return token

    def append(self, *events: Event) -> list[LoggedEvent]:
        """Add events to the log, each with the opening that its place decides."""
        logged = [self._append_one(event) for event in events]
        self.logged += logged
        return logged

    def _append_one(self, event: Event) -> LoggedEvent:
        seq, event_bytes = self.frontier.size + 1, format_event(event)
        opening = _seed(f"{self.origin}/{seq}")
        type_byte = event_bytes[1]
        self.frontier.append(hash_leaf(leaf_data(type_byte, commit(opening, event_bytes))))
        self.entries.append(WireEntry(type_byte, opening, event_bytes, self.signers.sign(event)))
        self.tenant_state = fold_tenant_event(self.tenant_state, event, seq)
        self.clusters.update(fold_event(event, seq, self.clusters.get, self.tenant_state.drop_seqs))
        if isinstance(event, KeyEpochEvent) and event.epoch:
            self.clusters = rekey_clusters(self.clusters, Rekeyer(self.subject_keys[event.epoch]))
        return LoggedEvent(seq, event, event_bytes)

    def sign(self) -> bytes:
        """A checkpoint note of the log as it is, signed and cosigned as of `now_ms`."""
        checkpoint = Checkpoint(self.origin, self.size, self.frontier.root_hash())
        return sign_checkpoint(checkpoint, self._log_key, self._cosigner_key, self.now_ms // 1000)

    def head(self) -> LogHead:
        """The log as it is, with a checkpoint that has just arrived."""
        seen = CheckpointSeen(self.sign(), self.now_ms, 0, self.now_ms - START_MS, "boot-1")
        return LogHead(self.frontier.copy(), self.tenant_state, seen)

    def batch(self, *events: Event) -> VerifiedBatch:
        """Add events, and return them as `trusted_log` would."""
        return VerifiedBatch(self.append(*events), self.head())

    def batches(self, events: Iterable[Event], batch_size: int) -> list[VerifiedBatch]:
        """Add events in batches."""
        waiting: Sequence[Event] = list(events)
        starts = range(0, len(waiting), batch_size)
        return [self.batch(*waiting[start : start + batch_size]) for start in starts]

    def records(self) -> list[bytes]:
        """The folded state as canonical records, in the order of their first token."""
        clusters = {cluster.members[0].token: cluster for cluster in self.clusters.values()}
        return [format_cluster(clusters[token]) for token in sorted(clusters)]

    def snapshot(self) -> VerifiedSnapshot:
        """The folded state as `trusted_log` would return it."""
        return VerifiedSnapshot(self.records(), self.head())

    def state_root(self) -> bytes:
        """The hash that commits to the folded state, 32 bytes."""
        hasher = StateHasher()
        for record in self.records():
            hasher.add(parse_cluster(record).members[0].token, record)
        return hasher.finish(self.tenant_state)


def _seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
