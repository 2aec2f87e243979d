"""What no policy may be."""

from typing import Any

import pytest

from consent.policy import (
    CyclicPolicy,
    DuplicateKey,
    InvalidValue,
    Policy,
    PolicyError,
    PolicyTooLarge,
    Purpose,
    RegimeTooWeak,
    UnknownKey,
    UnknownPurpose,
    policy_from_mapping,
    requires_opt_in,
)
from consent.policy.errors import MalformedDocument
from tests.unit.consent.policy.policies import make_policy, make_regime

TITLE = {"title": "T"}

REFUSED: list[tuple[str, Any, type[PolicyError], str]] = [
    # what, purpose's body, error, end of the place
    ("no proof", {"min_proof": 0}, InvalidValue, "min_proof"),
    ("proof beyond the scale", {"min_proof": 4}, InvalidValue, "min_proof"),
    ("re-grant by a link", {"regrant_proof": 1}, InvalidValue, "regrant_proof"),
    ("re-grant beyond the scale", {"regrant_proof": 4}, InvalidValue, "regrant_proof"),
    ("negative notice", {"min_notice": -1}, InvalidValue, "min_notice"),
    ("negative grace", {"stale_grace_seconds": -1}, InvalidValue, "stale_grace_seconds"),
    ("endless grace", {"stale_grace_seconds": 10**12}, InvalidValue, "stale_grace_seconds"),
    ("fraction", {"min_proof": 1.5}, InvalidValue, "min_proof"),
    ("flag as number", {"min_proof": True}, InvalidValue, "min_proof"),
    ("number as flag", {"gpc": 1}, InvalidValue, "gpc"),
    ("word as flag", {"gpc": "yes"}, InvalidValue, "gpc"),
    ("no value", {"gpc": None}, InvalidValue, "gpc"),
    ("unknown basis", {"legal_basis": "consnt"}, InvalidValue, "legal_basis"),
    ("unknown key", {"parent": []}, UnknownKey, "parent"),
    ("parents as text", {"parents": "marketing"}, InvalidValue, "parents"),
    ("parent twice", {"parents": ["other", "other"]}, InvalidValue, "parents[1]"),
    ("parent as number", {"parents": [7]}, InvalidValue, "parents[0]"),
    ("many parents", {"parents": [f"p{i}" for i in range(33)]}, PolicyTooLarge, "subject"),
    ("own parent", {"parents": ["subject"]}, CyclicPolicy, "parents"),
    ("former without version", {"former_parents": [{"name": "other"}]}, InvalidValue, "former_parents[0]"),
    ("former of the future", {"former_parents": [{"name": "other", "dropped_in_version": 2}]}, InvalidValue, "version"),
    ("former of nothing", {"former_parents": [{"name": "other", "dropped_in_version": 0}]}, InvalidValue, "version"),
    ("former twice", {"former_parents": [{"name": "other", "dropped_in_version": 1}] * 2}, InvalidValue, "[1].name"),
    ("no IRI", {"dpv": "Marketing"}, InvalidValue, "dpv"),
    ("script in place of an IRI", {"dpv": "javascript:alert(1)"}, InvalidValue, "dpv"),
    ("category with a space at its end", {"data_categories": ["health "]}, InvalidValue, "data_categories"),
    ("no language", {"texts": {"English": TITLE}}, InvalidValue, "English"),
    ("text without title", {"texts": {"en": {"description": "D"}}}, InvalidValue, "en"),
    ("blank title", {"texts": {"en": {"title": " "}}}, InvalidValue, "title"),
    ("two lines of title", {"texts": {"en": {"title": "A\nB"}}}, InvalidValue, "title"),
    ("long title", {"texts": {"en": {"title": "x" * 201}}}, InvalidValue, "title"),
    ("escape in a text", {"texts": {"en": TITLE | {"description": "\x1b[2J"}}}, InvalidValue, "description"),
    ("half a character", {"texts": {"en": TITLE | {"description": "\ud800"}}}, InvalidValue, "description"),
    ("not NFC", {"texts": {"en": {"title": "Fu\u0308r"}}}, InvalidValue, "title"),
    ("long description", {"texts": {"en": TITLE | {"description": "x" * 4001}}}, InvalidValue, "description"),
    ("text as a word", {"texts": {"en": "Title"}}, InvalidValue, "en"),
    ("no mapping", [], InvalidValue, "subject"),
    ("nothing", None, InvalidValue, "subject"),
]


