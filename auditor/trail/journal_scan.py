"""Finds decisions in the journals of a folder, and what was applied when. Memory stays flat; what cannot be read is told, and read past."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from auditor.errors import FolderUnusable, SegmentKeyMissing
from auditor.folder import AuditFolder
from auditor.journals import SidecarJournal
from auditor.progress import Progress, no_progress
from consent.decision_record import (
    CallRecord,
    Item,
    MalformedRecord,
    item_id,
    parse_question,
    parse_record,
    parse_situation,
)
from journal.applied import AppliedBatch, parse_applied
from journal.errors import CorruptJournal, CorruptSegment
from journal.format import FrameKind, format_segment_name
from journal.reader import FrameAt

Match = Callable[[CallRecord], Iterable[int]]
"""Which items of a call are wanted, by their places."""


class Decision(NamedTuple):
    """A recorded decision.

    Attributes:
        sidecar_id: Who made it.
        place: Segment, frame and record.
        call: The record that it is part of.
        item_number: Its place in the record.
    """

    sidecar_id: str
    place: str
    call: CallRecord
    item_number: int

    @property
    def item(self) -> Item:
        """The answer."""
        return self.call.items[self.item_number]

    @property
    def decision_id(self) -> str:
        """Its id, as callers see it."""
        return str(UUID(bytes=item_id(self.call.call_id, self.item_number)))

    def row(self) -> dict[str, object]:
        """What it says, by name; no pseudonym."""
        call, item = self.call, self.item
        question, situation = parse_question(call.question), parse_situation(call.situation)
        return {
            "at_ms": call.now_ms,
            "sidecar_id": self.sidecar_id,
            "caller": question.caller,
            "purposes": ", ".join(question.purposes),
            "effect": item.effect.name,
            "reason": item.reason.value,
            "deciding_seq": item.deciding_seq or None,
            "log_size": situation.log_size,
            "policy_version": situation.policy_version,
            "trace_id": call.trace_id.hex(),
            "decision_id": self.decision_id,
            "place": self.place,
        }


class Applied(NamedTuple):
    """Entries of the log that came into force at a sidecar.

    Attributes:
        sidecar_id: Where.
        batch: Which, and when.
    """

    sidecar_id: str
    batch: AppliedBatch


@dataclass(slots=True)
class JournalScan:
    """Reads all journals of a folder once.

    Attributes:
        folder: The folder.
        progress: Told how far it is, in bytes.
        segments: Segments read.
        unread: Segments, and rests of segments, that could not be read, and why.
    """

    folder: AuditFolder
    progress: Progress = no_progress
    segments: int = field(default=0, init=False)
    unread: list[str] = field(default_factory=list, init=False)

    def find(self, match: Match) -> Iterator[Decision | Applied]:
        """Every decision that matches, and everything that was applied, sidecar by sidecar and chain by chain.

        Raises:
            FolderUnusable: A file cannot be read.
        """
        for journal, frame in self._frames():
            if frame.kind == FrameKind.RECORDS:
                yield from self._decisions(journal.sidecar_id, frame, match)
            elif frame.kind == FrameKind.APPLIED:
                try:
                    yield Applied(journal.sidecar_id, parse_applied(frame.records[0]))
                except CorruptJournal as error:
                    self.unread.append(f"{_place(frame)}: {error}")

    def _decisions(self, sidecar_id: str, frame: FrameAt, match: Match) -> Iterator[Decision]:
        for number, record in enumerate(frame.records):
            place = f"{_place(frame)}, record {number}"
            try:
                call = parse_record(record)
                for index in match(call):
                    yield Decision(sidecar_id, place, call, index)
            except MalformedRecord as error:
                self.unread.append(f"{place}: {error}")

    def _frames(self) -> Iterator[tuple[SidecarJournal, FrameAt]]:
        journals = list(self.folder.journals())
        total = sum(size for journal in journals for sizes in journal.chains().values() for size in sizes.values())
        done = 0
        for journal in journals:
            for chain_id, sizes in sorted(journal.chains().items()):
                for number in sorted(sizes):
                    yield from self._segment(journal, (chain_id, number))
                    done += sizes[number]
                    self.progress("journals", done, total)

    def _segment(self, journal: SidecarJournal, name: tuple[bytes, int]) -> Iterator[tuple[SidecarJournal, FrameAt]]:
        try:
            for frame in journal.frames(name):
                yield journal, frame
            self.segments += 1
        except (SegmentKeyMissing, CorruptSegment) as error:
            self.unread.append(str(error))
        except OSError as error:
            raise FolderUnusable(f"{journal.path_of(name)}: {error.strerror}") from None


def _place(frame: FrameAt) -> str:
    return f"{format_segment_name(frame.chain_id, frame.segment)}: frame {frame.frame}"
