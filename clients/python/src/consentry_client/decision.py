"""The answer to a check."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from consentry_client.errors import ConsentryError


class Effect(StrEnum):
    """May the data be used?"""

    ALLOW = "ALLOW"
    DENY = "DENY"


class Reason(StrEnum):
    """Why. The names without CLIENT_ are the sidecar's; those with it mean that no decision was had."""

    UNSPECIFIED = "UNSPECIFIED"
    WITHHELD = "WITHHELD"
    INVALID_REQUEST = "INVALID_REQUEST"
    PURPOSE_UNKNOWN = "PURPOSE_UNKNOWN"
    CALLER_NOT_PERMITTED_FOR_PURPOSE = "CALLER_NOT_PERMITTED_FOR_PURPOSE"
    CACHE_INTEGRITY = "CACHE_INTEGRITY"
    PROCESSING_RESTRICTED = "PROCESSING_RESTRICTED"
    PROHIBITED = "PROHIBITED"
    MANDATORY_BASIS = "MANDATORY_BASIS"
    NO_SNAPSHOT = "NO_SNAPSHOT"
    NOT_YET_CONSISTENT = "NOT_YET_CONSISTENT"
    CACHE_TOO_STALE = "CACHE_TOO_STALE"
    OPT_OUT = "OPT_OUT"
    OPT_OUT_PARENT = "OPT_OUT_PARENT"
    GLOBAL_OPT_OUT = "GLOBAL_OPT_OUT"
    OPT_OUT_CHILD = "OPT_OUT_CHILD"
    MINOR_NO_VALID_CONSENT = "MINOR_NO_VALID_CONSENT"
    GPC_SIGNAL = "GPC_SIGNAL"
    EXPLICIT_CONSENT_REQUIRED = "EXPLICIT_CONSENT_REQUIRED"
    GRANTED = "GRANTED"
    GRANTED_STALE = "GRANTED_STALE"
    CONSENT_EXPIRED = "CONSENT_EXPIRED"
    NOTICE_OUTDATED = "NOTICE_OUTDATED"
    PROOF_INSUFFICIENT = "PROOF_INSUFFICIENT"
    NO_CHOICE_REQUIRED = "NO_CHOICE_REQUIRED"
    NO_CHOICE_REQUIRED_STALE = "NO_CHOICE_REQUIRED_STALE"
    STALE_UNKNOWN_SUBJECT = "STALE_UNKNOWN_SUBJECT"
    DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN = "DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN"
    DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE = "DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE"
    DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN = "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN"
    NO_CONSENT_SUBJECT_KNOWN = "NO_CONSENT_SUBJECT_KNOWN"
    NO_CONSENT_SUBJECT_UNKNOWN = "NO_CONSENT_SUBJECT_UNKNOWN"
    ALL_PURPOSES_ALLOWED = "ALL_PURPOSES_ALLOWED"

    CLIENT_DEADLINE_EXCEEDED = "CLIENT_DEADLINE_EXCEEDED"
    """No answer in time."""
    CLIENT_UNAVAILABLE = "CLIENT_UNAVAILABLE"
    """No sidecar, or it said that it cannot decide now."""
    CLIENT_OVERLOADED = "CLIENT_OVERLOADED"
    """The sidecar turned the call away because it has too much to do, or the message was too large."""
    CLIENT_REFUSED = "CLIENT_REFUSED"
    """The sidecar refused the call itself: not permitted here, or not a request that it knows."""
    CLIENT_ANSWER_UNREADABLE = "CLIENT_ANSWER_UNREADABLE"
    """An answer came that says nothing: undecodable, contradictory, of an unknown effect, or one too few."""
    CLIENT_REASON_UNKNOWN = "CLIENT_REASON_UNKNOWN"
    """A deny for a reason that this version of the client has no name for."""
    CLIENT_UNUSABLE = "CLIENT_UNUSABLE"
    """The client was closed, or belongs to another process or event loop; the log says which."""
    CLIENT_ERROR = "CLIENT_ERROR"
    """Anything else that went wrong."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question. True where the data may be used.

    Attributes:
        effect: ALLOW or DENY.
        reason: Why; `WITHHELD` where the listener does not tell.
        decision_id: Key to the decision's record and trace; None where no decision was had.
        deciding_seq: Sequence number of the event that decided; 0 where none did or it is withheld.
        log_size: Entries of the log that the answer knows.
        policy_version: Version of the policy that was applied.
        staleness_ms: Age of what the answer rests on.
        valid_until_ms: Unix ms until which an ALLOW may be reused; 0: not at all.
        error: Name of the gRPC status code where no decision was had, else nothing.
        error_reason: The sidecar's stable name for that error, if it gave one.
    """

    effect: Effect
    reason: Reason
    decision_id: uuid.UUID | None = None
    deciding_seq: int = 0
    log_size: int = 0
    policy_version: int = 0
    staleness_ms: int = 0
    valid_until_ms: int = 0
    error: str = ""
    error_reason: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the data may be used."""
        return self.effect is Effect.ALLOW

    @property
    def failed(self) -> bool:
        """Whether no decision was had and the client itself had to answer."""
        return self.reason.startswith("CLIENT_") and self.reason is not Reason.CLIENT_REASON_UNKNOWN

    @property
    def valid_until(self) -> datetime | None:
        """Time until which an ALLOW may be reused, in UTC; None: not at all."""
        return datetime.fromtimestamp(self.valid_until_ms / 1000, UTC) if self.valid_until_ms else None

    def __bool__(self) -> bool:
        return self.allowed


class ConsentDenied(ConsentryError):
    """A required purpose was denied.

    Attributes:
        decision: The answer.
        reason: Its reason.
    """

    def __init__(self, decision: Decision) -> None:
        record = f", decision {decision.decision_id}" if decision.decision_id else ""
        error = f", {decision.error}" if decision.error else ""
        super().__init__(decision.reason, f"the data may not be used{error}{record}")
        self.args = (decision,)
        self.decision = decision
