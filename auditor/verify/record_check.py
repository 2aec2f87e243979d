"""The decision records of all journals: whether each can be read, stands once, and was decided on this log."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from auditor.findings import Finding
from auditor.log_tree import LogTree
from auditor.scratch import ScratchDatabase
from auditor.verify.reasons import Reason
from consent.decision_record import MalformedRecord, Situation, parse_record, parse_situation
from journal.format import format_segment_name
from journal.reader import FrameAt

_BUFFERED_CALLS: Final = 8_192
_REMEMBERED_SITUATIONS: Final = 4_096
_ID_SPACE: Final = 1 << 128


class FrameRecords(NamedTuple):
    """What a frame of records holds.

    Attributes:
        decisions: How many.
        first_id: Call id of the first record.
        last_id: Call id of the last one.
        ahead: Decisions on a larger log than the copy holds.
        findings: What is wrong, in order.
    """

    decisions: int
    first_id: bytes
    last_id: bytes
    ahead: int
    findings: tuple[Finding, ...]


class RecordCheck(ScratchDatabase):
    """Takes frame after frame, and keeps the ids.

    Args:
        origin: Name of the log.
        tree: Of the log.
    """

    def __init__(self, origin: str, tree: LogTree) -> None:
        self._origin = origin
        self._tree = tree
        super().__init__("CREATE TABLE calls(id, items, sidecar, chain, segment, frame, place);")
        self._calls: list[tuple[object, ...]] = []
        self._judge = lru_cache(_REMEMBERED_SITUATIONS)(self._judge_situation)

    def take(self, sidecar_id: str, frame: FrameAt) -> FrameRecords:
        """Check the records of a frame."""
        found: list[Finding] = []
        decisions = ahead = 0
        ids: list[bytes] = []
        for place, record in enumerate(frame.records):
            try:
                call = parse_record(record)
                fault, is_ahead = self._judge(call.situation)
            except MalformedRecord as error:
                found.append(self._finding(sidecar_id, frame, place, Reason.RECORD_UNREADABLE, str(error)))
                continue
            if fault is not None:
                found.append(self._finding(sidecar_id, frame, place, *fault))
            count = len(call.items)
            decisions += count
            ahead += count if is_ahead else 0
            ids.append(call.call_id)
            self._calls.append((call.call_id, count, sidecar_id, frame.chain_id, frame.segment, frame.frame, place))
        if len(self._calls) >= _BUFFERED_CALLS:
            self._store()
        first_id, last_id = (ids[0], ids[-1]) if ids else (b"", b"")
        return FrameRecords(decisions, first_id, last_id, ahead, tuple(found))

    def find_duplicates(self) -> Iterator[Finding]:
        """Decision ids that two records claim."""
        self._store()
        end, earlier = -1, ""
        # Sorted by SQLite, on the disk where it must.
        for call_id, count, sidecar_id, *where in self._database.execute("SELECT * FROM calls ORDER BY id, rowid"):
            chain_id, segment, frame, place = where
            at = int.from_bytes(call_id, "big")
            described = f"{format_segment_name(chain_id, segment)}: frame {frame}, record {place}"
            if at < end:
                text = f"{described}: the decision id of a record that stands already in {earlier}"
                yield Finding(Reason.RECORD_DUPLICATE, text, sidecar_id=sidecar_id, place=described)
            if at + count > end:
                end, earlier = min(at + count, _ID_SPACE), f"{sidecar_id}, {described}"

    def _store(self) -> None:
        self._database.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)", self._calls)
        self._calls = []

    def _judge_situation(self, block: bytes) -> tuple[tuple[Reason, str] | None, bool]:
        """What is wrong with a situation, and whether it is ahead of the copy; the same block comes many times."""
        situation: Situation = parse_situation(block)
        if not situation.log_size:
            return None, False
        if situation.origin != self._origin:
            return (Reason.FOREIGN_LOG, "decided on another log than the one in this folder"), False
        if situation.log_size > self._tree.size:
            return None, True
        if self._tree.root_at(situation.log_size) != situation.root_hash:
            text = f"decided on another log of {situation.log_size} entries than the one in this folder"
            return (Reason.ROOT_DIFFERS, text), False
        return None, False

    def _finding(self, sidecar_id: str, frame: FrameAt, place: int, reason: Reason, text: str) -> Finding:
        name = format_segment_name(frame.chain_id, frame.segment)
        where = f"{name}: frame {frame.frame} at byte {frame.offset}, record {place}"
        return Finding(reason, f"{where}: {text}", sidecar_id=sidecar_id, place=where)
