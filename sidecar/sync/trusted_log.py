"""The only door: untrusted frames and the time come in, verified batches go out or an error does.

Nothing here does I/O, and no option skips a step. After an error the caller drops the stream and goes on with what it holds; the object
holds nothing of the refused frame, so a new stream can start from the same head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from consent.authority import Authority, NotAuthorised
from consent.errors import ConsentError
from consent.event import (
    FIRST_INFORMATIVE_TYPE,
    DirectiveEvent,
    EnrolEvent,
    ErasedEvent,
    ErasureEvent,
    Event,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    RestrictionEvent,
    StateRootEvent,
    UnlinkEvent,
    parse_event,
)
from consent.eventlog.acknowledgement import verify_possession
from consent.eventlog.checkpoint import VerifiedCheckpoint, verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier, hash_entry, hash_leaf, leaf_data
from consent.eventlog.proof import verify_consistency, verify_inclusion
from consent.eventlog.trust import Trust
from consent.key_epoch import current_epoch
from consent.policy import PolicyError
from consent.state_record import StateHasher, parse_cluster, parse_tenant, split_records
from consent.tenant_state import TenantState, fold_tenant_event
from sidecar.errors import (
    CheckpointFromFuture,
    CheckpointRejected,
    EntryRejected,
    LogFork,
    LogRollback,
    MalformedFrame,
    RootMismatch,
    SequenceGap,
    SnapshotRejected,
)
from sidecar.ports import (
    CheckpointSeen,
    EntriesFrame,
    EntryProof,
    HeartbeatFrame,
    LoggedEvent,
    LogHead,
    VerifiedBatch,
    VerifiedSnapshot,
    WireEntry,
    WireSnapshot,
)

MAX_ENTRIES_PER_FRAME = 10_000
MAX_PENDING_ENTRIES = 250_000
"""A feed that never sends a checkpoint must not fill the memory."""
MAX_PENDING_BYTES = 256 * 1024 * 1024
CLOCK_SKEW_MS = 300_000
UNKNOWN_AGE_MS = 2**53
"""Older than any limit."""
MAX_REMEMBERED_ROOTS = 4096
"""Of sizes held before: witnesses may see one of them while the log goes on."""

_PERSONAL_EVENTS = (DirectiveEvent, LinkEvent, UnlinkEvent, FactEvent, RestrictionEvent, OverrideEvent)
_TOKEN_EVENTS = (*_PERSONAL_EVENTS, ErasureEvent)
_ERASABLE_TYPES = frozenset(event_class.TYPE for event_class in _PERSONAL_EVENTS)


class Moment(NamedTuple):
    """When something arrived.

    Attributes:
        now_ms: Wall clock, Unix ms.
        boot_ms: The clock that cannot be set back.
        boot_id: Which boot that clock belongs to.
    """

    now_ms: int
    boot_ms: int
    boot_id: str


@dataclass(slots=True)
class _Pending:
    """Entries that came and wait for their checkpoint."""

    frontier: Frontier
    tenant: TenantState
    events: list[LoggedEvent]
    size_bytes: int = 0
    unexplained: set[int] = field(default_factory=set)
    """Entries without payload that no ERASURE has named yet."""


class TrustedLog:
    """Verifies what a feed sends against what is held.

    Args:
        trust: Whom to believe; from the sidecar's own configuration.
        head: What is held, from the sealed cache.
    """

    def __init__(self, trust: Trust, head: LogHead) -> None:
        self._trust = trust
        self._authority = Authority(trust)
        self._head = head
        self._pending = self._start_pending()
        self._roots: dict[int, bytes] = {}

    @property
    def head(self) -> LogHead:
        """What is held and verified."""
        return self._head

    @property
    def tenant(self) -> str:
        """Name of the tenant whose log is trusted."""
        return self._trust.tenant

    @property
    def origin(self) -> str:
        """Name of the log that is trusted."""
        return self._trust.origin

    def _start_pending(self) -> _Pending:
        return _Pending(self._head.frontier.copy(), self._head.tenant, [])

    def advance(self, head: LogHead) -> None:
        """Take note that what was verified is now held durably."""
        self._head = head
        self._roots[head.size] = head.frontier.root_hash()
        while len(self._roots) > MAX_REMEMBERED_ROOTS:
            del self._roots[next(iter(self._roots))]
        self._pending = self._start_pending()

    def receive_entries(self, frame: EntriesFrame, moment: Moment) -> VerifiedBatch | None:
        """Verify the next entries.

        Plan: 1. limits; 2. continuity; 3. each entry is an event of this log, signed for by whom it must be, or stands for one that was
        erased; 4. the checkpoint's signatures and time; 5. its size and root are what the entries hash to; 6. an ERASURE names each entry
        without payload.

        Returns:
            The batch, once its checkpoint came; None while more of it follows.

        Raises:
            SyncError: As the subclass says; nothing of the batch may be used.
        """
        pending = self._pending
        self._pending = self._start_pending()
        # 1. Limits.
        if not frame.entries or len(frame.entries) > MAX_ENTRIES_PER_FRAME:
            raise MalformedFrame(f"entries: a frame holds 1 to {MAX_ENTRIES_PER_FRAME}")
        pending.size_bytes += sum(len(entry.event_bytes) + 64 for entry in frame.entries)
        if len(pending.events) + len(frame.entries) > MAX_PENDING_ENTRIES or pending.size_bytes > MAX_PENDING_BYTES:
            raise MalformedFrame("entries: too many without a checkpoint")
        # 2. Continuity.
        expected_seq = pending.frontier.size + 1
        if frame.from_seq != expected_seq:
            raise SequenceGap(f"expected entry {expected_seq}, the frame starts at {frame.from_seq}")
        # 3. Entries.
        leaf_hashes = []
        for seq, entry in enumerate(frame.entries, start=expected_seq):
            self._take_entry(pending, entry, seq)
            leaf_hashes.append(_leaf_hash(entry))
        pending.frontier.extend(leaf_hashes)
        if not frame.checkpoint_note:
            self._pending = pending
            return None
        # 4. Checkpoint.
        verified = self._verify_checkpoint(frame.checkpoint_note, moment)
        # 5. Size and root.
        if verified.checkpoint.size != pending.frontier.size:
            raise RootMismatch(
                f"{pending.frontier.size} entries came, the checkpoint is for {verified.checkpoint.size}"
            )
        if verified.checkpoint.root_hash != pending.frontier.root_hash():
            raise RootMismatch(f"the entries up to {pending.frontier.size} do not hash to the checkpoint's root")
        # 6. What was taken away must have been taken away by the log itself.
        if pending.unexplained:
            raise EntryRejected(f"entry {min(pending.unexplained)}: has no payload, and no later ERASURE names it")
        return VerifiedBatch(pending.events, LogHead(pending.frontier, pending.tenant, self._see(verified, moment)))

    def _take_entry(self, pending: _Pending, entry: WireEntry, seq: int) -> None:
        event = self._verify_entry(entry, seq) if entry.event_bytes else _verify_erased(entry, seq)
        pending.tenant = _fold_tenant(pending.tenant, event, seq)
        _verify_epoch(event, pending.tenant, seq)
        pending.events.append(LoggedEvent(seq, event, entry.event_bytes, entry.traceparent))
        if isinstance(event, ErasedEvent):
            pending.unexplained.add(seq)
        elif isinstance(event, ErasureEvent):
            pending.unexplained.difference_update(event.seqs)

    def receive_heartbeat(self, frame: HeartbeatFrame, moment: Moment) -> LogHead | None:
        """Verify a checkpoint that comes without entries.

        One for a smaller size that was held before counts as well where witnesses are demanded: they need a moment, and a busy log goes
        on meanwhile.

        Returns:
            The head with the newer checkpoint; None where it adds nothing (an older time, too few witnesses, or a larger size whose
            entries follow).

        Raises:
            SyncError: As the subclass says.
        """
        verified = self._verify_checkpoint(frame.checkpoint_note, moment)
        held, checkpoint = self._head, verified.checkpoint
        if checkpoint.size > held.size:
            return None
        root_hash = self._roots.get(checkpoint.size) if checkpoint.size < held.size else held.frontier.root_hash()
        if root_hash is not None and checkpoint.root_hash != root_hash:
            raise LogFork(f"another root for the size {checkpoint.size}")
        if root_hash is None or (checkpoint.size < held.size and not self._trust.witness_threshold):
            raise LogRollback(f"{held.size} entries are held, the checkpoint is for {checkpoint.size}")
        time_ms = verified.fresh_time_ms
        if time_ms is None or (held.checkpoint is not None and time_ms <= held.checkpoint.time_ms):
            return None
        seen = _see_fresh(verified.note_bytes, time_ms, moment)
        if checkpoint.size < held.size and held.checkpoint is not None:
            # The note stays that of the size held; only its time moves.
            seen = replace(seen, note=held.checkpoint.note)
        return replace(held, checkpoint=seen)

    def receive_snapshot(self, snapshot: WireSnapshot, moment: Moment) -> VerifiedSnapshot:
        """Verify a folded state. The signatures over the single entries behind it are not there to be checked: the log's own vouches.

        Plan: 1. the tree's right edge and the STATE_ROOT entry hash to the checkpoint; 2. it continues the log held; 3. the entry
        commits to the state that came.

        Raises:
            SyncError: As the subclass says.
        """
        # 1. The tree.
        verified = self._verify_checkpoint(snapshot.checkpoint_note, moment)
        seq = snapshot.size + 1
        event = self._verify_entry(snapshot.state_root_entry, seq)
        try:
            frontier = Frontier(snapshot.size, list(snapshot.frontier_hashes))
            frontier.append(_leaf_hash(snapshot.state_root_entry))
        except EventLogError as error:
            raise SnapshotRejected(f"frontier: {error.reason}") from None
        checkpoint = verified.checkpoint
        if checkpoint.size != seq or checkpoint.root_hash != frontier.root_hash():
            raise SnapshotRejected(
                "the tree's right edge and the STATE_ROOT entry do not hash to the checkpoint's root"
            )
        # 2. The log held.
        self._verify_continuation(checkpoint.size, checkpoint.root_hash, snapshot.consistency_proof)
        # 3. The state.
        if not isinstance(event, StateRootEvent) or event.size != snapshot.size:
            raise SnapshotRejected("the entry behind the snapshot is not its STATE_ROOT")
        records, tenant, state_root_hash = _hash_state(snapshot)
        if state_root_hash != event.state_root_hash:
            raise SnapshotRejected("the state is not what the log commits to")
        return VerifiedSnapshot(records, LogHead(frontier, tenant, self._see(verified, moment)))

    def verify_entry_proof(self, seq: int, proof: EntryProof, head: LogHead) -> Event:
        """Verify that the log held has this entry at `seq`.

        Raises:
            SyncError: As the subclass says.
        """
        event = self._verify_entry(proof.entry, seq)
        try:
            verify_inclusion(_leaf_hash(proof.entry), seq - 1, head.size, proof.audit_path, head.frontier.root_hash())
        except EventLogError as error:
            raise EntryRejected(f"entry {seq}: {error.reason}") from None
        return event

    def _see(self, verified: VerifiedCheckpoint, moment: Moment) -> CheckpointSeen:
        """The checkpoint of what came, with the newest time at which what is held was known to be all there was.

        That is an earlier one's where this one has an older time, or lacks witnesses: more is held now than then.
        """
        before = self._head.checkpoint or CheckpointSeen(b"", 0, UNKNOWN_AGE_MS, moment.boot_ms, moment.boot_id)
        time_ms = verified.fresh_time_ms
        if time_ms is None or time_ms < before.time_ms:
            return replace(before, note=verified.note_bytes)
        return _see_fresh(verified.note_bytes, time_ms, moment)

    def _verify_continuation(self, size: int, root_hash: bytes, proof: Sequence[bytes]) -> None:
        held = self._head
        if size < held.size:
            raise LogRollback(f"{held.size} entries are held, the snapshot is for {size}")
        if held.size == 0:
            return
        try:
            verify_consistency(held.size, held.frontier.root_hash(), size, root_hash, proof)
        except EventLogError:
            raise LogFork("the snapshot does not continue the log that is held") from None

    def _verify_entry(self, entry: WireEntry, seq: int) -> Event:
        try:
            event = parse_event(entry.event_bytes)
        except ConsentError as error:
            raise EntryRejected(f"entry {seq}: {error.reason}: {error}") from None
        if entry.type_byte != entry.event_bytes[1]:
            raise EntryRejected(f"entry {seq}: its type is not that of its event")
        if entry.type_byte < FIRST_INFORMATIVE_TYPE and event.origin != self._trust.origin:
            raise EntryRejected(f"entry {seq}: made for another log")
        if isinstance(event, EnrolEvent):
            _verify_possession(event, seq)
        try:
            self._authority.verify(event, entry.event_bytes, entry.attestations, seq)
        except NotAuthorised as error:
            raise EntryRejected(f"entry {seq}: {error.reason}: {error}") from None
        return event

    def _verify_checkpoint(self, note: bytes, moment: Moment) -> VerifiedCheckpoint:
        try:
            verified = verify_checkpoint(note, self._trust, moment.now_ms // 1000)
        except EventLogError as error:
            raise CheckpointRejected(f"{error.reason}: {error}") from None
        if verified.time_ms > moment.now_ms + CLOCK_SKEW_MS:
            raise CheckpointFromFuture(f"{(verified.time_ms - moment.now_ms) // 1000} s ahead of the clock here")
        return verified


def _verify_possession(event: EnrolEvent, seq: int) -> None:
    try:
        verify_possession(event.sidecar_id, event.public_key, event.possession, event.origin)
    except EventLogError as error:
        raise EntryRejected(f"entry {seq}: {error.reason}") from None


def _see_fresh(note: bytes, time_ms: int, moment: Moment) -> CheckpointSeen:
    return CheckpointSeen(note, time_ms, max(0, moment.now_ms - time_ms), moment.boot_ms, moment.boot_id)


def _verify_erased(entry: WireEntry, seq: int) -> ErasedEvent:
    """Refuse an entry without payload that no erasure can have left: what concerns no person is never erased."""
    if entry.opening or (entry.type_byte < FIRST_INFORMATIVE_TYPE and entry.type_byte not in _ERASABLE_TYPES):
        raise EntryRejected(f"entry {seq}: has no payload, and cannot have been erased")
    return ErasedEvent(origin="", type_byte=entry.type_byte)


def _leaf_hash(entry: WireEntry) -> bytes:
    try:
        if entry.event_bytes:
            return hash_entry(entry.type_byte, entry.opening, entry.event_bytes)
        return hash_leaf(leaf_data(entry.type_byte, entry.commitment))
    except ValueError:
        raise MalformedFrame("entries: an opening and a commitment have 32 bytes, a type fits a byte") from None


def _fold_tenant(tenant: TenantState, event: Event, seq: int) -> TenantState:
    try:
        return fold_tenant_event(tenant, event, seq)
    except ValueError as error:
        reason = getattr(error, "reason", "INVALID")
        raise EntryRejected(f"entry {seq}: {reason}") from None


def _verify_epoch(event: Event, tenant: TenantState, seq: int) -> None:
    """Refuse tokens of another key epoch than the one in force: nobody would be found under them."""
    if isinstance(event, _TOKEN_EVENTS) and event.key_epoch != current_epoch(tenant):
        raise EntryRejected(f"entry {seq}: tokens of another key epoch than the log's")


def _hash_state(snapshot: WireSnapshot) -> tuple[list[bytes], TenantState, bytes]:
    """The records, the tenant and the state root of a snapshot.

    First tokens ascend, so only a token further back in a cluster could stand in two.
    """
    hasher, records, later_tokens = StateHasher(), [], set[bytes]()
    try:
        for chunk in snapshot.chunks:
            for record in split_records(chunk):
                first, *others = (member.token for member in parse_cluster(record).members)
                if first in later_tokens or not later_tokens.isdisjoint(others):
                    raise SnapshotRejected("state: one token stands in two clusters")
                later_tokens.update(others)
                hasher.add(first, record)
                records.append(record)
        tenant = parse_tenant(snapshot.tenant_record)
        tenant.load_policy()
        state_root_hash = hasher.finish(tenant)
    except (ConsentError, PolicyError) as error:
        raise SnapshotRejected(f"state: {error.reason}") from None
    return records, tenant, state_root_hash
