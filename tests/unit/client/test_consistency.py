"""Consistency tokens and their text."""

from contextlib import suppress
from typing import Any

import pytest
from consentry_client import ConsentryError, ConsistencyToken, TokenFormatError
from hypothesis import given
from hypothesis import strategies as st

ORIGINS = st.text(min_size=1).filter(str.isprintable)


@given(ORIGINS, st.integers(1, 2**64 - 1))
def test_token_formatted_and_parsed_is_the_same(origin: str, seq: int) -> None:
    token = ConsistencyToken(origin, seq)
    assert ConsistencyToken.parse(str(token)) == token


@given(st.text())
def test_token_parse_of_any_text_raises_only_our_error(text: str) -> None:
    with suppress(TokenFormatError):
        assert str(ConsistencyToken.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "origin", "origin:", ":1", "origin:0", "origin:-1", "origin:+1", "origin:01", "origin: 1", "origin:1 ",
        "origin:1\n", "origin:\u0661", "origin:1.0", "origin:18446744073709551616", "ori\ngin:1", "\ud800:1",
    ],
)  # fmt: skip
def test_token_parse_of_other_form_is_refused(text: str) -> None:
    with pytest.raises(TokenFormatError):
        ConsistencyToken.parse(text)


def test_token_parse_with_colons_in_origin_takes_the_last() -> None:
    assert ConsistencyToken.parse("feed.example:8443/log:7") == ConsistencyToken("feed.example:8443/log", 7)


@pytest.mark.parametrize(("origin", "seq"), [("", 1), (None, 1), ("a", True), ("a", 1.0), ("a", "1"), ("a", 2**64)])
def test_token_made_of_other_things_is_refused(origin: Any, seq: Any) -> None:
    with pytest.raises(ConsentryError):
        ConsistencyToken(origin, seq)
