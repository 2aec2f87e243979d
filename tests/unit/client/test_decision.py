"""The answer's own behaviour."""

import pickle
import uuid
from datetime import UTC, datetime

import pytest
from consentry.decision.v1 import decision_pb2
from consentry_client import ConsentDenied, ConsentryError, Decision, Effect, IntakeError, Reason, StatusError


def test_reason_names_cover_the_contract() -> None:
    contract = {name.removeprefix("REASON_") for name in decision_pb2.Reason.DESCRIPTOR.values_by_name}
    ours = {reason.name for reason in Reason if not reason.name.startswith("CLIENT_")}
    assert ours == contract
    assert all(reason.name == reason.value for reason in Reason)


@pytest.mark.parametrize("effect", list(Effect))
def test_decision_as_bool_is_whether_it_allows(effect: Effect) -> None:
    decision = Decision(effect, Reason.GRANTED)
    assert bool(decision) is decision.allowed is (effect is Effect.ALLOW)


@pytest.mark.parametrize(
    ("reason", "failed"),
    [(Reason.OPT_OUT, False), (Reason.CLIENT_REASON_UNKNOWN, False), (Reason.CLIENT_UNAVAILABLE, True)],
)
def test_decision_failed_tells_answers_of_the_client_itself(reason: Reason, failed: bool) -> None:
    assert Decision(Effect.DENY, reason).failed is failed


def test_decision_valid_until_is_a_time_in_utc() -> None:
    decision = Decision(Effect.ALLOW, Reason.GRANTED, valid_until_ms=1_767_225_600_500)
    assert decision.valid_until == datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC)
    assert Decision(Effect.DENY, Reason.OPT_OUT).valid_until is None


def test_consent_denied_carries_decision_and_says_reason() -> None:
    record = uuid.UUID(int=7)
    error = ConsentDenied(Decision(Effect.DENY, Reason.OPT_OUT, decision_id=record))
    assert error.reason == "OPT_OUT"
    assert str(error) == f"the data may not be used, decision {record} [OPT_OUT]"
    assert isinstance(error, ConsentryError)


@pytest.mark.parametrize(
    "error",
    [
        ConsentryError("A", "text"),
        ConsentDenied(Decision(Effect.DENY, Reason.CLIENT_UNAVAILABLE, error="UNAVAILABLE")),
        IntakeError("A", "text", "UNAVAILABLE", "key", True),
        StatusError("A", "text", "UNAVAILABLE"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_pickled_keeps_everything(error: ConsentryError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
