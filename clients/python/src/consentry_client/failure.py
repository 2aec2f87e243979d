"""What became of a call that brought no decision, and what the client then answers."""

import logging
from dataclasses import dataclass

from consentry_client.decision import Decision, Effect, Reason
from consentry_client.errors import ConfigurationError

_LOG = logging.getLogger("consentry_client")

_REASONS = {
    "DEADLINE_EXCEEDED": Reason.CLIENT_DEADLINE_EXCEEDED,
    "UNAVAILABLE": Reason.CLIENT_UNAVAILABLE,
    "RESOURCE_EXHAUSTED": Reason.CLIENT_OVERLOADED,
    "INVALID_ARGUMENT": Reason.CLIENT_REFUSED,
    "OUT_OF_RANGE": Reason.CLIENT_REFUSED,
    "FAILED_PRECONDITION": Reason.CLIENT_REFUSED,
    "NOT_FOUND": Reason.CLIENT_REFUSED,
    "PERMISSION_DENIED": Reason.CLIENT_REFUSED,
    "UNAUTHENTICATED": Reason.CLIENT_REFUSED,
    "UNIMPLEMENTED": Reason.CLIENT_REFUSED,
}
# An outage. A refusal, an unreadable answer or a misused client is not one and stays a deny whatever was agreed. Nor is
# RESOURCE_EXHAUSTED: a healthy sidecar says it to a message that is too large, so whoever fills in part of the question
# could otherwise make the answer an ALLOW.
_OUTAGES = frozenset({Reason.CLIENT_DEADLINE_EXCEEDED, Reason.CLIENT_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that brought no answer.

    Attributes:
        reason: A client-only reason.
        error: Name of the gRPC status code; empty where the client itself gave up.
        error_reason: The server's stable name for it, if it gave one.
    """

    reason: Reason
    error: str = ""
    error_reason: str = ""

    @property
    def is_outage(self) -> bool:
        """Whether the sidecar could not be asked, as opposed to having refused or misanswered."""
        return bool(self.error) and self.reason in _OUTAGES

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same call may go through once the connection is there again.

        Only UNAVAILABLE, which comes before any answer; where the server gave a reason of its own, it was reached
        and asking again at once would only load it further.
        """
        return self.error == "UNAVAILABLE" and not self.error_reason


UNREADABLE = Failure(Reason.CLIENT_ANSWER_UNREADABLE)
OUT_OF_TIME = Failure(Reason.CLIENT_DEADLINE_EXCEEDED)


def classify_status(status_name: str, error_reason: str = "") -> Failure:
    """Returns the failure that a gRPC status code stands for; a code without a place of its own is CLIENT_ERROR."""
    return Failure(_REASONS.get(status_name, Reason.CLIENT_ERROR), status_name, error_reason)


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What to answer where no decision was had: a deny, or what the service has put its name to.

    Attributes:
        accepted_because: Why processing without a decision is accepted during an outage; None: it is not.
    """

    accepted_because: str | None = None

    @classmethod
    def agree(cls, fail_closed: bool, because: str | None) -> "FailurePolicy":
        """Checks the two arguments that must be given together to fail open.

        Raises:
            ConfigurationError: Only one of them was given, or the text says nothing.
        """
        if fail_closed and because is None:
            return cls()
        if fail_closed or because is None or not because.strip():
            raise ConfigurationError(
                "FAIL_OPEN_NOT_ACCEPTED",
                "fail_closed=False needs i_accept_processing_without_a_decision='why', and the text needs the other",
            )
        _LOG.warning("this client answers ALLOW during an outage of the sidecar; accepted because: %s", because)
        return cls(because)

    def conclude(self, failure: Failure, purposes: tuple[str, ...], items: int = 1) -> Decision:
        """Returns the answer to each of `items` subjects of a failed call; an open one is logged."""
        effect = Effect.DENY
        if self.accepted_because is not None and failure.is_outage:
            effect = Effect.ALLOW
            _LOG.warning(
                "no decision (%s), %d subject(s) ALLOWED all the same for %s; accepted because: %s",
                failure.error,
                items,
                ", ".join(purposes),
                self.accepted_because,
            )
        return Decision(effect, failure.reason, error=failure.error, error_reason=failure.error_reason)
