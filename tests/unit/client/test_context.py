"""The situation of a question, and how a default adds to it."""

from typing import Any

import pytest
from consentry_client import AgeBand, Context


def test_context_with_plain_jurisdiction_takes_it_whole() -> None:
    assert Context(jurisdictions="EU").jurisdictions == ("EU",)


def test_context_combined_takes_the_strictest_of_both() -> None:
    default = Context(["DE"], AgeBand.ADULT, sec_gpc=True, recipient="shop", data_categories=["health"])
    asked = Context(["US-CA", "DE"], AgeBand.TEEN, data_categories="location")
    assert default.combine(asked) == Context(["DE", "US-CA"], AgeBand.TEEN, True, "shop", ["health", "location"])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (AgeBand.CHILD, AgeBand.ADULT, AgeBand.CHILD),
        (AgeBand.ADULT, AgeBand.TEEN, AgeBand.TEEN),
        (AgeBand.UNSPECIFIED, AgeBand.ADULT, AgeBand.ADULT),
        (AgeBand.ADULT, AgeBand.UNSPECIFIED, AgeBand.ADULT),
        (AgeBand.UNSPECIFIED, AgeBand.UNSPECIFIED, AgeBand.UNSPECIFIED),
    ],
)
def test_context_combined_takes_the_youngest_stated_band(one: AgeBand, other: AgeBand, expected: AgeBand) -> None:
    assert Context(age_band=one).combine(Context(age_band=other)).age_band is expected


def test_context_combined_prefers_the_recipient_of_the_question() -> None:
    assert Context(recipient="a").combine(Context(recipient="b")).recipient == "b"


def test_context_combined_with_nothing_is_itself() -> None:
    context = Context("EU")
    assert context.combine(None) is context


@pytest.mark.parametrize("wrong", [{"jurisdictions": [1]}, {"recipient": None}, {"data_categories": b"health"}])
def test_context_with_other_types_raises_type_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Context(**wrong)
