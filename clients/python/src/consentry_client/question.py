"""What is asked about a subject, and how long the caller will wait."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict, Unpack

from consentry_client.consistency import ConsistencyToken
from consentry_client.context import Context
from consentry_client.requests import SERVER_WAIT_SECONDS_MAX
from consentry_client.subject import as_texts

# gRPC turns a deadline into nanoseconds since 1970 and must be able to.
_TIMEOUT_SECONDS_MAX = 86_400.0


class AskOptions(TypedDict, total=False):
    """Keywords of every method that asks.

    Attributes:
        context: The situation, added to the client's default.
        min_token: The answer must know this entry of the log, or it is a deny.
        wait_seconds: How long the sidecar may wait for that entry, at most 10; the deadline moves by as much.
        timeout_seconds: Deadline of this question instead of the client's.
        traceparent: W3C trace to join, where OpenTelemetry does not supply it.
    """

    context: Context | None
    min_token: ConsistencyToken | None
    wait_seconds: float
    timeout_seconds: float | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """One or more purposes (all must be allowed) in one situation.

    Raises:
        TypeError: A part is of a type that no question has.
    """

    purposes: tuple[str, ...]
    context: Context | None = None
    min_token: ConsistencyToken | None = None
    wait_seconds: float = 0.0
    timeout_seconds: float | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        if self.context is not None and not isinstance(self.context, Context):
            raise TypeError(f"context must be a Context, not {type(self.context).__name__}")
        if self.min_token is not None and not isinstance(self.min_token, ConsistencyToken):
            raise TypeError(f"min_token must be a ConsistencyToken, not {type(self.min_token).__name__}")

    @classmethod
    def ask(cls, purpose: str | Iterable[str], **options: Unpack[AskOptions]) -> "Question":
        """Makes the question that a method's arguments describe."""
        return cls(as_texts("purpose", purpose), **options)

    def give_deadline(self, default_seconds: float) -> float:
        """Returns how long a call may take in seconds; 0 or less where the caller's time is already up."""
        base = default_seconds if self.timeout_seconds is None else self.timeout_seconds
        if not base > 0:
            return 0.0
        waits = self.min_token is not None and self.wait_seconds > 0
        return min(base + (min(self.wait_seconds, SERVER_WAIT_SECONDS_MAX) if waits else 0.0), _TIMEOUT_SECONDS_MAX)
