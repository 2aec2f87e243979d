"""What docs/policy.md shows is so."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent.policy import (
    FormerParent,
    Policy,
    PolicyError,
    Purpose,
    PurposeText,
    Regime,
    check_replacement,
    describe_changes,
    format_policy,
    load_policy_file,
    policy_from_mapping,
    policy_to_mapping,
)
from tests.unit.consent.policy.test_document import FULL

PAGE = Path(__file__).resolve().parents[4] / "docs" / "policy.md"


def read_blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def example() -> Policy:
    return load_policy_file(read_blocks("yaml")[0], "policy.yaml")


def test_page_example_answers_as_its_table_says(example: Policy) -> None:
    assert example.regime("newsletter", ["DE"]) is Regime.OPT_IN
    assert example.regime("newsletter", ["US-CA"]) is Regime.OPT_OUT
    assert example.regime("newsletter", ["DE", "US-CA"]) is Regime.OPT_IN
    assert example.regime("newsletter", []) is Regime.OPT_IN
    assert example.regime("health_research", ["US-CA"]) is Regime.OPT_IN
    assert example.regime("fraud_prevention", ["DE"]) is Regime.NOTICE_ONLY
    assert not example.is_caller_permitted("checkout", ["newsletter"])


def test_page_shows_the_error_that_a_mistyped_parent_gives() -> None:
    text = read_blocks("yaml")[0].replace("parents: [marketing]", "parents: [markting]")
    with pytest.raises(PolicyError) as caught:
        load_policy_file(text, "policy.yaml")
    assert str(caught.value) == read_blocks("text")[0].strip()


def test_page_shows_the_changes_that_are_described(example: Policy) -> None:
    assert "former_parents: [{name: marketing, dropped_in_version: 2}]" in read_blocks("yaml")[1]
    changed: dict[str, Purpose] = dict(example.purposes)
    changed["newsletter"] = replace(
        changed["newsletter"], parents=(), former_parents=(FormerParent("marketing", 2),), min_proof=1
    )
    changed["marketing"] = replace(
        changed["marketing"], texts={**changed["marketing"].texts, "en": PurposeText("Promotion")}
    )
    changed["analytics"] = Purpose("analytics")
    new = replace(
        example,
        version=2,
        replaces_version=1,
        purposes=changed,
        regimes={**example.regimes, ("health_research", "US-CA"): Regime.OPT_OUT},
    )
    check_replacement(example, new)
    shown = [
        f"  {'relaxes' if change.relaxing else 'changes'}  {change.text}" for change in describe_changes(example, new)
    ]
    assert shown == read_blocks("text")[1].rstrip("\n").split("\n")


def test_page_lists_every_key_with_its_default() -> None:
    text = PAGE.read_text(encoding="utf-8")
    mapping: dict[str, Any] = policy_to_mapping(FULL)
    keys = {*mapping, *mapping["purposes"]["werbung für"]}
    assert keys <= set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_page_lists_every_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    pending = [PolicyError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        assert error is PolicyError or f"`{error.reason}`" in text


def test_page_defaults_are_never_to_change() -> None:
    # Documents in a log leave defaults out: this test may gain fields and must never lose or change one.
    policy = policy_from_mapping({"purposes": {"a": {}}})
    assert format_policy(policy) == b'{"purposes":{"a":{}},"replaces_version":0,"version":1}'
    assert (policy.soft_stale_seconds, policy.clock_skew_seconds, policy.reuse_window_seconds) == (60, 300, 0)
    purpose = policy.purposes["a"]
    assert (purpose.legal_basis, purpose.min_proof, purpose.regrant_proof) == ("consent", 1, 2)
    assert (purpose.min_notice, purpose.stale_grace_seconds) == (1, 600)
    flags = (purpose.direct_marketing, purpose.gpc, purpose.art18_exempt, purpose.concrete, purpose.minors)
    assert not any(flags)
    assert not purpose.retired
