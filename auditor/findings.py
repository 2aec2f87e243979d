"""What an audit finds."""

from enum import StrEnum
from typing import NamedTuple


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
