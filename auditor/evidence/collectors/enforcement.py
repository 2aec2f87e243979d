"""5.31: from the arrival of an opt-out to "in force at every sidecar", as the sidecars have signed it."""

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from auditor.evidence.events import Collector, EntrySeen
from auditor.evidence.model import Cell, Report, Section
from auditor.evidence.period import MS_PER_DAY, MS_PER_HOUR, MS_PER_SECOND, add_business_days, day_of, format_time
from auditor.evidence.scope import Scope
from auditor.findings import Finding
from consent.event import (
    DirectiveEvent,
    DirectiveFlag,
    EnrolEvent,
    ErasedEvent,
    Event,
    EventType,
    ReceiptsEvent,
    ReceivedEvent,
    RestrictionEvent,
    RetireEvent,
)
from consent.eventlog.acknowledgement import Receipt, verify_ack
from consent.eventlog.errors import InvalidAcknowledgement
from consent.vocabulary.directive import Kind

SLUG = "5.31"
SLOWEST: Final = 20
_COMPACT_AFTER: Final = 4096
_OBJECTIONS, _OTHERS = "objections", "other opt-outs"
_GROUPS: Final = (_OTHERS, _OBJECTIONS)
_BINS: Final = (
    ("up to 1 s", MS_PER_SECOND),
    ("up to 5 s", 5 * MS_PER_SECOND),
    ("up to 30 s", 30 * MS_PER_SECOND),
    ("up to 5 min", 300 * MS_PER_SECOND),
    ("up to 1 h", MS_PER_HOUR),
    ("up to 1 day", MS_PER_DAY),
    ("up to 10 days", 10 * MS_PER_DAY),
)
_LONGER: Final = "longer"
_PERCENTILES: Final = (50, 95, 99, 100)


@dataclass(slots=True)
class _Sidecar:
    public_key: bytes
    size: int
    next_place: int


class _Waiting:
    """Opt-outs that are not yet in force everywhere: 27 bytes each, since a sidecar that is down may keep many waiting."""

    def __init__(self) -> None:
        self.first_place = 0
        self.seqs, self.received = array("Q"), array("q")
        self.latest, self.lacking, self.groups = array("q"), array("H"), array("B")

    @property
    def end_place(self) -> int:
        return self.first_place + len(self.seqs)

    def add(self, seq: int, received_ms: int, lacking: int, group: int) -> None:
        values = (seq, received_ms, 0, lacking, group)
        for column, value in zip(self._columns(), values, strict=True):
            column.append(value)

    def drop_finished(self) -> None:
        """Let go of those in front that wait for nobody."""
        count = next((place for place, lacking in enumerate(self.lacking) if lacking), len(self.lacking))
        if count >= _COMPACT_AFTER:
            for column in self._columns():
                del column[:count]
            self.first_place += count

    def _columns(self) -> Sequence["array[int]"]:
        return self.seqs, self.received, self.latest, self.lacking, self.groups


