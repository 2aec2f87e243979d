"""What keeps evidence from being made or believed."""

from auditor.errors import AuditorError


class InvalidEvidenceOption(AuditorError):
    """A period, a supplied file or another option cannot be used. The text names the option, never a value that may be personal."""

    reason = "INVALID_EVIDENCE_OPTION"


class EvidenceExists(AuditorError):
    """The folder that evidence is to be written to exists: nothing is ever overwritten."""

    reason = "EVIDENCE_EXISTS"


class EvidenceUnwritable(AuditorError):
    """The evidence folder cannot be written; nothing lies under its name."""

    reason = "EVIDENCE_UNWRITABLE"


class EvidenceHoldsIdentifiers(AuditorError):
    """A file that was made for the evidence holds what looks like an identifier: a defect; nothing was exported."""

    reason = "EVIDENCE_HOLDS_IDENTIFIERS"


class EvidenceUnreadable(AuditorError):
    """An evidence folder cannot be checked: no manifest, a key of another kind, or a file that cannot be read."""

    reason = "EVIDENCE_UNREADABLE"
