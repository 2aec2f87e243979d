"""Trace contexts as the W3C writes them, and ids that can be found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.telemetry.trace_context import (
    TRACEPARENT_CHARACTERS,
    TraceContext,
    derive_span_id,
    format_traceparent,
    parse_traceparent,
)

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@given(
    trace_id=st.binary(min_size=16, max_size=16).filter(any),
    span_id=st.binary(min_size=8, max_size=8).filter(any),
    flags=st.integers(0, 255),
)
def test_traceparent_comes_back_as_it_was_written(trace_id: bytes, span_id: bytes, flags: int) -> None:
    text = format_traceparent(TraceContext(trace_id, span_id, flags))
    assert len(text) == TRACEPARENT_CHARACTERS
    assert parse_traceparent(text) == TraceContext(trace_id, span_id, flags)


def test_traceparent_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    read = parse_traceparent(f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes-later")
    assert read is not None
    assert format_traceparent(read) == f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "anna@example.com",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
    ],
)
def test_traceparent_that_does_not_follow_the_standard_is_none(text: str | None) -> None:
    assert parse_traceparent(text) is None


@given(subject=st.binary(max_size=64))
def test_derived_span_id_is_the_same_again_and_another_for_another_use(subject: bytes) -> None:
    assert derive_span_id(b"one", subject) == derive_span_id(b"one", subject)
    assert derive_span_id(b"one", subject) != derive_span_id(b"two", subject)
    assert len(derive_span_id(b"one", subject)) == 8
