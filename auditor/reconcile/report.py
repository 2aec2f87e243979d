"""What a reconciliation found, counted."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from auditor.findings import Finding, Findings
from auditor.reconcile.chain_count import HourCount


class Gap(NamedTuple):
    """A time in which a sidecar made no head.

    Attributes:
        sidecar_id: Whose.
        from_ms: Unix ms of the head before it.
        until_ms: Unix ms of the head behind it, or of the log's end.
        how: `ended` (its process had closed its journal), `crashed`, `retired`, or `silent`.
    """

    sidecar_id: str
    from_ms: int
    until_ms: int
    how: str


class CallerHour(NamedTuple):
    """Calls that a service says it made, against what is recorded.

    Attributes:
        caller: Its name.
        hour: Of Unix time.
        claimed: Decisions that it says it asked for.
        recorded: Decisions that are recorded.
    """

    caller: str
    hour: int
    claimed: int
    recorded: int


@dataclass(slots=True)
class SpanCount:
    """Decisions that spans tell of.

    Attributes:
        decisions: Different ids.
        repeated: Of these, those that came more than once.
        missing: Recorded decisions that should be there and are not.
        waiting: Recorded decisions that are not there and that the shipper has not come to.
    """

    decisions: int = 0
    repeated: int = 0
    missing: int = 0
    waiting: int = 0


@dataclass(slots=True)
class ReconcileReport:
    """The result of a reconciliation.

    Attributes:
        hours: By sidecar and hour (of Unix time).
        recorded: By caller and hour of the decision id.
        gaps: Times without heads.
        calls: What a service claims, if it does.
        spans: What was exported, if that was looked at.
        reasons: Findings and notes by reason.
        findings: What was found.
        unread: Chains of which not every record could be read.
    """

    hours: dict[tuple[str, int], HourCount] = field(default_factory=lambda: defaultdict(HourCount))
    recorded: Counter[tuple[str, int]] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    calls: list[CallerHour] = field(default_factory=list)
    spans: SpanCount | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    unread: int = 0

    def add(self, *found: Finding) -> None:
        """Take note of findings."""
        for finding in found:
            self.reasons[finding.reason] += 1
            self.findings.add(finding)

    def add_hour(self, sidecar_id: str, hour: int, counted: HourCount) -> None:
        """Add one chain's hour to its sidecar's."""
        self.hours[sidecar_id, hour].add(counted)

    def total(self) -> HourCount:
        """Of all sidecars and hours."""
        total = HourCount()
        for counted in self.hours.values():
            total.add(counted)
        return total
