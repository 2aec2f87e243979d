"""The trail of an entry: from the request to "in force at these sidecars, since then", provable without any of the programs.

A trail believes nothing that its maker says: every fact in it stands in an entry of the log, in a signature of a sidecar or in the
checkpoint. What it cannot show is that no further sidecar was enrolled; that is in the log as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from consent.errors import ConsentError
from consent.event import EnrolEvent, Event, OpaqueEvent, ReceiptsEvent, ReceivedEvent, parse_event
from consent.eventlog.acknowledgement import Receipt, verify_ack, verify_possession
from consent.eventlog.checkpoint import Checkpoint, verify_checkpoint
from consent.eventlog.errors import InvalidTrail, MalformedTrail
from consent.eventlog.merkle import HASH_BYTES, OPENING_BYTES, commit, hash_leaf, leaf_data
from consent.eventlog.proof import verify_consistency, verify_inclusion
from consent.eventlog.trust import Trust


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """An entry with its proof. One whose payload was erased has its commitment in place of opening and event.

    Attributes:
        seq: Its place in the log, from 1.
        type_byte: Type of its event.
        audit_path: That it is in the tree of the checkpoint.
        opening: 32 bytes, or empty.
        event_bytes: Canonical event bytes, or empty.
        commitment: 32 bytes where the payload is gone, or empty.
    """

    seq: int
    type_byte: int
    audit_path: tuple[bytes, ...]
    opening: bytes = b""
    event_bytes: bytes = b""
    commitment: bytes = b""


@dataclass(frozen=True, slots=True)
class TrailSidecar:
    """Where an enrolled sidecar's word stands.

    Attributes:
        sidecar_id: Its name.
        enrol_seq: Seq of its ENROL.
        receipts_seq: Seq of the RECEIPTS with its first acknowledgement of the entry; 0 for none yet.
        consistency_proof: From the size that it acknowledged there to the checkpoint.
    """

    sidecar_id: str
    enrol_seq: int
    receipts_seq: int = 0
    consistency_proof: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Trail:
    """What `verify_trail` reads.

    Attributes:
        seq: The entry that it is about: the outcome of a request.
        checkpoint_note: Signed checkpoint that every proof leads to.
        entries: By seq, each once.
        sidecars: By name, each once.
    """

    seq: int
    checkpoint_note: bytes
    entries: tuple[TrailEntry, ...]
    sidecars: tuple[TrailSidecar, ...]


@dataclass(frozen=True, slots=True)
class SidecarWord:
    """What is proven about one sidecar.

    Attributes:
        sidecar_id: Its name.
        enrolled_seq: Seq of its ENROL.
        size: Smallest acknowledged size that has the entry; None where it has acknowledged none.
        applied_at_ms: Unix ms, by its own clock, since when that was in force there; None likewise.
    """

    sidecar_id: str
    enrolled_seq: int
    size: int | None = None
    applied_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class VerifiedTrail:
    """What a trail proves.

    Attributes:
        seq: The entry.
        type_byte: Type of its event.
        event: The event; None where its payload is gone.
        received_at_ms: Unix ms at which the request came in; None for an entry without a request, or one without payload.
        checkpoint: The tree that all of it stands in.
        checkpoint_time_ms: Unix ms of its cosignature.
        sidecars: By name.
    """

    seq: int
    type_byte: int
    event: Event | None
    received_at_ms: int | None
    checkpoint: Checkpoint
    checkpoint_time_ms: int
    sidecars: tuple[SidecarWord, ...]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Names of the sidecars that have not acknowledged the entry."""
        return tuple(word.sidecar_id for word in self.sidecars if word.size is None)

    @property
    def in_force_everywhere_at_ms(self) -> int | None:
        """Unix ms since when every sidecar of the trail has it in force; None where one lacks it, or there is none."""
        times = [word.applied_at_ms for word in self.sidecars]
        return max((time for time in times if time is not None), default=None) if None not in times else None


