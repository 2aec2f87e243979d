"""What an audit finds."""

from enum import StrEnum
from typing import Final, NamedTuple

MAX_LISTED: Final = 1_000
"""Findings, and as many notes, that are kept with their text; all are counted."""


class Severity(StrEnum):
    """How much a finding weighs."""

    #: Something is not as it must be; the exit code is 1.
    FINDING = "finding"
    #: Somebody should know, and nothing is wrong: a crash, a disposal, a record of an erased person.
    NOTE = "note"


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        reason: Stable name.
        text: One sentence that says where; names no person.
        severity: How much it weighs.
        sidecar_id: Whose journal, empty for the log.
        place: File and frame, or `seq N`; empty where it is about a whole.
    """

    reason: str
    text: str
    severity: Severity = Severity.FINDING
    sidecar_id: str = ""
    place: str = ""


class Findings:
    """Takes what is found, in order. Memory stays flat however much that is.

    Attributes:
        counts: How many of each severity.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Severity, 0)
        self._listed: dict[Severity, list[Finding]] = {severity: [] for severity in Severity}

    def add(self, *found: Finding) -> None:
        """Take note."""
        for finding in found:
            self.counts[finding.severity] += 1
            if len(self._listed[finding.severity]) < MAX_LISTED:
                self._listed[finding.severity].append(finding)

    @property
    def listed(self) -> tuple[Finding, ...]:
        """The first `MAX_LISTED` findings, then as many notes."""
        return (*self._listed[Severity.FINDING], *self._listed[Severity.NOTE])

    @property
    def is_clean(self) -> bool:
        """Nothing but notes."""
        return not self.counts[Severity.FINDING]
