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


class MalformedAttestation(EventLogError):
    """A signature over an event has the wrong form."""

    reason: ClassVar[str] = "MALFORMED_ATTESTATION"
