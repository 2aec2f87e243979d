"""8.15: what is logged, and samples of it; 8.6: how it grows."""

import uuid
from collections import Counter

from auditor.evidence.events import CallSeen, Collector, EntrySeen, SegmentSeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import day_of, format_time
from auditor.evidence.scope import Scope
from consent.decision_record import item_id

LOGGING, CAPACITY = "8.15", "8.6"
_MAX_REASON_ROWS = 5000


class RecordsCollector(Collector):
    """Counts entries and decisions, and draws samples of both.

    Args:
        scope: The export.

    Attributes:
        entries: The sample of the log's entries.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.entries = scope.sample("log entries", tuple[Cell, ...])
        self._decisions = scope.sample("decisions", tuple[Cell, ...])
        self._types: Counter[str] = Counter()
        self._entries_by_day: Counter[str] = Counter()
        self._bytes_by_day: Counter[str] = Counter()
        self._journal_bytes: Counter[str] = Counter()
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._effects_by_day: Counter[tuple[str, str]] = Counter()

    def see_entry(self, seen: EntrySeen) -> None:
        """Every entry of the period."""
        if seen.is_in_period:
            day = day_of(seen.logged_at_ms)
            self._types[seen.type_name] += 1
            self._entries_by_day[day] += 1
            self._bytes_by_day[day] += seen.size_bytes
            self.entries.add(str(seen.seq), (seen.seq, seen.type_name, format_time(seen.logged_at_ms)))

    def see_segment(self, seen: SegmentSeen) -> None:
        """A segment counts for the day on which it was begun."""
        if self._scope.period.holds(seen.created_ms):
            self._journal_bytes[day_of(seen.created_ms)] += seen.size_bytes

    def see_call(self, seen: CallSeen) -> None:
        """Every decision of the period."""
        if not seen.is_in_period:
            return
        day, segment, call = day_of(seen.call.now_ms), seen.segment, seen.call
        place = f"{segment.chain_id.hex()}-{segment.number}/{seen.frame}/{seen.place}"
        for index, item in enumerate(call.items):
            decision_id = str(uuid.UUID(bytes=item_id(call.call_id, index)))
            self._answers[day, item.effect.value, item.reason.value] += 1
            self._effects_by_day[day, item.effect.value] += 1
            row = (decision_id, segment.sidecar_id, place, format_time(call.now_ms), seen.question.caller)
            # One id can stand at two places only if something is wrong: both belong to the population.
            self._decisions.add(f"{segment.sidecar_id}/{place}/{index}", (*row, item.effect.value, item.reason.value))

    def write(self, report: Report) -> None:
        """Both sections."""
        section = report[LOGGING]
        section.add_source(f"event log: {self.entries.size} entries in the period, complete")
        section.add_source(
            f"journals: {self._decisions.size} decisions of the period in segments that could be opened, complete"
        )
        section.add_figure("entries of the log in the period", self.entries.size)
        section.add_figure("decisions read from journals in the period", self._decisions.size)
        section.add_table("entry-types", "Entries by type", ("type", "entries"), sorted(self._types.items()))
        columns = ("day", "effect", "reason", "decisions")
        answers = ((*key, count) for key, count in sorted(self._answers.items())[:_MAX_REASON_ROWS])
        section.add_table("answers", "Decisions by day, effect and reason", columns, answers)
        section.add_sample(
            "decisions",
            f"Decisions, {self._decisions.describe()} drawn by the seed; place is chain-segment/frame/record",
            ("decision id", "sidecar", "place", "time", "caller", "effect", "reason"),
            self._decisions.drawn(),
        )
        reasons: Counter[str] = Counter()
        for (_, effect, reason), count in self._answers.items():
            reasons[f"{effect} {reason}"] += count
        section.add_chart("reasons", "Decisions by reason, the most frequent", "decisions", reasons.most_common(12))
        days = self._scope.period.days()
        for effect in ("ALLOW", "DENY"):
            bars = ((day, self._effects_by_day[day, effect]) for day in days)
            caption = f"Decisions with the answer {effect}, by day"
            section.add_chart(f"{effect.lower()}-by-day", caption, "decisions", bars, is_series=True)
        self._write_capacity(report, days)

    def _write_capacity(self, report: Report, days: list[str]) -> None:
        section = report[CAPACITY]
        section.add_source(
            "event log: entries and bytes; journals: bytes of segments, by the day on which each was begun"
        )
        section.add_figure("entries a day, mean", round(self.entries.size / len(days), 1))
        section.add_figure("bytes of the log in the period", sum(self._bytes_by_day.values()))
        section.add_figure("bytes of journals begun in the period", sum(self._journal_bytes.values()))
        rows = ((day, self._entries_by_day[day], self._bytes_by_day[day], self._journal_bytes[day]) for day in days)
        columns = ("day", "entries", "bytes of the log", "bytes of journals")
        section.add_table("growth", "Growth by day", columns, rows)
        bars = ((day, self._entries_by_day[day]) for day in days)
        section.add_chart("entries-by-day", "Entries of the log by day", "entries", bars, is_series=True)
        megabytes = ((day, self._journal_bytes[day] / 1_000_000) for day in days)
        section.add_chart("journal-by-day", "Journals by day", "MB", megabytes, is_series=True)
