"""When a check is asked a second time: once, only after UNAVAILABLE, and never beyond the caller's deadline."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from consentry_client.decision import Reason
from consentry_client.exchange import Call, Course, Outcome
from consentry_client.failure import OUT_OF_TIME, Failure


@dataclass(slots=True)
class Patience:
    """Whether it is worth waiting for the connection to come back.

    Waiting pays when a sidecar that has just answered restarts; while it stays away, every check would spend its whole
    deadline on a deny. So one wait in vain ends the waiting until the next answer.
    """

    is_worth_waiting: bool = False

    def note(self, outcome: Outcome, waited: bool) -> None:
        """Learns from a call."""
        if not isinstance(outcome, Failure):
            self.is_worth_waiting = True
        elif waited:
            self.is_worth_waiting = False


def ask(call: Call, patience: Patience, monotonic: Callable[[], float]) -> Course[Outcome]:
    """Makes a call, and makes it once more where that is safe and there is time left."""
    if call.timeout_seconds <= 0:
        return OUT_OF_TIME
    started = monotonic()
    outcome = yield call
    patience.note(outcome, waited=False)
    if not isinstance(outcome, Failure):
        return _accept(outcome, call.timeout_seconds, monotonic() - started)
    if not outcome.is_worth_repeating:
        return outcome
    remaining = call.timeout_seconds - (monotonic() - started)
    if remaining <= 0:
        return outcome
    waits = patience.is_worth_waiting
    second = yield replace(call, timeout_seconds=remaining, wait_for_ready=waits)
    patience.note(second, waits)
    if isinstance(second, Failure) and second.reason is Reason.CLIENT_DEADLINE_EXCEEDED:
        # The connection did not come back in time: what happened is the first failure.
        return outcome
    return _accept(second, call.timeout_seconds, monotonic() - started)


def _accept(outcome: Outcome, timeout_seconds: float, taken_seconds: float) -> Outcome:
    """What came in time; gRPC counts in milliseconds and rounds up, but what comes after the caller's time is too late."""
    return outcome if isinstance(outcome, Failure) or taken_seconds <= timeout_seconds else OUT_OF_TIME
