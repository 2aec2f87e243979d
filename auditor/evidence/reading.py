"""One pass over the log and one over each journal, which feeds every collector."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from auditor.errors import SegmentKeyMissing
from auditor.evidence.errors import EvidenceUnreadable
from auditor.evidence.events import CallSeen, Collector, EntrySeen, NoteSeen, SegmentSeen, feed_time_of, type_name_of
from auditor.evidence.period import Period
from auditor.findings import Finding
from auditor.folder import AuditFolder
from auditor.journals import SidecarJournal
from auditor.log_copy import CopiedEntry
from auditor.progress import Progress
from consent.decision_record import AskedQuestion, MalformedRecord, parse_question, parse_record
from consent.errors import ConsentError
from consent.event import OpaqueEvent
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier
from consent.eventlog.proof import inclusion_proof
from journal.errors import CorruptJournal, CorruptSegment
from journal.format import MAX_HEADER_BYTES, FrameKind, header_length, parse_header
from journal.reader import FrameAt

_ENTRY_OVERHEAD_BYTES: Final = 32
_ADVANCE_EVERY: Final = 2048


class LogRead(NamedTuple):
    """What the pass over the log leaves.

    Attributes:
        size: Entries.
        root_hash: Root computed over all of them, 32 bytes.
        last_feed_time_ms: Newest time by the feed's clock in it, 0 for none.
        findings: Entries that could not be read.
    """

    size: int
    root_hash: bytes
    last_feed_time_ms: int
    findings: tuple[Finding, ...]


class JournalsRead(NamedTuple):
    """What the pass over the journals leaves.

    Attributes:
        segments: How many there are.
        unopened: How many of them no key opens.
        findings: What could not be read.
    """

    segments: int
    unopened: int
    findings: tuple[Finding, ...]


def read_log(folder: AuditFolder, period: Period, collectors: Sequence[Collector], progress: Progress) -> LogRead:
    """Feed every entry of the log.

    Raises:
        AuditorError: The copy is damaged or cannot be read.
    """
    frontier, now_ms, findings, done, total = Frontier(), 0, list[Finding](), 0, folder.log.size_bytes
    for entry in folder.log.entries():
        try:
            frontier.append(entry.leaf_hash())
            event = entry.read_event()
        except EventLogError:
            raise EvidenceUnreadable(f"log: entry {entry.seq} cannot be a leaf of the tree") from None
        except ConsentError as error:
            findings.append(Finding(error.reason, "an entry of the log cannot be read", place=f"seq {entry.seq}"))
            event = OpaqueEvent(origin="", type_byte=entry.type_byte)
        now_ms = max(now_ms, feed_time_of(event) or 0)
        size_bytes = _ENTRY_OVERHEAD_BYTES + len(entry.event_bytes)
        name, is_in_period = type_name_of(entry.type_byte), period.holds(now_ms)
        seen = EntrySeen(
            entry.seq, name, event, entry.event_bytes, entry.attestations, now_ms, size_bytes, is_in_period
        )
        for collector in collectors:
            collector.see_entry(seen)
        done += size_bytes
        if entry.seq % _ADVANCE_EVERY == 0:
            progress("log", min(done, total), total)
    return LogRead(frontier.size, frontier.root_hash(), now_ms, tuple(findings))


def read_journals(
    folder: AuditFolder, period: Period, collectors: Sequence[Collector], progress: Progress
) -> JournalsRead:
    """Feed every frame of every journal that a key opens; what is damaged is a finding, and the next segment is read.

    Raises:
        AuditorError: A folder cannot be read.
    """
    journals = list(folder.journals())
    sizes = [size for journal in journals for numbers in journal.chains().values() for size in numbers.values()]
    segments = unopened = done = 0
    findings = list[Finding]()
    for journal in journals:
        for segment in _segments(journal, findings):
            segments += 1
            for collector in collectors:
                collector.see_segment(segment)
            try:
                _read_frames(journal, segment, period, collectors)
            except SegmentKeyMissing:
                unopened += 1
            except (CorruptSegment, MalformedRecord, OSError) as error:
                findings.append(_damaged(segment, getattr(error, "reason", "JOURNAL_UNREADABLE")))
            done += segment.size_bytes
            progress("journals", done, sum(sizes))
    return JournalsRead(segments, unopened, tuple(findings))


def prove_entries(
    folder: AuditFolder, seqs: Iterable[int], size: int
) -> dict[int, tuple[CopiedEntry, tuple[bytes, ...]]]:
    """Entries with their inclusion proofs in the tree of the first `size` entries, from a second pass over the log.

    Raises:
        AuditorError: The copy is damaged or cannot be read.
    """
    wanted = set(seqs)
    needed: dict[tuple[int, int], bytes] = {}

    def note(level: int, index: int) -> bytes:
        needed[level, index] = b""
        return bytes(32)

    for seq in wanted:
        inclusion_proof(seq - 1, size, note)
    frontier, entries = Frontier(), dict[int, CopiedEntry]()
    for entry in folder.log.entries() if wanted else ():
        if entry.seq > size:
            break
        if entry.seq in wanted:
            entries[entry.seq] = entry
        for level, index, node_hash in frontier.append(entry.leaf_hash()):
            if (level, index) in needed:
                needed[level, index] = node_hash
    return {
        seq: (entry, inclusion_proof(seq - 1, size, lambda level, index: needed[level, index]))
        for seq, entry in sorted(entries.items())
    }


def _segments(journal: SidecarJournal, findings: list[Finding]) -> Iterator[SegmentSeen]:
    for chain_id, numbers in sorted(journal.chains().items()):
        for number, size_bytes in sorted(numbers.items()):
            created_ms, mode = 0, ""
            try:
                with journal.path_of((chain_id, number)).open("rb") as file:
                    opening = file.read(MAX_HEADER_BYTES)
                header = parse_header(opening[: header_length(opening) or 0])
                created_ms, mode = header.created_ms, header.mode.value
            except (CorruptJournal, OSError) as error:
                # A process that was killed at once leaves a file without a whole header.
                if size_bytes:
                    segment = SegmentSeen(journal.sidecar_id, chain_id, number, 0, "", size_bytes)
                    findings.append(_damaged(segment, getattr(error, "reason", "JOURNAL_UNREADABLE")))
                continue
            yield SegmentSeen(journal.sidecar_id, chain_id, number, created_ms, mode, size_bytes)


def _read_frames(
    journal: SidecarJournal, segment: SegmentSeen, period: Period, collectors: Sequence[Collector]
) -> None:
    for frame in journal.frames((segment.chain_id, segment.number)):
        if frame.kind == FrameKind.RECORDS:
            _read_records(frame, segment, period, collectors)
        else:
            note = NoteSeen(segment, frame.frame, frame.kind, frame.records[0])
            for collector in collectors:
                collector.see_note(note)


def _read_records(frame: FrameAt, segment: SegmentSeen, period: Period, collectors: Sequence[Collector]) -> None:
    for place, record in enumerate(frame.records):
        call = parse_record(record)
        question, is_in_period = _question_of(call.question), period.holds(call.now_ms)
        seen = CallSeen(segment, frame.frame, place, record, call, question, is_in_period)
        for collector in collectors:
            collector.see_call(seen)


@lru_cache(maxsize=1024)
def _question_of(block: bytes) -> AskedQuestion:
    return parse_question(block)


def _damaged(segment: SegmentSeen, reason: str) -> Finding:
    place = f"{segment.chain_id.hex()}-{segment.number}"
    return Finding(
        reason, "a segment of a journal cannot be read to its end", sidecar_id=segment.sidecar_id, place=place
    )
