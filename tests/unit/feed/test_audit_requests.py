"""What the log says about an auditor's requests: nothing that it is given can put a person into it."""

import re

import pytest
from consentry.feed.v1 import audit_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from feed.errors import InvalidRequest
from feed.grpc_api.audit_requests import (
    MAX_DAYS,
    MAX_PURPOSE_CHARACTERS,
    describe_get_replay_keys,
    describe_resolve,
    verify_days,
)


@given(st.text(max_size=300))
@example("call 4915112345678")
@example("call \u0661\u0662\u0663\u0664\u0665\u0666\u0667")
@example("ada@example.com")
@example("request 2026-118")
def test_purpose_that_is_logged_is_short_printable_and_names_nobody(text: str) -> None:
    try:
        purpose = describe_resolve(audit_pb2.ResolveRequest(purpose=text))
    except InvalidRequest:
        return
    assert purpose == text.strip()
    assert 1 <= len(purpose) <= MAX_PURPOSE_CHARACTERS
    assert purpose.isprintable()
    assert "@" not in purpose
    assert not re.search(r"\d{7}", purpose)


@given(st.text(max_size=80))
def test_recipient_that_is_logged_is_a_plain_name(name: str) -> None:
    try:
        detail = describe_get_replay_keys(audit_pb2.GetReplayKeysRequest(recipient_name=name))
    except InvalidRequest:
        return
    assert re.fullmatch(r"auditor [A-Za-z0-9._-]{1,63}, key sha256:[0-9a-f]{16}, days 0 to 0", detail)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@example(5, 5)
@example(5, 5 + MAX_DAYS - 1)
@example(5, 5 + MAX_DAYS)
@example(5, 4)
def test_days_are_in_order_and_not_too_many(from_day: int, to_day: int) -> None:
    if 0 <= to_day - from_day < MAX_DAYS:
        verify_days(from_day, to_day)
    else:
        with pytest.raises(InvalidRequest, match="from_day, to_day"):
            verify_days(from_day, to_day)
