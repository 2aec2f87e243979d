"""What a replay found, counted."""

from collections import Counter
from dataclasses import dataclass, field

from auditor.findings import Finding, Findings
from auditor.replay.judge import Obstacle, Outcome
from consent.vocabulary.reason import Effect, Reason


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay.

    Attributes:
        log_size: Entries of the log that its checkpoint signs.
        sidecars: Names of those whose journals were read.
        hours: Decisions by sidecar, hour (of Unix time), and what became of them.
        answers: Decisions by effect and reason, as recorded.
        obstacles: Decisions that could not be replayed, by why.
        reasons: Findings and notes by reason.
        findings: What was found.
        unread: Chains that could not be read to their end.
    """

    log_size: int = 0
    sidecars: list[str] = field(default_factory=list)
    hours: Counter[tuple[str, int, Outcome]] = field(default_factory=Counter)
    answers: Counter[tuple[Effect, Reason]] = field(default_factory=Counter)
    obstacles: Counter[Obstacle] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    unread: int = 0

    @property
    def decisions(self) -> int:
        """Recorded decisions that were read."""
        return self.hours.total()

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Decisions by what became of them."""
        counted: Counter[Outcome] = Counter()
        for (_, _, outcome), count in self.hours.items():
            counted[outcome] += count
        return counted

    def add(self, finding: Finding) -> None:
        """Take note of a finding."""
        self.reasons[finding.reason] += 1
        self.findings.add(finding)
