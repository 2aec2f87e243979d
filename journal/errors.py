"""What reading a journal can find."""


class JournalError(Exception):
    """Root of what this package raises; the text never holds personal data."""

    reason = "JOURNAL_ERROR"


class CorruptJournal(JournalError):
    """A journal segment does not follow its format, or its chain is broken."""

    reason = "CORRUPT_JOURNAL"


class CorruptSegment(CorruptJournal):
    """A segment was changed, damaged, or does not follow the one before it. Unexpected: somebody must look.

    Attributes:
        segment: Name of the segment's file.
        frame: Number of the first frame that is not as it was written; -1 for the header.
        offset: Byte at which that frame begins.
    """

    def __init__(self, text: str, segment: str, frame: int, offset: int) -> None:
        super().__init__(f"{segment}: frame {frame} at byte {offset}: {text}")
        self.segment = segment
        self.frame = frame
        self.offset = offset


class TornTail(JournalError):
    """A segment ends in the middle of a frame. Expected after a crash or a full disk: that frame's answer never left.

    Attributes:
        segment: Name of the segment's file.
        frame: Number that the unfinished frame would have had; -1 for the header.
        offset: Byte at which it begins.
    """

    reason = "TORN_TAIL"

    def __init__(self, text: str, segment: str, frame: int, offset: int) -> None:
        super().__init__(f"{segment}: frame {frame} at byte {offset}: {text}")
        self.segment = segment
        self.frame = frame
        self.offset = offset


class InvalidSegmentKey(JournalError):
    """A segment's key cannot be sealed to, or opened by, this auditor. Expected after a mix-up of auditors or files."""

    reason = "INVALID_SEGMENT_KEY"


class MalformedAuditorKey(JournalError):
    """A file is not an auditor's public key as `consentry-auditor keys create` writes it. Expected after a mix-up of files."""

    reason = "MALFORMED_AUDITOR_KEY"
