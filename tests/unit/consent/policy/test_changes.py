"""What publish shows, and what of it relaxes."""

from typing import Any

import pytest

from consent.policy import describe_changes
from tests.unit.consent.policy.policies import make_policy, make_regime


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, bool]]:
    changes = describe_changes(make_policy(**({"version": 1} | old)), make_policy(**({"version": 2} | new)))
    return [(change.text, change.relaxing) for change in changes]


def compare_purpose(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, bool]]:
    around: dict[str, Any] = {"top": {}, "other": {}}
    categories = {"special_categories": ["health"]}
    return compare({"purposes": around | {"a": old}, **categories}, {"purposes": around | {"a": new}, **categories})


def test_describe_changes_same_policy_finds_none() -> None:
    assert compare({}, {}) == []


@pytest.mark.parametrize(
    ("old", "new", "text", "relaxing", "back_relaxes"),
    [
        ({"min_proof": 2}, {}, "min_proof: 2 -> 1", True, False),
        ({"regrant_proof": 3}, {}, "regrant_proof: 3 -> 2", True, False),
        ({"min_notice": 2}, {}, "min_notice: 2 -> 1", True, False),
        ({}, {"stale_grace_seconds": 900}, "stale_grace_seconds: 600 -> 900", True, False),
        ({"direct_marketing": True}, {}, "direct_marketing: true -> false", True, False),
        ({"gpc": True}, {}, "gpc: true -> false", True, False),
        ({"minors": True}, {}, "minors: true -> false", True, False),
        ({"retired": True}, {}, "retired: true -> false", True, False),
        ({}, {"concrete": True}, "concrete: false -> true", True, False),
        ({}, {"art18_exempt": True}, "art18_exempt: false -> true", True, False),
        ({}, {"legal_basis": "li"}, "legal_basis: consent -> li", True, False),
        ({}, {"legal_basis": "contract"}, "legal_basis: consent -> contract", True, False),
        ({"legal_basis": "li"}, {"legal_basis": "contract"}, "legal_basis: li -> contract", True, True),
        ({"legal_basis": "li"}, {"legal_basis": "vital"}, "legal_basis: li -> vital", True, False),
        (
            {"legal_basis": "legal_obligation"},
            {"legal_basis": "vital"},
            "legal_basis: legal_obligation -> vital",
            False,
            False,
        ),
        ({"data_categories": ["health"]}, {}, "data_categories: health removed", True, False),
        ({"data_categories": ["postcode"]}, {}, "data_categories: postcode removed", False, False),
        ({}, {"parents": ["top"]}, "parents: top added", True, True),
        (
            {"former_parents": [{"name": "top", "dropped_in_version": 1}]},
            {},
            "former_parents: top 1 -> none",
            True,
            False,
        ),
        ({}, {"dpv": "https://w3id.org/dpv#Marketing"}, "dpv: none -> https://w3id.org/dpv#Marketing", False, False),
        ({}, {"texts": {"en": {"title": "T"}}}, "texts.en: text changed", False, False),
    ],
)
def test_describe_changes_of_a_purpose_says_what_and_whether_it_relaxes(
    old: dict[str, Any], new: dict[str, Any], text: str, relaxing: bool, back_relaxes: bool
) -> None:
    assert compare_purpose(old, new) == [(f"purposes.a.{text}", relaxing)]
    assert [relaxes for _, relaxes in compare_purpose(new, old)] == [back_relaxes]


@pytest.mark.parametrize(
    ("old", "new", "text", "relaxing", "back_relaxes"),
    [
        ({}, {"soft_stale_seconds": 90}, "soft_stale_seconds: 60 -> 90", True, False),
        ({}, {"clock_skew_seconds": 100}, "clock_skew_seconds: 300 -> 100", True, False),
        ({}, {"reuse_window_seconds": 5}, "reuse_window_seconds: 0 -> 5", True, False),
        ({"special_categories": ["health"]}, {}, "special_categories: health removed", True, False),
        ({}, {"journal_modes_permitted": ["async"]}, "journal_modes_permitted: async added", True, False),
        (
            {"purposes": {"a": {}}},
            {"purposes": {"a": {}, "b": {"legal_basis": "li"}}},
            "purposes.b: added (li)",
            True,
            True,
        ),
        (
            {"purposes": {"a": {}}},
            {"purposes": {"a": {}, "b": {"retired": True}}},
            "purposes.b: added (consent)",
            False,
            True,
        ),
        ({}, {"regimes": [make_regime("*", "US", "opt_out")]}, "regimes['*'].US: none -> opt_out", True, False),
        ({}, {"regimes": [make_regime("*", "EU", "opt_in")]}, "regimes['*'].EU: none -> opt_in", False, False),
        ({}, {"regimes": [make_regime("*", "EU", "prohibited")]}, "regimes['*'].EU: none -> prohibited", False, True),
        (
            {"regimes": [make_regime("marketing", "US", "opt_out")]},
            {"regimes": [make_regime("marketing", "US", "notice_only")]},
            "regimes.marketing.US: opt_out -> notice_only",
            True,
            False,
        ),
        (
            {"regimes": [make_regime("*", "US", "opt_out"), make_regime("marketing", "US", "opt_in")]},
            {"regimes": [make_regime("*", "US", "opt_out")]},
            "regimes.marketing.US: opt_in -> none",
            True,
            False,
        ),
        ({"callers": {"m": ["marketing"]}}, {}, "callers.m: removed", True, False),
        (
            {"callers": {"m": [], "n": []}},
            {"callers": {"m": ["marketing"], "n": []}},
            "callers.m: may ask for marketing",
            True,
            False,
        ),
        (
            {"callers": {"m": ["*"]}},
            {"callers": {"m": ["marketing"]}},
            "callers.m: may ask for marketing",
            False,
            True,
        ),
        (
            {"callers": {"n": []}},
            {"callers": {"n": [], "m": ["marketing"]}},
            "callers.m: may ask for marketing",
            True,
            False,
        ),
    ],
)
def test_describe_changes_of_the_policy_says_what_and_whether_it_relaxes(
    old: dict[str, Any], new: dict[str, Any], text: str, relaxing: bool, back_relaxes: bool
) -> None:
    assert compare(old, new) == [(text, relaxing)]
    assert [relaxes for _, relaxes in compare(new, old)] == [back_relaxes]


def test_describe_changes_dropped_parent_kept_as_former_shows_both() -> None:
    new = {"former_parents": [{"name": "top", "dropped_in_version": 2}]}
    assert compare_purpose({"parents": ["top"]}, new) == [
        ("purposes.a.parents: top dropped", True),
        ("purposes.a.former_parents: top none -> 2", False),
    ]


def test_describe_changes_order_of_parents_is_no_change() -> None:
    assert compare_purpose({"parents": ["top", "other"]}, {"parents": ["other", "top"]}) == []
