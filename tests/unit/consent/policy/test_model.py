"""What a check asks of a policy."""

import pytest

from consent.policy import Policy, Purpose, Regime
from tests.unit.consent.policy.policies import make_policy, make_regime

FAMILY: dict[str, dict[str, object]] = {
    "marketing": {},
    "personalisation": {"retired": True},
    "advertising": {"parents": ["marketing"]},
    "personalised_advertising": {"parents": ["advertising", "personalisation"]},
}


def test_find_purpose_known_returns_it() -> None:
    purpose = make_policy(FAMILY).find_purpose("advertising")
    assert purpose is not None
    assert (purpose.name, purpose.parents) == ("advertising", ("marketing",))


@pytest.mark.parametrize("name", ["unknown", "personalisation", "*", ""])
def test_find_purpose_unknown_or_retired_returns_none(name: str) -> None:
    assert make_policy(FAMILY).find_purpose(name) is None


def test_ancestors_two_parents_returns_all_above_with_retired() -> None:
    policy = make_policy(FAMILY)
    assert policy.ancestors("personalised_advertising") == {"advertising", "marketing", "personalisation"}
    assert policy.ancestors("marketing") == frozenset()


def test_descendants_returns_all_below() -> None:
    policy = make_policy(FAMILY)
    assert policy.descendants("marketing") == {"advertising", "personalised_advertising"}
    assert policy.descendants("personalised_advertising") == frozenset()


def test_relations_of_unknown_name_are_empty() -> None:
    policy = make_policy(FAMILY)
    assert policy.ancestors("x") == policy.descendants("x") == frozenset()
    assert policy.former_ancestors("x") == policy.former_descendants("x") == ()


def test_regime_own_entry_wins_over_star() -> None:
    policy = make_policy(
        FAMILY, regimes=[make_regime("*", "US", "opt_in"), make_regime("advertising", "US", "opt_out")]
    )
    assert policy.regime("advertising", ["US"]) is Regime.OPT_OUT
    assert policy.regime("marketing", ["US"]) is Regime.OPT_IN


def test_regime_entry_of_parent_is_not_inherited() -> None:
    policy = make_policy(FAMILY, regimes=[make_regime("marketing", "US", "notice_only")])
    assert policy.regime("advertising", ["US"]) is Regime.OPT_IN


def test_regime_several_jurisdictions_takes_strictest() -> None:
    policy = make_policy(
        FAMILY,
        regimes=[
            make_regime("*", "US", "notice_only"),
            make_regime("*", "US-CA", "opt_out"),
            make_regime("*", "XX", "prohibited"),
        ],
    )
    assert policy.regime("marketing", ("US", "US-CA")) is Regime.OPT_OUT
    assert policy.regime("marketing", {"US", "US-CA", "XX"}) is Regime.PROHIBITED
    assert policy.regime("marketing", frozenset({"US"})) is Regime.NOTICE_ONLY


def test_regime_no_or_unknown_jurisdiction_is_opt_in() -> None:
    policy = make_policy(FAMILY, regimes=[make_regime("*", "US", "notice_only")])
    assert policy.regime("marketing", []) is Regime.OPT_IN
    assert policy.regime("marketing", ["ZZ"]) is Regime.OPT_IN
    assert policy.regime("marketing", ["US", "ZZ"]) is Regime.OPT_IN


def test_regime_asked_twice_returns_the_same() -> None:
    policy = make_policy(
        FAMILY, regimes=[make_regime("*", "US", "opt_out"), make_regime("advertising", "US", "opt_in")]
    )
    for _ in range(2):
        assert policy.regime("advertising", ["US"]) is Regime.OPT_IN
        assert policy.regime("marketing", ["US"]) is Regime.OPT_OUT


def test_regime_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consent.policy.regime._MAX_REMEMBERED", 8)
    policy = make_policy(FAMILY, regimes=[make_regime("*", "US", "opt_out")])
    for number in range(50):
        assert policy.regime(f"p{number}", ["US"]) is Regime.OPT_OUT
        assert policy.regime("marketing", [f"X{number}"]) is Regime.OPT_IN
    assert len(policy._table._remembered) <= 8
    assert all("US" in jurisdictions for _, jurisdictions in policy._table._remembered)


def test_is_caller_permitted_without_callers_permits_everybody() -> None:
    assert make_policy(FAMILY).is_caller_permitted("anybody", ["marketing", "advertising"])


@pytest.mark.parametrize(
    ("caller", "purposes", "permitted"),
    [
        ("mailer", ["marketing"], True),
        ("mailer", ["marketing", "advertising"], False),
        ("mailer", ["advertising"], False),
        ("report", ["marketing", "advertising"], True),
        ("idle", ["marketing"], False),
        ("stranger", ["marketing"], False),
        ("*", ["marketing"], False),
    ],
)
def test_is_caller_permitted_with_callers_holds_to_their_purposes(
    caller: str, purposes: list[str], permitted: bool
) -> None:
    policy = make_policy(FAMILY, callers={"mailer": ["marketing"], "report": ["*"], "idle": []})
    assert policy.is_caller_permitted(caller, purposes) is permitted


def test_is_recorded_before_knows_the_log_and_otherwise_says_yes() -> None:
    policy = make_policy(version=3)
    known = policy.with_version_seqs({2: 10, 3: 20})
    assert known == policy
    assert known.is_recorded_before(9, 2)
    assert not known.is_recorded_before(10, 2)
    assert known.is_recorded_before(99, 1)
    assert policy.is_recorded_before(99, 3)


def test_policy_cannot_be_changed_through_what_it_was_built_from() -> None:
    purposes = {"marketing": Purpose("marketing")}
    policy = Policy(version=1, replaces_version=0, purposes=purposes)
    purposes["other"] = Purpose("other")
    assert set(policy.purposes) == {"marketing"}
    with pytest.raises(TypeError):
        policy.purposes["other"] = Purpose("other")  # type: ignore[index]


def test_purpose_is_hashable_and_compares_texts() -> None:
    assert hash(Purpose("a")) == hash(Purpose("a"))
    assert Purpose("a") == Purpose("a", texts={})
