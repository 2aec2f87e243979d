"""One segment of a log: a run of entries under one complete subtree, verified by itself so that several can be at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consent.authority import Authority
from consent.errors import ConsentError
from consent.event import FIRST_INFORMATIVE_TYPE, ErasedEvent, ErasureEvent, Event, StateRootEvent
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import HASH_BYTES
from consent.eventlog.trust import Trust
from feed.errors import CorruptLog
from feed.log_store.reader import LogPlace, LogReader
from feed.log_store.tree import node_position
from feed.ports import StoredEntry
from feed.sequencer.state_changes import tokens_of
from feed.verification.findings import Finding, Reason
from feed.verification.tree_comparison import TreeComparison

SEGMENT_LEVEL: Final = 12
SEGMENT_ENTRIES: Final = 1 << SEGMENT_LEVEL

_NO_HASH: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What was found in a segment, and what the log as a whole needs of it.

    Attributes:
        last_seq: Its last entry.
        hashes: Roots of the complete subtrees of its entries, largest first: one for a whole segment.
        is_root_wrong: The root is not the stored one, which was named further down.
        is_complete: Every entry could be read.
        findings: In the order of the entries.
        governing: Seq and event of each entry that may change the tenant's state.
        epoch_uses: Seq of the first entry with tokens of each key epoch.
        erased: Seqs of the entries without payload.
        erasures: Seq of each ERASURE, and the entries that it names.
    """

    last_seq: int
    hashes: tuple[bytes, ...]
    is_root_wrong: bool
    is_complete: bool
    findings: Sequence[Finding]
    governing: Sequence[tuple[int, Event]]
    epoch_uses: dict[int, int]
    erased: Sequence[int] = ()
    erasures: Sequence[tuple[int, tuple[int, ...]]] = ()


def verify_segment(place: LogPlace, trust: Trust, log_size: int, first_seq: int, last_seq: int) -> SegmentReport:
    """Verify the entries of a segment and the tree over them.

    Args:
        place: The log.
        trust: Whom to believe.
        log_size: Entries that the log must have.
        first_seq: 1 more than a multiple of `SEGMENT_ENTRIES`.
        last_seq: At most `SEGMENT_ENTRIES` further; no further than the log's last entry.

    Raises:
        ForeignLog, LogStoreError: The log cannot be read.
    """
    with LogReader.open(place) as reader:
        segment = _Segment(reader, trust, log_size, first_seq, last_seq)
        try:
            segment.walk()
        except CorruptLog as error:
            # A damaged page, behind which SQLite reads nothing more of the run.
            segment.give_up(error)
        return segment.report()


