"""Errors of the auditor: what keeps it from looking. What it finds is a `auditor.findings.Finding`, never an error."""


class AuditorError(Exception):
    """Root of what this package raises; the text never holds personal data."""

    reason = "AUDITOR_ERROR"


class FolderUnusable(AuditorError):
    """An audit folder lacks what is needed, or cannot be read."""

    reason = "FOLDER_UNUSABLE"


class MalformedLogCopy(AuditorError):
    """A copy of a log is damaged or was not made by `consentry-auditor fetch`. Fetch it anew."""

    reason = "MALFORMED_LOG_COPY"


class SegmentKeyMissing(AuditorError):
    """No key at hand opens a segment, so that its records cannot be read; its chain can still be verified."""

    reason = "SEGMENT_KEY_MISSING"


class SourceUnavailable(AuditorError):
    """A feed or a sidecar cannot be reached, or refuses to answer."""

    reason = "SOURCE_UNAVAILABLE"


class SourceMisbehaves(AuditorError):
    """What a feed or a sidecar sends is not what was asked for. Unexpected: another version, or somebody in between."""

    reason = "SOURCE_MISBEHAVES"
