"""What a replay found, counted; only the first of many like findings are kept in full."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from auditor.findings import Finding, Severity
from auditor.replay.judge import Obstacle, Outcome

MOST_KEPT_OF_A_REASON: Final = 1000


@dataclass(slots=True)
class HourCount:
    """Decisions of one sidecar in one hour, by what became of them."""

    same: int = 0
    differs: int = 0
    erased: int = 0
    not_replayable: int = 0


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay.

    Attributes:
        log_size: Entries of the log that its checkpoint signs.
        sidecars: Names of those whose journals were read.
        outcomes: Decisions by what became of them.
        answers: Decisions by effect and reason, as recorded.
        hours: By sidecar and hour (of Unix time).
        obstacles: Decisions that could not be replayed, by why.
        found: Findings and notes by reason, all of them.
        findings: The first of each reason.
        unread: Chains that could not be read to their end.
    """

    log_size: int = 0
    sidecars: list[str] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    hours: dict[tuple[str, int], HourCount] = field(default_factory=dict)
    obstacles: Counter[Obstacle] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    unread: int = 0

    @property
    def decisions(self) -> int:
        """Recorded decisions that were read."""
        return self.outcomes.total()

    @property
    def has_findings(self) -> bool:
        """Whether something is not as it must be."""
        return any(finding.severity is Severity.FINDING for finding in self.findings)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there are not too many like it."""
        self.found[finding.reason] += 1
        if self.found[finding.reason] <= MOST_KEPT_OF_A_REASON:
            self.findings.append(finding)

    def count(self, sidecar_id: str, hour: int, outcome: Outcome) -> None:
        """Count a decision in its hour."""
        counted = self.hours.get((sidecar_id, hour))
        if counted is None:
            counted = self.hours[sidecar_id, hour] = HourCount()
        setattr(counted, outcome.value, getattr(counted, outcome.value) + 1)
        self.outcomes[outcome] += 1
