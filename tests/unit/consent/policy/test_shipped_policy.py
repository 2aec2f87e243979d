"""The policy that comes with the program, and the registry of the decision vectors."""

import csv
import json
from pathlib import Path

import pytest

from consent.policy import (
    LegalBasis,
    Policy,
    Regime,
    UnknownParent,
    check_replacement,
    format_policy,
    load_policy_file,
    parse_policy,
    policy_from_mapping,
    requires_opt_in,
)
from feed.policies.shipped import DEFAULT_POLICY_NAME, read_default_policy


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load_policy_file(read_default_policy(), DEFAULT_POLICY_NAME)


def test_shipped_policy_can_be_published_first(shipped: Policy) -> None:
    check_replacement(None, shipped)
    assert parse_policy(format_policy(shipped)) == shipped
    assert f"{len(shipped.purposes)} purposes" in read_default_policy().splitlines()[0]


def test_shipped_policy_has_texts_in_english_and_german(shipped: Policy) -> None:
    for purpose in shipped.purposes.values():
        assert set(purpose.texts) == {"en", "de"}, purpose.name
        assert all(text.title and text.description for text in purpose.texts.values()), purpose.name


def test_shipped_policy_names_dpv_purposes_that_exist(shipped: Policy, shared_directory: Path) -> None:
    with (shared_directory / "data/dpv/purposes.csv").open(encoding="utf-8", newline="") as table:
        known = {row["iri"] for row in csv.DictReader(table)}
    for purpose in shipped.purposes.values():
        assert purpose.dpv in known, purpose.name


def test_shipped_policy_opt_out_of_marketing_covers_its_kinds(shipped: Policy) -> None:
    below = shipped.descendants("marketing")
    assert {"direct_marketing", "newsletter_email", "marketing_post", "personalised_advertising"} <= below
    assert shipped.ancestors("personalised_advertising") == {"advertising", "marketing", "personalisation"}


@pytest.mark.parametrize(
    ("purpose", "jurisdiction", "regime"),
    [
        ("marketing", "EU", Regime.OPT_IN),
        ("marketing", "NO", Regime.OPT_IN),
        ("marketing_post", "DE", Regime.OPT_OUT),
        ("fraud_prevention", "GB", Regime.NOTICE_ONLY),
        ("marketing", "US-CA", Regime.OPT_OUT),
        ("marketing", "US", Regime.OPT_OUT),
        ("health_research", "US-CA", Regime.OPT_IN),
        ("data_sale", "BR", Regime.OPT_IN),
        ("data_sale", "JP", Regime.OPT_IN),
    ],
)
def test_shipped_policy_regime(shipped: Policy, purpose: str, jurisdiction: str, regime: Regime) -> None:
    assert shipped.regime(purpose, [jurisdiction]) is regime


def test_shipped_policy_treats_all_of_europe_alike(shipped: Policy) -> None:
    european = {jurisdiction for _, jurisdiction in shipped.regimes if requires_opt_in(jurisdiction)}
    assert len(european) == 2 + 27 + 3 + 3  # EU and EEA, member states, IS LI NO, UK GB CH
    for name in shipped.purposes:
        assert len({shipped.regime(name, [jurisdiction]) for jurisdiction in european}) == 1, name


def test_shipped_policy_sale_and_sharing_obey_gpc_and_health_is_special(shipped: Policy) -> None:
    assert {name for name, purpose in shipped.purposes.items() if purpose.gpc} == {
        "personalised_advertising",
        "third_party_sharing",
        "data_sale",
    }
    assert shipped.purposes["health_research"].data_categories <= shipped.special_categories


def test_shipped_policy_direct_marketing_holds_for_everything_below_it(shipped: Policy) -> None:
    for name in {"direct_marketing", *shipped.descendants("direct_marketing")}:
        assert shipped.purposes[name].direct_marketing, name


def test_vector_registry_loads_once_its_one_outside_parent_is_defined(shared_directory: Path) -> None:
    registry = json.loads((shared_directory / "vectors/decision.json").read_text(encoding="utf-8"))
    del registry["cases"]
    with pytest.raises(UnknownParent):
        policy_from_mapping(registry)
    registry["purposes"]["LegalObligation"] = {"retired": True}
    policy = policy_from_mapping(registry)
    assert parse_policy(format_policy(policy)) == policy
    assert policy.find_purpose("LegalObligation") is None
    assert policy.regime("newsletter", ["EU", "US-CA"]) is Regime.OPT_IN
    assert policy.regime("DirectMarketing", ["EU"]) is Regime.OPT_OUT
    assert policy.regime("LegalCompliance", ["XX"]) is Regime.PROHIBITED
    purpose = policy.find_purpose("HealthResearch")
    assert purpose is not None
    assert purpose.legal_basis is LegalBasis.LEGITIMATE_INTEREST
    assert purpose.data_categories == {"health"}
