"""What can be wrong with a log, a note, a key or a proof. Each error has one stable `reason`."""

from typing import ClassVar


class EventLogError(ValueError):
    """Root of everything that this package raises.

    Attributes:
        reason: Stable name for status, metrics and logs. The message names the field at fault and never its value.
    """

    reason: ClassVar[str] = "EVENT_LOG_ERROR"


class MalformedLeaf(EventLogError):
    """A part of a leaf has the wrong size, or the tree is full."""

    reason: ClassVar[str] = "MALFORMED_LEAF"


class MalformedFrontier(EventLogError):
    """Stored bytes or parts do not describe the right edge of a tree."""

    reason: ClassVar[str] = "MALFORMED_FRONTIER"


class ProofOutOfRange(EventLogError):
    """The leaf or size asked for lies outside the tree."""

    reason: ClassVar[str] = "PROOF_OUT_OF_RANGE"


class InvalidProof(EventLogError):
    """A proof does not lead from what it starts at to the root it should reach."""

    reason: ClassVar[str] = "INVALID_PROOF"


class MalformedNote(EventLogError):
    """Bytes are not a C2SP signed note, or are over the limits of one."""

    reason: ClassVar[str] = "MALFORMED_NOTE"


class MalformedKey(EventLogError):
    """A key's name, size or text form is wrong."""

    reason: ClassVar[str] = "MALFORMED_KEY"


class WrongKeyKind(EventLogError):
    """A key of one role was handed in for another."""

    reason: ClassVar[str] = "WRONG_KEY_KIND"


class InvalidSignature(EventLogError):
    """A signature by a known key does not verify."""

    reason: ClassVar[str] = "INVALID_SIGNATURE"


class InsufficientSignatures(EventLogError):
    """Too few trusted keys have signed."""

    reason: ClassVar[str] = "INSUFFICIENT_SIGNATURES"


class KeyExpired(EventLogError):
    """Signatures are right, but too many are by keys that are not in force at that time."""

    reason: ClassVar[str] = "KEY_EXPIRED"


class MalformedCheckpoint(EventLogError):
    """A note's text is not a C2SP checkpoint."""

    reason: ClassVar[str] = "MALFORMED_CHECKPOINT"


class OriginMismatch(EventLogError):
    """A checkpoint belongs to another log."""

    reason: ClassVar[str] = "ORIGIN_MISMATCH"


class BelowMinimumSize(EventLogError):
    """A checkpoint is smaller than the trust file says that the log must be."""

    reason: ClassVar[str] = "BELOW_MINIMUM_SIZE"


class MalformedTrustFile(EventLogError):
    """A trust file has the wrong form or contradicts itself."""

    reason: ClassVar[str] = "MALFORMED_TRUST_FILE"


class InvalidAcknowledgement(EventLogError):
    """A sidecar's acknowledgement is not signed by its key, or a field of it is out of range."""

    reason: ClassVar[str] = "INVALID_ACKNOWLEDGEMENT"


class InvalidJournalHead(EventLogError):
    """A statement of a sidecar about its journal is malformed, or not signed by the sidecar's key."""

    reason: ClassVar[str] = "INVALID_JOURNAL_HEAD"


class InvalidPossession(EventLogError):
    """Whoever asks to be enrolled does not show that the private key is theirs."""

    reason: ClassVar[str] = "INVALID_POSSESSION"


class MalformedTrail(EventLogError):
    """A trail's bytes have the wrong form."""

    reason: ClassVar[str] = "MALFORMED_TRAIL"


class InvalidTrail(EventLogError):
    """The parts of a trail are genuine and do not make a chain."""

    reason: ClassVar[str] = "INVALID_TRAIL"


class MalformedAttestation(EventLogError):
    """A signature over an event has the wrong form."""

    reason: ClassVar[str] = "MALFORMED_ATTESTATION"