@pytest.mark.parametrize(("body", "error", "place"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_purpose_out_of_bounds_is_refused_with_its_place(body: Any, error: type[PolicyError], place: str) -> None:
    with pytest.raises(PolicyError) as caught:
        make_policy({f"p{i}": {} for i in range(33)} | {"other": {}, "subject": body})
    assert type(caught.value) is error
    assert str(caught.value).startswith("purposes.subject")
    assert str(caught.value).split(": ")[0].endswith(place)


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "*", "a\nb", "a\u200bb", "a\u00a0b", "\u202eb", "\ud800", "e\u0301", "x" * 129, "\ue000", "\x7f"],
)
def test_name_that_cannot_be_seen_or_told_apart_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        make_policy({name: {}})
    with pytest.raises(InvalidValue):
        make_policy(special_categories=[name])
    if name not in ("x" * 129, "*"):
        with pytest.raises(InvalidValue):
            make_policy(callers={name: []})


@pytest.mark.parametrize("name", ["a", "third_party_sharing.ads", "Werbung für Süßes", "広告", "x" * 128])
def test_name_in_any_script_is_accepted(name: str) -> None:
    assert make_policy({name: {}}).find_purpose(name) is not None


def test_text_with_soft_hyphen_joiner_and_line_break_is_accepted() -> None:
    text = {
        "title": "Daten\u00adschutz",
        "description": "\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645\nzweite Zeile",
    }
    assert make_policy({"a": {"texts": {"de": text}}}).purposes["a"].texts["de"].description == text["description"]


