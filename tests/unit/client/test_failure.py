"""What a failed call is answered with."""

import logging

import grpc
import pytest
from consentry_client.decision import Decision, Effect, Reason
from consentry_client.errors import ConfigurationError
from consentry_client.failure import OUT_OF_TIME, UNREADABLE, Failure, FailurePolicy, classify_status
from consentry_client.refusal import read_error_reason

EXPECTED = {
    "DEADLINE_EXCEEDED": "CLIENT_DEADLINE_EXCEEDED",
    "UNAVAILABLE": "CLIENT_UNAVAILABLE",
    "RESOURCE_EXHAUSTED": "CLIENT_OVERLOADED",
    "INVALID_ARGUMENT": "CLIENT_REFUSED",
    "OUT_OF_RANGE": "CLIENT_REFUSED",
    "FAILED_PRECONDITION": "CLIENT_REFUSED",
    "NOT_FOUND": "CLIENT_REFUSED",
    "PERMISSION_DENIED": "CLIENT_REFUSED",
    "UNAUTHENTICATED": "CLIENT_REFUSED",
    "UNIMPLEMENTED": "CLIENT_REFUSED",
}
OUTAGES = {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
ALL_CODES = [code.name for code in grpc.StatusCode]


@pytest.mark.parametrize("code", ALL_CODES)
def test_classify_status_of_every_code_has_a_reason(code: str) -> None:
    assert classify_status(code) == Failure(Reason(EXPECTED.get(code, "CLIENT_ERROR")), code)


@pytest.mark.parametrize("code", ALL_CODES)
def test_failure_policy_closed_denies_every_code(code: str) -> None:
    decision = FailurePolicy().conclude(classify_status(code, "SOME_REASON"), ("p",))
    assert decision == Decision(
        Effect.DENY, Reason(EXPECTED.get(code, "CLIENT_ERROR")), error=code, error_reason="SOME_REASON"
    )


@pytest.mark.parametrize("code", ALL_CODES)
def test_failure_policy_open_allows_outages_alone_and_says_so(code: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = FailurePolicy.agree(False, "the lights must stay on")
    caplog.clear()
    decision = policy.conclude(classify_status(code), ("heating",), 3)
    assert decision.allowed is (code in OUTAGES)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * (code in OUTAGES)
    if code in OUTAGES:
        assert decision.failed
        assert "3 subject(s) ALLOWED" in caplog.text
        assert "heating" in caplog.text
        assert "the lights must stay on" in caplog.text


@pytest.mark.parametrize("failure", [UNREADABLE, OUT_OF_TIME, Failure(Reason.CLIENT_UNUSABLE)])
def test_failure_policy_open_denies_what_is_no_outage(failure: Failure) -> None:
    assert not FailurePolicy("because").conclude(failure, ("p",))


@pytest.mark.parametrize(("fail_closed", "because"), [(False, None), (False, ""), (False, "  "), (True, "because")])
def test_failure_policy_without_both_arguments_is_refused(fail_closed: bool, because: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FailurePolicy.agree(fail_closed, because)
    assert caught.value.reason == "FAIL_OPEN_NOT_ACCEPTED"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (classify_status("UNAVAILABLE"), True),
        (classify_status("UNAVAILABLE", "JOURNAL_UNAVAILABLE"), False),
        (classify_status("DEADLINE_EXCEEDED"), False),
        (classify_status("INTERNAL"), False),
        (UNREADABLE, False),
    ],
)
def test_failure_is_worth_repeating_only_where_nobody_answered(failure: Failure, expected: bool) -> None:
    assert failure.is_worth_repeating is expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, ""),
        ((), ""),
        ((("consentry-reason", "JOURNAL_UNAVAILABLE"),), "JOURNAL_UNAVAILABLE"),
        ((("other", "X"), ("consentry-reason", "A1")), "A1"),
        ((("consentry-reason", b"BYTES"),), ""),
        ((("consentry-reason", "ada@example.com"),), ""),
        ((("consentry-reason", "A" * 65),), ""),
    ],
)
def test_read_error_reason_takes_only_a_stable_name(
    metadata: tuple[tuple[str, str | bytes], ...] | None, expected: str
) -> None:
    assert read_error_reason(metadata) == expected