def verify_trail(trail: Trail, trust: Trust) -> VerifiedTrail:
    """Check a trail.

    Plan: 1. the checkpoint; 2. every entry is in its tree; 3. the outcome and its request; 4. every sidecar's enrolment and word.

    Raises:
        EventLogError: As the subclass says; nothing of the trail may be believed.
    """
    # 1. The checkpoint, judged at its own time: a trail may be old.
    verified = verify_checkpoint(trail.checkpoint_note, trust, None)
    # 2. The entries.
    events: dict[int, Event | None] = {}
    for entry in trail.entries:
        if entry.seq in events:
            raise MalformedTrail("entries: one stands twice")
        events[entry.seq] = _verify_entry(entry, verified.checkpoint)
    # 3. The outcome.
    outcome_type = {entry.seq: entry.type_byte for entry in trail.entries}.get(trail.seq)
    outcome = events.get(trail.seq)
    if outcome_type is None or isinstance(outcome, ReceivedEvent):
        raise InvalidTrail("seq: the outcome of a request must be among the entries")
    # 4. The sidecars.
    names = [sidecar.sidecar_id for sidecar in trail.sidecars]
    if len(set(names)) != len(names):
        raise MalformedTrail("sidecars: one stands twice")
    words = tuple(_verify_word(sidecar, trail.seq, events, verified.checkpoint) for sidecar in trail.sidecars)
    return VerifiedTrail(
        seq=trail.seq,
        type_byte=outcome_type,
        event=outcome,
        received_at_ms=_find_request(outcome, events.get(trail.seq - 1)),
        checkpoint=verified.checkpoint,
        checkpoint_time_ms=verified.time_ms,
        sidecars=words,
    )


def first_receipt(event: ReceiptsEvent, sidecar_id: str, seq: int) -> Receipt | None:
    """The smallest acknowledgement of a sidecar that has the entry `seq`."""
    receipts = (receipt for receipt in event.receipts if receipt.sidecar_id == sidecar_id and receipt.size >= seq)
    return min(receipts, key=lambda receipt: receipt.size, default=None)


def _verify_entry(entry: TrailEntry, checkpoint: Checkpoint) -> Event | None:
    event: Event | None = None
    commitment = entry.commitment
    if not commitment:
        if len(entry.opening) != OPENING_BYTES:
            raise MalformedTrail(f"entries: an opening has {OPENING_BYTES} bytes")
        commitment = commit(entry.opening, entry.event_bytes)
        event = _read_event(entry, checkpoint.origin)
    elif len(commitment) != HASH_BYTES or entry.opening or entry.event_bytes:
        raise MalformedTrail("entries: a commitment has 32 bytes and stands alone")
    leaf_hash = hash_leaf(leaf_data(entry.type_byte, commitment))
    verify_inclusion(leaf_hash, entry.seq - 1, checkpoint.size, entry.audit_path, checkpoint.root_hash)
    return event


def _read_event(entry: TrailEntry, origin: str) -> Event:
    try:
        event = parse_event(entry.event_bytes)
    except ConsentError as error:
        raise MalformedTrail(f"entries: {error.reason}") from None
    if entry.type_byte != entry.event_bytes[1]:
        raise InvalidTrail("entries: the type is not that of the event")
    if not isinstance(event, OpaqueEvent) and event.origin != origin:
        raise InvalidTrail("entries: an event was made for another log")
    return event


def _find_request(outcome: Event | None, before: Event | None) -> int | None:
    """When the request of an outcome came in: its RECEIVED stands next to it, with the same request id."""
    if outcome is None or not isinstance(before, ReceivedEvent) or before.request_id != outcome.request_id:
        return None
    return before.received_at_ms


def _verify_word(
    sidecar: TrailSidecar, seq: int, events: Mapping[int, Event | None], checkpoint: Checkpoint
) -> SidecarWord:
    # Its key, which it has shown to be its own.
    enrolment = events.get(sidecar.enrol_seq)
    if not isinstance(enrolment, EnrolEvent) or enrolment.sidecar_id != sidecar.sidecar_id:
        raise InvalidTrail("sidecars: the entry at enrol_seq does not enrol this sidecar")
    verify_possession(enrolment.sidecar_id, enrolment.public_key, enrolment.possession, checkpoint.origin)
    if not sidecar.receipts_seq:
        return SidecarWord(sidecar.sidecar_id, sidecar.enrol_seq)
    # Its word, logged after it was enrolled.
    logged = events.get(sidecar.receipts_seq)
    if not isinstance(logged, ReceiptsEvent) or sidecar.receipts_seq <= sidecar.enrol_seq:
        raise InvalidTrail("sidecars: there are no receipts at receipts_seq, or they came before the enrolment")
    receipt = first_receipt(logged, sidecar.sidecar_id, seq)
    if receipt is None:
        raise InvalidTrail("sidecars: the receipts at receipts_seq have none of this sidecar for the entry")
    verify_ack(receipt, checkpoint.origin, enrolment.public_key)
    # The log that it acknowledged is the one of the checkpoint, so the entry is in it.
    proof = sidecar.consistency_proof
    verify_consistency(receipt.size, receipt.root_hash, checkpoint.size, checkpoint.root_hash, proof)
    return SidecarWord(sidecar.sidecar_id, sidecar.enrol_seq, receipt.size, receipt.applied_at_ms)