class EnforcementCollector(Collector):
    """Follows the fleet and its acknowledgements through the log.

    Args:
        scope: The export.
        known_until_ms: Up to when the copy of the log can say that an opt-out is not in force, Unix ms.
    """

    def __init__(self, scope: Scope, known_until_ms: int) -> None:
        self._scope = scope
        self._known_until_ms = known_until_ms
        self._fleet: dict[str, _Sidecar] = {}
        self._waiting = _Waiting()
        self._request: tuple[bytes, int] = (b"", 0)
        self._delays = tuple(array("q") for _ in _GROUPS)
        self._slowest: list[tuple[int, int, int, int]] = []
        self._worst_of_day: dict[str, int] = {}
        self._late = self._without_time = self._without_fleet = self._erased = self._bad_receipts = 0
        self._findings: list[Finding] = []

    def see_entry(self, seen: EntrySeen) -> None:
        """Requests, opt-outs, the fleet, and its acknowledgements."""
        event = seen.event
        match event:
            case ReceivedEvent():
                self._request = (event.request_id, event.received_at_ms)
            case DirectiveEvent() | RestrictionEvent() if _is_opt_out(event):
                self._see_opt_out(seen, event)
            case EnrolEvent():
                self._enrol(event)
            case RetireEvent():
                self._retire(event.sidecar_id)
            case ReceiptsEvent():
                for receipt in event.receipts:
                    self._acknowledge(receipt)
                self._waiting.drop_finished()
            case ErasedEvent() if seen.is_in_period and event.type_byte == EventType.DIRECTIVE:
                self._erased += 1
            case _:
                pass

    def write(self, report: Report) -> None:
        """Figures, the slowest, and what is late."""
        section, days = report[SLUG], self._scope.deadline_days
        pending = self._pending()
        count = sum(len(delays) for delays in self._delays)
        section.add_source(
            f"event log: {count + len(pending)} opt-outs received in the period, complete; signed receipts of the sidecars"
        )
        section.add_source("an opt-out is measured against the sidecars that were enrolled when it was logged")
        section.add_figure("in force at every sidecar", count)
        section.add_figure("not yet acknowledged by every sidecar", len(pending))
        section.add_figure("deadline, business days", days)
        section.add_figure("in force after the deadline", self._late)
        section.add_figure("logged while no sidecar was enrolled", self._without_fleet)
        section.add_figure("without the time of a request (not measured)", self._without_time)
        section.add_figure("payload erased since (not measured)", self._erased)
        self._write_percentiles(section)
        self._write_charts(section)
        section.add_table(
            "slowest",
            "The slowest that are in force everywhere",
            ("seq", "received", "in force everywhere", "seconds"),
            (
                (seq, format_time(start), format_time(end), delay / 1000)
                for delay, seq, start, end in sorted(self._slowest)[::-1]
            ),
        )
        self._write_pending(section, pending)
        if self._late:
            text = f"{self._late} opt-outs came into force after {days} business days"
            section.add_finding(Finding("OPT_OUT_LATE", text))
        if self._bad_receipts:
            text = f"{self._bad_receipts} acknowledgements are not signed by the enrolled sidecar and were not counted"
            section.add_finding(Finding("RECEIPT_NOT_AUTHENTIC", text))

    def _see_opt_out(self, seen: EntrySeen, event: Event) -> None:
        request_id, received_ms = self._request
        if request_id != event.request_id or not any(event.request_id):
            self._without_time += seen.is_in_period
            return
        if not self._scope.period.holds(received_ms):
            return
        if not self._fleet:
            self._without_fleet += 1
            return
        is_objection = isinstance(event, DirectiveEvent) and event.kind == Kind.OBJECT
        group = _GROUPS.index(_OBJECTIONS if is_objection else _OTHERS)
        self._waiting.add(seen.seq, received_ms, len(self._fleet), group)

    def _enrol(self, event: EnrolEvent) -> None:
        held = self._fleet.get(event.sidecar_id)
        if held:
            held.public_key = event.public_key
        else:
            self._fleet[event.sidecar_id] = _Sidecar(event.public_key, 0, self._waiting.end_place)

    def _retire(self, sidecar_id: str) -> None:
        """Nobody waits for it any more."""
        sidecar = self._fleet.pop(sidecar_id, None)
        if sidecar:
            for place in range(sidecar.next_place, self._waiting.end_place):
                self._settle(place - self._waiting.first_place, 0)

    def _acknowledge(self, receipt: Receipt) -> None:
        sidecar = self._fleet.get(receipt.sidecar_id)
        if sidecar is None or receipt.size <= sidecar.size:
            return
        try:
            verify_ack(receipt, self._scope.trust.origin, sidecar.public_key)
        except InvalidAcknowledgement:
            self._bad_receipts += 1
            return
        sidecar.size = receipt.size
        waiting = self._waiting
        end = waiting.first_place + bisect_right(waiting.seqs, receipt.size)
        for place in range(sidecar.next_place, end):
            self._settle(place - waiting.first_place, receipt.applied_at_ms)
        sidecar.next_place = max(sidecar.next_place, end)

    def _settle(self, at: int, applied_ms: int) -> None:
        waiting = self._waiting
        waiting.latest[at] = max(waiting.latest[at], applied_ms)
        waiting.lacking[at] -= 1
        # Where every sidecar that it waited for was retired, it was in force nowhere.
        if waiting.lacking[at] == 0 and waiting.latest[at]:
            self._finish(waiting.seqs[at], waiting.received[at], waiting.latest[at], waiting.groups[at])

    def _finish(self, seq: int, received_ms: int, end_ms: int, group: int) -> None:
        delay = end_ms - received_ms
        self._delays[group].append(delay)
        self._late += end_ms >= add_business_days(received_ms, self._scope.deadline_days)
        day = day_of(received_ms)
        self._worst_of_day[day] = max(self._worst_of_day.get(day, 0), delay)
        slow = (delay, seq, received_ms, end_ms)
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, slow)
        else:
            heapq.heappushpop(self._slowest, slow)

    def _pending(self) -> list[int]:
        return [at for at, lacking in enumerate(self._waiting.lacking) if lacking]

    def _write_percentiles(self, section: Section) -> None:
        rows = []
        for group, delays in zip(_GROUPS, self._delays, strict=True):
            ordered = sorted(delays)
            shown = [ordered[-(-len(ordered) * share // 100) - 1] / 1000 if ordered else None for share in _PERCENTILES]
            rows.append((group, len(ordered), *shown))
        section.add_table(
            "percentiles",
            "Seconds from arrival to in force at every sidecar. An objection (GDPR Art. 21) has no days of grace: read its row",
            ("what", "number", "half within", "95 % within", "99 % within", "all within"),
            rows,
        )

    def _write_charts(self, section: Section) -> None:
        bins = dict.fromkeys([label for label, _ in _BINS] + [_LONGER], 0)
        for delays in self._delays:
            for delay in delays:
                bins[next((label for label, limit in _BINS if delay <= limit), _LONGER)] += 1
        section.add_chart("time-to-force", "Opt-outs by time to force at every sidecar", "opt-outs", bins.items())
        days = self._scope.period.days()
        bars = ((day, self._worst_of_day.get(day, 0) / 1000) for day in days)
        section.add_chart("slowest-by-day", "Slowest opt-out of each day of arrival", "seconds", bars, is_series=True)

    def _write_pending(self, section: Section, pending: list[int]) -> None:
        waiting, now_ms = self._waiting, self._known_until_ms
        overdue = [at for at in pending if now_ms >= add_business_days(waiting.received[at], self._scope.deadline_days)]
        rows: list[tuple[Cell, ...]] = [
            (waiting.seqs[at], format_time(waiting.received[at]), self._lacking_names(waiting.first_place + at))
            for at in pending[:SLOWEST]
        ]
        caption = f"Not yet acknowledged by every sidecar: the oldest {len(rows)} of {len(pending)}"
        section.add_table("pending", caption, ("seq", "received", "lacking"), rows)
        if overdue:
            text = f"{len(overdue)} opt-outs are past the deadline and not acknowledged by every sidecar"
            section.add_finding(Finding("OPT_OUT_OVERDUE", text, place=f"seq {waiting.seqs[overdue[0]]}"))

    def _lacking_names(self, place: int) -> str:
        return ", ".join(sorted(name for name, sidecar in self._fleet.items() if sidecar.next_place <= place))


def _is_opt_out(event: DirectiveEvent | RestrictionEvent) -> bool:
    if isinstance(event, RestrictionEvent):
        return event.restricted
    return event.kind != Kind.GRANT and not event.flags & DirectiveFlag.IMPORTED