class _Segment:
    def __init__(self, reader: LogReader, trust: Trust, log_size: int, first_seq: int, last_seq: int) -> None:
        self._reader = reader
        self._trust = trust
        self._log_size = log_size
        self._first_seq = first_seq
        self._last_seq = last_seq
        self._next_seq = first_seq
        self._is_complete = True
        self._stored: dict[int, bytes] = {}
        self._tree = TreeComparison(self._take_node, level=0, first_index=first_seq - 1)
        self._findings: list[Finding] = []
        self._governing: list[tuple[int, Event]] = []
        self._epoch_uses: dict[int, int] = {}
        self._authority = Authority(trust)
        self._erased: list[int] = []
        self._erasures: list[tuple[int, tuple[int, ...]]] = []

    def walk(self) -> None:
        # In-order numbers: a subtree's nodes lie between its first leaf's and its last one's.
        first_index = self._first_seq - 1
        last_index = first_index + SEGMENT_ENTRIES - 1
        self._stored = self._reader.nodes(node_position(0, first_index), node_position(0, last_index))
        for seq, entry in self._reader.entries(self._first_seq, self._last_seq):
            self._skip_to(seq)
            self._take(seq, entry)
        self._skip_to(self._last_seq + 1)
        # Of a log that is cut short, the nodes behind its end may be right.
        if self._stored and self._last_seq in {self._log_size, last_index + 1}:
            text = f"{len(self._stored)} tree nodes are stored where there can be none"
            self._findings.append(Finding(Reason.NODES_UNEXPECTED, text, self._first_seq))

    def give_up(self, error: CorruptLog) -> None:
        seq = self._next_seq
        self._findings.append(
            Finding(Reason.ENTRIES_UNREADABLE, f"entries {seq} to {self._last_seq}, or their nodes: {error}", seq)
        )
        while self._next_seq <= self._last_seq:
            self._append_stored(self._next_seq)

    def report(self) -> SegmentReport:
        found = sorted([*self._findings, *self._tree.findings], key=lambda finding: finding.seq or 0)
        hashes, is_root_wrong = self._tree.frontier.hashes, self._tree.is_root_wrong
        return SegmentReport(
            last_seq=self._last_seq,
            hashes=hashes,
            is_root_wrong=is_root_wrong,
            is_complete=self._is_complete,
            findings=found,
            governing=self._governing,
            epoch_uses=self._epoch_uses,
            erased=self._erased,
            erasures=self._erasures,
        )

    def _skip_to(self, seq: int) -> None:
        first = self._next_seq
        if first == seq:
            return
        self._findings.append(Finding(Reason.ENTRIES_MISSING, f"entries {first} to {seq - 1} are missing", first))
        while self._next_seq < seq:
            self._append_stored(self._next_seq)

    def _take(self, seq: int, entry: StoredEntry | CorruptLog) -> None:
        leaf_hash = None
        try:
            if isinstance(entry, CorruptLog):
                raise entry
            leaf_hash = entry.leaf_hash
            self._judge(entry)
        except (CorruptLog, EventLogError) as error:
            self._findings.append(Finding(Reason.ENTRY_UNREADABLE, f"entry {seq}: {error}", seq))
        except ConsentError as error:
            self._findings.append(Finding(Reason.EVENT_REFUSED, f"entry {seq}: {error.reason}: {error}", seq))
        if leaf_hash is None:
            self._append_stored(seq)
        else:
            self._next_seq = seq + 1
            self._tree.append(leaf_hash)

    def _append_stored(self, seq: int) -> None:
        """Go on with the leaf that is stored: whether the rest of the tree is right can still be told."""
        self._next_seq = seq + 1
        self._is_complete = False
        leaf_hash = self._stored.get(node_position(0, seq - 1))
        is_usable = leaf_hash is not None and len(leaf_hash) == HASH_BYTES
        self._tree.append(leaf_hash if leaf_hash and is_usable else _NO_HASH, is_known_wrong=not is_usable)

    def _judge(self, entry: StoredEntry) -> None:
        """Whether the entry may stand in this log; raises ConsentError. The one place where an entry is judged by itself."""
        event = entry.load_event()
        if isinstance(event, ErasedEvent):
            self._erased.append(entry.seq)
            return
        if entry.type_byte != entry.event_bytes[1]:
            raise _NotOfThisLog("its type is not that of its event")
        if entry.type_byte >= FIRST_INFORMATIVE_TYPE:
            return
        if event.origin != self._trust.origin:
            raise _NotOfThisLog("made for another log")
        self._authority.verify(event, entry.event_bytes, entry.attestations, entry.seq)
        if isinstance(event, ErasureEvent):
            self._erasures.append((entry.seq, event.seqs))
        if isinstance(event, StateRootEvent):
            if event.size != entry.seq - 1:
                raise _NotOfThisLog("a state root of another size than the log has before it")
        elif tokens_of(event):
            self._epoch_uses.setdefault(event.key_epoch, entry.seq)
        else:
            self._governing.append((entry.seq, event))

    def _take_node(self, position: int) -> bytes | None:
        return self._stored.pop(position, None)


class _NotOfThisLog(ConsentError):
    """An event that no log, or not this one, could hold at its place."""

    reason = "EVENT_OUT_OF_PLACE"