@pytest.mark.parametrize(
    ("keys", "error", "place"),
    [
        ({"version": 0}, InvalidValue, "version"),
        ({"version": "1"}, InvalidValue, "version"),
        ({"version": 2**31}, InvalidValue, "version"),
        ({"version": 3, "replaces_version": 1}, InvalidValue, "replaces_version"),
        ({"soft_stale_seconds": -1}, InvalidValue, "soft_stale_seconds"),
        ({"clock_skew_seconds": 3601}, InvalidValue, "clock_skew_seconds"),
        ({"reuse_window_seconds": 3601}, InvalidValue, "reuse_window_seconds"),
        ({"special_categories": ["health", "health"]}, InvalidValue, "special_categories[1]"),
        ({"special_categories": "health"}, InvalidValue, "special_categories"),
        ({"journal_modes_permitted": ["async", "sync"]}, InvalidValue, "journal_modes_permitted"),
        ({"purpose": {}}, UnknownKey, "purpose"),
        ({"regimes": {}}, InvalidValue, "regimes"),
        ({"regimes": [make_regime("*", "US", "optout")]}, InvalidValue, "regimes[0].regime"),
        ({"regimes": [make_regime("*", "us", "opt_out")]}, InvalidValue, "regimes[0]"),
        ({"regimes": [make_regime("*", "", "opt_out")]}, InvalidValue, "regimes[0]"),
        ({"regimes": [make_regime("markting", "US", "opt_out")]}, UnknownPurpose, "regimes[0]"),
        ({"regimes": [make_regime("*", "US", "opt_out")] * 2}, DuplicateKey, "regimes[1]"),
        ({"regimes": [{"purpose": "*", "regime": "opt_in"}]}, InvalidValue, "regimes[0]"),
        ({"regimes": [{"purpose": ["*"], "jurisdiction": ["US", 7], "regime": "opt_in"}]}, InvalidValue, "ction[1]"),
        ({"callers": {"mailer": ["markting"]}}, UnknownPurpose, "callers.mailer"),
        ({"callers": {"mailer": "marketing"}}, InvalidValue, "callers.mailer"),
        ({"callers": {"x" * 501: []}}, InvalidValue, ""),
    ],
)
def test_policy_out_of_bounds_is_refused_with_its_place(
    keys: dict[str, Any], error: type[PolicyError], place: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        make_policy(**keys)
    assert type(caught.value) is error
    assert str(caught.value).split(": ")[0].endswith(place)


@pytest.mark.parametrize("document", [None, [], "purposes", 7, {}, {"purposes": None}, {1: 2}, {"purposes": {1: {}}}])
def test_policy_from_mapping_of_another_shape_is_refused(document: object) -> None:
    with pytest.raises(InvalidValue):
        policy_from_mapping(document)


def test_policy_of_too_many_purposes_is_refused() -> None:
    with pytest.raises(PolicyTooLarge):
        Policy(1, 0, {f"p{i}": Purpose(f"p{i}") for i in range(10_001)})


def test_policy_of_too_many_regimes_is_refused_before_they_are_made() -> None:
    codes = [f"X{i}" for i in range(400)]
    with pytest.raises(PolicyTooLarge):
        make_policy(
            {f"p{i}": {} for i in range(300)},
            regimes=[{"purpose": [f"p{i}" for i in range(300)], "jurisdiction": codes, "regime": "opt_in"}],
        )


def test_purpose_under_another_key_is_refused() -> None:
    with pytest.raises(InvalidValue):
        Policy(1, 0, {"a": Purpose("b")})


@pytest.mark.parametrize(
    "code",
    ["EU", "EEA", "UK", "GB", "CH", "DE", "FR", "NO", "IS", "LI", "GR", "EL", "AX", "RE", "DE-BY", "GB-SCT", "CH-ZH"],
)
@pytest.mark.parametrize("purpose", ["*", "marketing"])
@pytest.mark.parametrize("regime", ["opt_out", "notice_only"])
def test_regime_below_opt_in_for_consent_in_europe_is_refused(code: str, purpose: str, regime: str) -> None:
    with pytest.raises(RegimeTooWeak) as caught:
        make_policy(regimes=[make_regime("*", "US", "opt_out"), make_regime(purpose, code, regime)])
    assert caught.value.path == ("regimes", 1)
    assert code in caught.value.message


@pytest.mark.parametrize("code", ["US", "US-CA", "BR", "XX", "EUR", "GBR", "DEN", "US-DE"])
def test_requires_opt_in_elsewhere_is_false(code: str) -> None:
    assert not requires_opt_in(code)
    make_policy(regimes=[make_regime("*", code, "notice_only")])


@pytest.mark.parametrize("basis", ["li", "contract", "legal_obligation", "vital"])
def test_regime_below_opt_in_in_europe_for_another_basis_is_accepted(basis: str) -> None:
    make_policy(
        {"marketing": {}, "other": {"legal_basis": basis}},
        regimes=[make_regime("*", "EU", "opt_in"), make_regime("other", "EU", "opt_out")],
    )


def test_regime_star_below_opt_in_is_accepted_where_every_consent_purpose_has_its_own() -> None:
    entries = [make_regime("*", "EU", "opt_out"), make_regime("marketing", "EU", "opt_in")]
    make_policy({"marketing": {}, "other": {"legal_basis": "li"}}, regimes=entries)
    with pytest.raises(RegimeTooWeak):
        make_policy({"marketing": {}, "second": {}}, regimes=entries)


def test_errors_have_one_reason_each() -> None:
    pending, found = [PolicyError], []
    while pending:
        error = pending.pop()
        found.append(error.reason)
        pending += error.__subclasses__()
    assert len(found) == len(set(found)) >= 12
    assert MalformedDocument.reason in found


def test_error_text_cannot_forge_lines() -> None:
    with pytest.raises(UnknownKey) as caught:
        make_policy({"a": {"x\n\x1b[31mfake:1: " + "y" * 500: 1}})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
