"""The trail of an entry, made from a copied log and proven by the same code as one that a feed has made (`consent.trail`)."""

from collections.abc import Collection
from dataclasses import dataclass, field

from auditor.errors import FolderUnusable
from auditor.folder import AuditFolder
from auditor.log_copy import CopiedCheckpoint, CopiedEntry
from auditor.log_tree import LogTree
from auditor.progress import Progress, no_progress
from consent.errors import ConsentError
from consent.event import EnrolEvent, Event, EventType, ReceiptsEvent, ReceivedEvent, RetireEvent
from consent.eventlog.checkpoint import verify_checkpoint
from consent.trail import Trail, TrailEntry, TrailSidecar, VerifiedTrail, first_receipt, verify_trail

_PROGRESS_ENTRIES = 4_096
_SIDECAR_TYPES = frozenset({EventType.ENROL, EventType.RETIRE, EventType.RECEIPTS})


@dataclass(slots=True)
class _Word:
    """Where a sidecar's enrolment and first acknowledgement stand."""

    enrolment: CopiedEntry
    receipts: CopiedEntry | None = None
    size: int = 0


@dataclass(slots=True)
class LogReading:
    """What one pass over a copied log has kept.

    Attributes:
        size: Entries that the newest checkpoint signs.
        time_ms: Unix ms of its cosignature.
        entries: Those asked for, and each one's neighbours, by seq.
        trail: Of the entry asked for with `trail_seq`, verified; None where none was, or it is not in the log.
    """

    size: int
    time_ms: int
    entries: dict[int, CopiedEntry] = field(default_factory=dict)
    trail: VerifiedTrail | None = None

    def event(self, seq: int) -> Event | None:
        """An entry's event; None where it was not asked for, is not there, or cannot be read."""
        entry = self.entries.get(seq)
        try:
            return entry.read_event() if entry else None
        except ConsentError:
            return None

    def received_at_ms(self, seq: int) -> int | None:
        """When the request came in whose outcome an entry is."""
        outcome, before = self.event(seq), self.event(seq - 1)
        if outcome is None or not isinstance(before, ReceivedEvent) or before.request_id != outcome.request_id:
            return None
        return before.received_at_ms


def read_log(
    folder: AuditFolder, seqs: Collection[int], *, trail_seq: int = 0, progress: Progress = no_progress
) -> LogReading:
    """Read entries out of a copied log, which is proven to be the signed one on the way.

    Args:
        folder: With the copy.
        seqs: The entries wanted.
        trail_seq: The entry whose trail is wanted, 0 for none; of a request's arrival, its outcome's.
        progress: Told how far it is, in bytes.

    Raises:
        FolderUnusable, MalformedLogCopy: The copy cannot be read.
        EventLogError: It is not the log that was signed, or the trail does not hold. `consentry-auditor verify` says where.
    """
    with LogTree() as tree:
        walk = _Walk(folder, tree, {near for seq in (*seqs, trail_seq) for near in (seq - 1, seq, seq + 1)}, trail_seq)
        total = folder.log.size_bytes
        for number, item in enumerate(folder.log.items()):
            if isinstance(item.content, CopiedCheckpoint):
                walk.note = item.content.note
            else:
                walk.take(item.content)
            if number % _PROGRESS_ENTRIES == 0:
                progress("log", item.end, total)
        progress("log", total, total)
        return walk.finish()


class _Walk:
    def __init__(self, folder: AuditFolder, tree: LogTree, wanted: set[int], trail_seq: int) -> None:
        self.note = b""
        self._trust = folder.trust
        self._tree = tree
        self._wanted = wanted
        self._trail_seq = trail_seq
        self._entries: dict[int, CopiedEntry] = {}
        self._words: dict[str, _Word] = {}

    def take(self, entry: CopiedEntry) -> None:
        self._tree.append(entry.leaf_hash())
        if entry.seq in self._wanted:
            self._entries[entry.seq] = entry
        if self._trail_seq and entry.type_byte in _SIDECAR_TYPES and entry.event_bytes:
            try:
                self._take_sidecar(entry, entry.read_event())
            except ConsentError:
                # An entry that cannot be read proves nothing; `verify` names it.
                return

    def finish(self) -> LogReading:
        if not self.note:
            raise FolderUnusable("log.copy: has no signed checkpoint: fetch the log again")
        verified = verify_checkpoint(self.note, self._trust, None)
        size = verified.checkpoint.size
        if size > self._tree.size or self._tree.root_at(size) != verified.checkpoint.root_hash:
            raise FolderUnusable(
                "log.copy: is not the log that was signed; consentry-auditor verify says where it differs"
            )
        entries = {seq: entry for seq, entry in self._entries.items() if seq <= size}
        reading = LogReading(size, verified.time_ms, entries)
        seq = self._outcome_of(reading)
        if 0 < seq <= size:
            reading.trail = verify_trail(self._make_trail(seq, size), self._trust)
        return reading

    def _take_sidecar(self, entry: CopiedEntry, event: Event) -> None:
        match event:
            case EnrolEvent():
                self._words[event.sidecar_id] = _Word(entry)
            case RetireEvent():
                self._words.pop(event.sidecar_id, None)
            case ReceiptsEvent():
                for name, word in self._words.items():
                    receipt = None if word.receipts else first_receipt(event, name, self._trail_seq)
                    if receipt is not None:
                        word.receipts, word.size = entry, receipt.size
            case _:
                return

    def _outcome_of(self, reading: LogReading) -> int:
        """A request's arrival stands before its outcome, which the trail is about."""
        event, after = reading.event(self._trail_seq), reading.event(self._trail_seq + 1)
        is_arrival = isinstance(event, ReceivedEvent)
        has_outcome = is_arrival and after is not None and event is not None and after.request_id == event.request_id
        return self._trail_seq + 1 if has_outcome else 0 if is_arrival else self._trail_seq

    def _make_trail(self, seq: int, size: int) -> Trail:
        words = {name: word for name, word in sorted(self._words.items()) if word.enrolment.seq <= size}
        proving = [self._entries[seq]]
        if seq - 1 in self._entries:
            proving.append(self._entries[seq - 1])
        sidecars = []
        for name, word in words.items():
            proving.append(word.enrolment)
            receipts = word.receipts if word.receipts and word.receipts.seq <= size else None
            if receipts is None:
                sidecars.append(TrailSidecar(name, word.enrolment.seq))
                continue
            proving.append(receipts)
            proof = self._tree.consistency_proof(word.size, size)
            sidecars.append(TrailSidecar(name, word.enrolment.seq, receipts.seq, proof))
        entries = {entry.seq: self._prove(entry, size) for entry in proving}
        return Trail(seq, self.note, tuple(entries[each] for each in sorted(entries)), tuple(sidecars))

    def _prove(self, entry: CopiedEntry, size: int) -> TrailEntry:
        path = self._tree.inclusion_proof(entry.seq, size)
        return TrailEntry(entry.seq, entry.type_byte, path, entry.opening, entry.event_bytes, entry.commitment)
