"""5.15, 8.3: rules of access and what was refused; 8.2, 8.5: every use of a privilege; 5.16 to 5.18: technical identities."""

from collections import Counter

from auditor.evidence.events import CallSeen, Collector, EntrySeen, NoteSeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time
from auditor.evidence.scope import Scope
from consent.event import AdminEvent, EnrolEvent, RejectedEvent, RetireEvent
from consent.eventlog.trust import SourceRights
from consent.vocabulary.reason import Reason
from journal.access import parse_access
from journal.errors import CorruptJournal
from journal.format import FrameKind

ACCESS, PRIVILEGES, IDENTITIES = "5.15_8.3", "8.2_8.5", "5.16-5.18"
OK = "OK"

_HANDED_OUT = ("ReadLog", "Resolve", "GetReplayKeys", "GetSegmentKeys")


class AccessCollector(Collector):
    """Counts refusals and privileged calls, and draws samples of both.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._calls: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()
        self._denied_callers: Counter[tuple[str, str, str]] = Counter()
        self._privileged = scope.sample("privileged calls", tuple[Cell, ...])
        self._refused = scope.sample("refused calls", tuple[Cell, ...])
        self._handed_out: list[tuple[Cell, ...]] = []
        self._key_accesses: list[tuple[Cell, ...]] = []
        self._identities: list[tuple[Cell, ...]] = []
        self._enrolled: set[str] = set()

    def see_entry(self, seen: EntrySeen) -> None:
        """ADMIN, REJECTED, ENROL and RETIRE within the period."""
        match seen.event:
            case EnrolEvent() | RetireEvent():
                self._see_identity(seen, seen.event)
            case AdminEvent() if seen.is_in_period:
                self._see_admin(seen.seq, seen.event)
            case RejectedEvent() if seen.is_in_period:
                self._rejected[seen.event.source, seen.event.rejection] += 1
            case _:
                pass

    def see_call(self, seen: CallSeen) -> None:
        """Questions that the caller may not ask."""
        if seen.is_in_period and not seen.question.is_caller_permitted:
            reason = Reason.CALLER_NOT_PERMITTED_FOR_PURPOSE
            refused = sum(item.reason is reason for item in seen.call.items)
            if refused:
                key = (seen.segment.sidecar_id, seen.question.caller, ", ".join(seen.question.purposes))
                self._denied_callers[key] += refused

    def see_note(self, seen: NoteSeen) -> None:
        """Keys of the journal that were given to an auditor."""
        if seen.kind == FrameKind.ACCESS:
            segment = seen.segment
            place = f"{segment.chain_id.hex()}-{segment.number}/{seen.frame}"
            self._key_accesses.append((segment.sidecar_id, place, *_describe_access(seen.content)))

    def write(self, report: Report) -> None:
        """All three sections."""
        self._write_access(report)
        self._write_privileges(report)
        self._write_identities(report)

    def _see_admin(self, seq: int, event: AdminEvent) -> None:
        row = (
            seq,
            format_time(event.occurred_at_ms),
            event.action,
            event.role,
            event.actor,
            event.outcome,
            event.count,
        )
        self._calls[event.action, event.role, event.actor, event.outcome] += event.count
        (self._privileged if event.outcome == OK else self._refused).add(str(seq), row)
        if event.action.rpartition("/")[2] in _HANDED_OUT:
            self._handed_out.append((*row, event.detail))

    def _see_identity(self, seen: EntrySeen, event: EnrolEvent | RetireEvent) -> None:
        is_enrol = isinstance(event, EnrolEvent)
        if seen.is_in_period:
            what = "retired" if not is_enrol else "new key" if event.sidecar_id in self._enrolled else "enrolled"
            time_ms = event.enrolled_at_ms if isinstance(event, EnrolEvent) else event.retired_at_ms
            self._identities.append((seen.seq, format_time(time_ms), event.sidecar_id, what))
        (self._enrolled.add if is_enrol else self._enrolled.discard)(event.sidecar_id)

    def _write_access(self, report: Report) -> None:
        section = report[ACCESS]
        refused = {key: count for key, count in self._calls.items() if key[3] != OK}
        section.add_source(
            f"event log: {self._refused.size} entries about refused or failed privileged calls, complete"
        )
        section.add_source(f"event log: {sum(self._rejected.values())} refused requests (REJECTED), complete")
        section.add_source("trust file: rights of sources; journals: questions that a caller may not ask")
        section.add_figure("refused or failed privileged calls", sum(refused.values()))
        section.add_figure("refused requests of sources", sum(self._rejected.values()))
        section.add_figure("decisions denied because the caller may not ask", sum(self._denied_callers.values()))
        section.add_table(
            "source-rights",
            "What the key of each source may vouch for",
            ("source", "key", "namespaces", "purposes", "highest proof", "highest assurance"),
            (
                _describe_rights(key.verifier_key.key_id, key.rights)
                for key in self._scope.trust.source_keys
                if key.rights
            ),
        )
        section.add_table(
            "refused-calls",
            "Refused or failed privileged calls, gathered",
            ("method", "role", "actor", "outcome", "times"),
            ((*key, count) for key, count in sorted(refused.items())),
        )
        rows = ((*key, count) for key, count in sorted(self._rejected.items()))
        section.add_table(
            "refused-requests", "Refused requests, by source and reason", ("source", "reason", "times"), rows
        )
        callers = ((*key, count) for key, count in sorted(self._denied_callers.items()))
        columns = ("sidecar", "caller", "purposes", "decisions")
        section.add_table("denied-callers", "Decisions denied because the caller may not ask", columns, callers)
        caption = f"Refused calls, {self._refused.describe()} drawn by the seed"
        section.add_sample("refused-calls", caption, _ADMIN_COLUMNS, self._refused.drawn())
        reasons: Counter[str] = Counter()
        for (_, reason), count in self._rejected.items():
            reasons[reason] += count
        section.add_chart("refused-by-reason", "Refused requests by reason", "requests", reasons.most_common(12))

    def _write_privileges(self, report: Report) -> None:
        section = report[PRIVILEGES]
        used = {key: count for key, count in self._calls.items() if key[3] == OK}
        section.add_source(
            f"event log: {self._privileged.size} entries about privileged calls that succeeded, complete"
        )
        section.add_source(f"journals: {len(self._key_accesses)} times that keys of segments were given out")
        section.add_figure("privileged calls that succeeded", sum(used.values()))
        section.add_figure("times that records or keys were read by somebody", len(self._handed_out))
        section.add_table(
            "privileged-calls",
            "Privileged calls that succeeded, gathered",
            ("method", "role", "actor", "times"),
            ((method, role, actor, count) for (method, role, actor, _), count in sorted(used.items())),
        )
        section.add_sample(
            "privileged-calls",
            f"Privileged calls, {self._privileged.describe()} drawn by the seed",
            _ADMIN_COLUMNS,
            self._privileged.drawn(),
        )
        report["8.15"].add_table(
            "readers",
            "Who read or exported records at the feed: every call, those that fetched the data of this evidence among them",
            (*_ADMIN_COLUMNS, "detail"),
            self._handed_out,
        )
        report["8.15"].add_table(
            "key-accesses",
            "Keys of journal segments given to auditors, as the journals note it",
            ("sidecar", "place", "time", "caller", "auditor", "SHA-256 of its key", "segments"),
            self._key_accesses,
        )

    def _write_identities(self, report: Report) -> None:
        section = report[IDENTITIES]
        section.add_source("event log: every ENROL and RETIRE; trust file: keys of sources and approvers")
        section.add_figure("sidecars enrolled at the end of the log", len(self._enrolled))
        columns = ("seq", "time", "sidecar", "what")
        section.add_table("identities", "Sidecars enrolled and retired in the period", columns, self._identities)
        retired = [
            (key.verifier_key.name, key.verifier_key.kind.name, key.last_seq)
            for key in (*self._scope.trust.source_keys, *self._scope.trust.approver_keys)
            if key.last_seq is not None
        ]
        section.add_table(
            "retired-keys", "Keys of sources and approvers that were taken back", ("name", "kind", "last seq"), retired
        )


_ADMIN_COLUMNS = ("seq", "time", "method", "role", "actor", "outcome", "times")


def _describe_rights(key_id: bytes, rights: SourceRights) -> tuple[Cell, ...]:
    namespaces, purposes = ", ".join(rights.namespaces), ", ".join(rights.purposes)
    return (rights.source, key_id.hex(), namespaces, purposes, rights.max_proof, rights.max_assurance)


def _describe_access(content: bytes) -> tuple[Cell, ...]:
    try:
        note = parse_access(content)
    except CorruptJournal:
        return ("", "in a form that this version does not read", "", "", None)
    key_hash = note.recipient_key_hash.hex()
    return (format_time(note.at_ms), note.caller, note.recipient_name, key_hash, note.segment_count)
