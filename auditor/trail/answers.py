"""The four questions of `trail`: about an entry, a decision, a trace, and a person."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from auditor.findings import Finding, Findings, Severity
from auditor.folder import AuditFolder
from auditor.progress import Progress, no_progress
from auditor.trail.journal_scan import Applied, Decision, JournalScan, Match
from auditor.trail.log_trail import LogReading, read_log
from auditor.trail.subject import ResolvedSubject
from auditor.trail.wording import event_time_ms, explain_event, explain_reason, mark_token, name_type
from consent.decision_record import CallRecord, item_id
from consent.event import DirectiveEvent, Event
from consent.eventlog.errors import EventLogError
from consent.vocabulary.reason import Effect

MAX_ROWS: Final = 100_000
"""Decisions, and entries, that a trail lists; what is more is counted."""

DECISION_COLUMNS: Final = (
    "at_ms",
    "sidecar_id",
    "caller",
    "purposes",
    "effect",
    "reason",
    "deciding_seq",
    "log_size",
    "policy_version",
    "trace_id",
    "decision_id",
    "place",
)
_SIDECAR_COLUMNS: Final = (
    "sidecar_id",
    "enrolled_seq",
    "acknowledged_size",
    "in_force_at_ms",
    "applied_at_ms",
    "first_denial_at_ms",
    "first_denial_id",
)


@dataclass(slots=True)
class TrailAnswer:
    """What a trail says.

    Attributes:
        title: What it is about.
        figures: Single values by name.
        tables: Title, columns and rows of each.
        text: In words.
        findings: What does not hold.
        is_complete: Every record of every journal in the folder was read.
    """

    title: str
    figures: dict[str, object] = field(default_factory=dict)
    tables: list[tuple[str, Sequence[str], list[tuple[object, ...]]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    is_complete: bool = True


def trace_entry(folder: AuditFolder, seq: int, progress: Progress = no_progress) -> TrailAnswer:
    """How an entry of the log came to be in force: what it is, its proof, since when each sidecar has it, and the first denial for it.

    Raises:
        FolderUnusable, MalformedLogCopy: The folder cannot be read.
    """
    answer = TrailAnswer(f"Entry {seq}")
    reading = _read_log(answer, folder, [seq], seq, progress)
    if reading is None or reading.trail is None:
        return answer
    _add_entry(answer, reading, reading.trail.seq)
    wanted = reading.trail.seq
    scan = JournalScan(folder, progress)
    applied: dict[str, int] = {}
    denials: dict[str, Decision] = {}
    for found in scan.find(_deciding(wanted)):
        if isinstance(found, Applied):
            if any(entry.seq == wanted for entry in found.batch.entries):
                at_ms = applied.get(found.sidecar_id, found.batch.at_ms)
                applied[found.sidecar_id] = min(at_ms, found.batch.at_ms)
        elif found.item.effect is Effect.DENY:
            first = denials.get(found.sidecar_id)
            if first is None or found.call.now_ms < first.call.now_ms:
                denials[found.sidecar_id] = found
    rows: list[tuple[object, ...]] = []
    words = {word.sidecar_id: word for word in reading.trail.sidecars}
    for name in sorted(words.keys() | applied.keys() | denials.keys()):
        word, denial = words.get(name), denials.get(name)
        said = (word.enrolled_seq, word.size, word.applied_at_ms) if word else (None, None, None)
        denied = (denial.call.now_ms, denial.decision_id) if denial else (None, None)
        rows.append((name, *said, applied.get(name), *denied))
    answer.tables.append(("Sidecars", _SIDECAR_COLUMNS, rows))
    answer.figures["in_force_everywhere_at_ms"] = reading.trail.in_force_everywhere_at_ms
    answer.text += _explain_force(reading)
    # What was said of the entry holds without them.
    _note_unread(answer, scan)
    answer.is_complete = True
    return answer


def trace_decision(folder: AuditFolder, decision_id: bytes, progress: Progress = no_progress) -> TrailAnswer:
    """How an answer came about: who asked what, what was answered, and which entry decided it.

    Raises:
        FolderUnusable, MalformedLogCopy: The folder cannot be read.
    """
    answer = TrailAnswer("Decision")
    scan = JournalScan(folder, progress)
    decisions = [found for found in scan.find(_named(decision_id)) if isinstance(found, Decision)]
    _add_decisions(answer, decisions)
    _note_unread(answer, scan)
    if not decisions:
        if answer.is_complete:
            answer.findings.add(Finding("DECISION_NOT_RECORDED", "no journal in the folder has a decision of this id"))
        return answer
    answer.is_complete = True
    decision = decisions[0]
    answer.text += _explain_decision(decision)
    seq = decision.item.deciding_seq
    if seq:
        reading = _read_log(answer, folder, [seq], seq, progress)
        if reading is not None and reading.trail is not None:
            _add_entry(answer, reading, seq)
    return answer


def trace_trace(folder: AuditFolder, trace_id: bytes, progress: Progress = no_progress) -> TrailAnswer:
    """Every decision of a trace, and the entries of the log that it led to.

    Raises:
        FolderUnusable, MalformedLogCopy: The folder cannot be read.
    """
    answer = TrailAnswer("Trace")
    scan = JournalScan(folder, progress)
    decisions: list[Decision] = []
    applied: list[tuple[str, int, int]] = []
    for found in scan.find(_of_trace(trace_id)):
        if isinstance(found, Decision):
            decisions.append(found)
        else:
            applied += [
                (found.sidecar_id, entry.seq, found.batch.at_ms)
                for entry in found.batch.entries
                if entry.trace_id == trace_id
            ]
    _add_decisions(answer, decisions)
    _note_unread(answer, scan)
    seqs = {seq for _, seq, _ in applied}
    if seqs:
        reading = _read_log(answer, folder, seqs, 0, progress)
        rows: list[tuple[object, ...]] = [
            (at_ms, sidecar_id, seq, _explain_at(reading, seq))
            for sidecar_id, seq, at_ms in sorted(applied, key=_by_time)
        ]
        answer.tables.append(("Applied entries", ("applied_at_ms", "sidecar_id", "seq", "entry"), rows))
    else:
        answer.text.append("No sidecar's journal names an entry of the log for this trace.")
    return answer


def trace_subject(folder: AuditFolder, subject: ResolvedSubject, progress: Progress = no_progress) -> TrailAnswer:
    """Everything about a person, in the order of time: entries of the log, and the decisions on the days that were resolved.

    Raises:
        FolderUnusable, MalformedLogCopy: The folder cannot be read.
    """
    answer = TrailAnswer("Person")
    reading = _read_log(answer, folder, subject.seqs, 0, progress)
    scan = JournalScan(folder, progress)
    rows: list[tuple[object, ...]] = []
    for seq in subject.seqs:
        event = reading.event(seq) if reading else None
        at_ms = (reading.received_at_ms(seq) if reading else None) or (event_time_ms(event) if event else None)
        rows.append((at_ms, "entry", "", event.source if event else "", _explain_at(reading, seq), f"entry {seq}"))
    count = 0
    for found in scan.find(_about(subject.pseudonyms)):
        if isinstance(found, Applied):
            continue
        count += 1
        if count <= MAX_ROWS:
            row = found.row()
            said = f"{row['effect']} ({row['reason']}) for {row['purposes']}"
            rows.append((row["at_ms"], "decision", row["sidecar_id"], row["caller"], said, found.decision_id))
    rows.sort(key=lambda row: row[0] if isinstance(row[0], int) else 0)
    answer.figures |= {
        "entries": len(subject.seqs),
        "decisions": count,
        "tokens": len(subject.tokens),
        "days": len(subject.days),
    }
    answer.tables.append(("Timeline", ("at_ms", "kind", "sidecar_id", "who", "what", "id"), rows))
    period = f"{subject.days[0]} to {subject.days[-1]}" if subject.days else "no day"
    answer.text.append(
        f"The log has {len(subject.seqs)} entries about this person; the journals have {count} decisions, looked for on {period}."
    )
    if count > MAX_ROWS:
        answer.text.append(f"The first {MAX_ROWS} decisions are listed.")
    _note_unread(answer, scan)
    return answer


def _read_log(
    answer: TrailAnswer, folder: AuditFolder, seqs: Iterable[int], trail_seq: int, progress: Progress
) -> LogReading | None:
    try:
        reading = read_log(folder, list(seqs), trail_seq=trail_seq, progress=progress)
    except EventLogError as error:
        text = f"the trail does not hold: {error.reason}: {error}"
        answer.findings.add(Finding("TRAIL_NOT_PROVEN", text, place=f"seq {trail_seq}" if trail_seq else ""))
        return None
    if trail_seq and reading.trail is None:
        text = f"entry {trail_seq} is not in the log, which is signed for {reading.size} entries, or is the arrival of a request only"
        answer.findings.add(Finding("ENTRY_NOT_IN_LOG", text, place=f"seq {trail_seq}"))
    return reading


def _add_entry(answer: TrailAnswer, reading: LogReading, seq: int) -> None:
    event = reading.event(seq)
    answer.figures |= {
        "entry": str(seq),
        "entry_type": name_type(reading.entries[seq].type_byte),
        **_describe(event),
        "received_at_ms": reading.received_at_ms(seq),
        "proven_in_log_of": reading.size,
        "signed_at_ms": reading.time_ms,
    }
    said = explain_event(event) if event else "an entry that cannot be read"
    came = reading.received_at_ms(seq) or (event_time_ms(event) if event else None)
    when = f" It came in at {_format(came)}." if came else ""
    source = f", from the source {event.source}" if event and event.source else ""
    answer.text.append(
        f"Entry {seq} of the log is {said}{source}.{when} It is proven to stand in the log of {reading.size} entries"
        f" that was signed at {_format(reading.time_ms)}."
    )


def _describe(event: Event | None) -> dict[str, object]:
    if event is None:
        return {}
    described: dict[str, object] = {"entry_is": explain_event(event), "source": event.source}
    if isinstance(event, DirectiveEvent):
        described |= {"purpose": event.purpose, "person_mark": mark_token(event.token)}
    described["occurred_at_ms"] = event_time_ms(event)
    return described


def _explain_force(reading: LogReading) -> list[str]:
    trail = reading.trail
    if trail is None or not trail.sidecars:
        return ["No sidecar was enrolled, so that nothing says where the entry is in force."]
    everywhere = trail.in_force_everywhere_at_ms
    if everywhere is not None:
        return [f"By {_format(everywhere)} it was in force at every enrolled sidecar, as each has signed."]
    return [f"Not yet acknowledged by: {', '.join(trail.lacking)}."]


def _explain_decision(decision: Decision) -> list[str]:
    row, item = decision.row(), decision.item
    verb = "may" if item.effect is Effect.ALLOW else "may not"
    asked = (
        f"At {_format(decision.call.now_ms)} the service {row['caller']} asked the sidecar {decision.sidecar_id} whether a person's data"
        f" may be used for {row['purposes']}."
    )
    return [
        asked,
        f"The answer was {row['effect']}: it {verb}, because {explain_reason(item.reason)} ({item.reason}).",
        f"The record lies in {decision.place}, of the journal of {decision.sidecar_id}.",
    ]


def _explain_at(reading: LogReading | None, seq: int) -> str:
    event = reading.event(seq) if reading else None
    return explain_event(event) if event else "an entry that this folder's log does not show"


def _add_decisions(answer: TrailAnswer, decisions: Iterable[Decision]) -> None:
    rows: list[dict[str, Any]] = sorted((each.row() for each in decisions), key=lambda row: row["at_ms"])
    listed = [tuple(row[column] for column in DECISION_COLUMNS) for row in rows[:MAX_ROWS]]
    answer.figures["decisions"] = len(rows)
    answer.tables.append(("Decisions", DECISION_COLUMNS, listed))


def _note_unread(answer: TrailAnswer, scan: JournalScan) -> None:
    answer.is_complete = not scan.unread
    answer.findings.add(*(Finding("NOT_READ", text, Severity.NOTE) for text in scan.unread))


def _deciding(seq: int) -> Match:
    def match(call: CallRecord) -> Iterator[int]:
        return (at for at, item in enumerate(call.items) if item.deciding_seq == seq)

    return match


def _named(decision_id: bytes) -> Match:
    wanted = int.from_bytes(decision_id, "big")

    def match(call: CallRecord) -> Sequence[int]:
        at = (wanted - int.from_bytes(call.call_id, "big")) % (1 << 128)
        return (at,) if at < len(call.items) and item_id(call.call_id, at) == decision_id else ()

    return match


def _of_trace(trace_id: bytes) -> Match:
    return lambda call: range(len(call.items)) if call.trace_id == trace_id else ()


def _about(pseudonyms: frozenset[bytes]) -> Match:
    return lambda call: [at for at, item in enumerate(call.items) if not pseudonyms.isdisjoint(item.pseudonyms)]


def _by_time(applied: tuple[str, int, int]) -> tuple[int, int, str]:
    sidecar_id, seq, at_ms = applied
    return at_ms, seq, sidecar_id


def _format(unix_ms: int) -> str:
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms after 1970"
