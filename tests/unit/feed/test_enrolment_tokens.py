"""Enrolment tokens: for one sidecar of one feed, until they expire."""

import pytest

from feed.errors import EnrolmentRefused
from feed.signing.enrolment_tokens import EnrolmentToken, EnrolmentTokens

TOKENS = EnrolmentTokens(bytes(32), "log.example.com/acme")
PERMIT = EnrolmentToken("pod-1", 7, 1_000)
TEXT = TOKENS.issue(PERMIT)


def test_token_says_what_it_was_issued_for_until_it_expires() -> None:
    assert TOKENS.read(TEXT, "pod-1", 999) == PERMIT
    with pytest.raises(EnrolmentRefused, match="expired"):
        TOKENS.read(TEXT, "pod-1", 1_000)


def test_token_of_another_sidecar_is_refused() -> None:
    with pytest.raises(EnrolmentRefused, match="another sidecar"):
        TOKENS.read(TEXT, "pod-2", 0)


@pytest.mark.parametrize(
    "tokens",
    [EnrolmentTokens(bytes([1]) * 32, "log.example.com/acme"), EnrolmentTokens(bytes(32), "log.example.com/b")],
)
def test_token_of_another_feed_is_refused(tokens: EnrolmentTokens) -> None:
    with pytest.raises(EnrolmentRefused, match="not one of this feed"):
        tokens.read(TEXT, "pod-1", 0)


def test_token_with_any_character_changed_is_refused() -> None:
    # The last character of each part has bits that base64 does not use, so the change must not be only there.
    for at in range(len(TEXT)):
        other = "A" if TEXT[at] not in "ABCD" else "z"
        with pytest.raises(EnrolmentRefused):
            TOKENS.read(TEXT[:at] + other + TEXT[at + 1 :], "pod-1", 0)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "consentry-enrolment-v1", "é.ü.ö", TEXT + ".x", "a" * 10_000, TEXT[:-5]]
)
def test_token_malformed_is_refused(text: str) -> None:
    with pytest.raises(EnrolmentRefused):
        TOKENS.read(text, "pod-1", 0)
