"""8.16: alerts; 5.24 to 5.30: decisions that were denied because the sidecar could not know better."""

from collections import Counter

from auditor.evidence.events import CallSeen, Collector, EntrySeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time, hour_of
from auditor.evidence.scope import Scope
from auditor.findings import Finding, Severity
from consent.event import AlertEvent
from consent.vocabulary.reason import Reason

ALERTS, INCIDENTS = "8.16", "5.24-5.30"

_OUTAGE_REASONS = (Reason.CACHE_INTEGRITY, Reason.NO_SNAPSHOT, Reason.CACHE_TOO_STALE, Reason.NOT_YET_CONSISTENT)


class InterruptionsCollector(Collector):
    """Pairs the beginning and the end of alerts, and counts operational denials by the hour.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._running: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._alerts: list[tuple[Cell, ...]] = []
        self._denied: Counter[tuple[str, str, str]] = Counter()

    def see_entry(self, seen: EntrySeen) -> None:
        """An alert began or is over."""
        if not isinstance(seen.event, AlertEvent):
            return
        event, name = seen.event, (seen.event.alert, seen.event.about)
        if not event.is_over:
            self._running.setdefault(name, (event.raised_at_ms, seen.seq, event.detail))
            return
        began = self._running.pop(name, None)
        if event.raised_at_ms >= self._scope.period.start_ms and (
            began is None or began[0] < self._scope.period.end_ms
        ):
            self._add(name, began, event.raised_at_ms)

    def see_call(self, seen: CallSeen) -> None:
        """Decisions denied for a reason that lies with the sidecar."""
        if seen.is_in_period:
            for item in seen.call.items:
                if item.reason in _OUTAGE_REASONS:
                    self._denied[hour_of(seen.call.now_ms), seen.segment.sidecar_id, item.reason.value] += 1

    def write(self, report: Report) -> None:
        """Alerts and hours of interruption."""
        for name, began in sorted(self._running.items()):
            if began[0] < self._scope.period.end_ms:
                self._add(name, began, None)
        section = report[ALERTS]
        section.add_source(f"event log: {len(self._alerts)} alerts that touch the period, complete")
        columns = ("alert", "about", "began", "over", "minutes", "seq", "detail")
        section.add_table("alerts", "Alerts of the feed", columns, self._alerts)
        kinds = Counter(str(row[0]) for row in self._alerts)
        section.add_chart("alerts", "Alerts by kind", "alerts", kinds.most_common(12))
        for row in self._alerts:
            if row[3] == _RUNNING:
                finding = Finding("ALERT_NOT_OVER", f"{row[0]} about {row[1]} is not over at the end of the log")
                section.add_finding(finding._replace(severity=Severity.NOTE, place=f"seq {row[5]}"))
        incidents = report[INCIDENTS]
        incidents.add_source("journals: decisions denied because the sidecar had no fresh or intact data")
        incidents.add_figure("decisions denied for operational reasons", sum(self._denied.values()))
        incidents.add_table(
            "operational-denials",
            "Decisions denied for operational reasons, by hour",
            ("hour", "sidecar", "reason", "decisions"),
            ((*key, count) for key, count in sorted(self._denied.items())),
        )

    def _add(self, name: tuple[str, str], began: tuple[int, int, str] | None, over_ms: int | None) -> None:
        start_ms, seq, detail = began or (None, None, "began before the log that was read")
        minutes = None if over_ms is None or start_ms is None else round((over_ms - start_ms) / 60_000, 1)
        over = _RUNNING if over_ms is None else format_time(over_ms)
        self._alerts.append((*name, format_time(start_ms), over, minutes, seq, detail))


_RUNNING = "not over"
