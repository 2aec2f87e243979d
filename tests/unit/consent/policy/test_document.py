"""The canonical document."""

import json
from typing import Any

import pytest

from consent.policy import (
    MAX_DOCUMENT_BYTES,
    DuplicateKey,
    FormerParent,
    InvalidValue,
    LegalBasis,
    MalformedDocument,
    Policy,
    PolicyError,
    PolicyTooLarge,
    Purpose,
    PurposeText,
    Regime,
    format_policy,
    parse_policy,
)
from tests.unit.consent.policy.policies import make_policy

SMALL = b'{"purposes":{"marketing":{}},"replaces_version":0,"version":1}'
FULL = Policy(
    version=3,
    replaces_version=2,
    purposes={
        "werbung für": Purpose(
            "werbung für",
            parents=("b", "a"),
            former_parents=(FormerParent("c", 2),),
            legal_basis=LegalBasis.LEGITIMATE_INTEREST,
            direct_marketing=True,
            gpc=True,
            art18_exempt=True,
            min_proof=2,
            regrant_proof=3,
            min_notice=4,
            stale_grace_seconds=5,
            concrete=True,
            minors=True,
            data_categories=frozenset({"health", "age"}),
            retired=True,
            dpv="https://w3id.org/dpv#Marketing",
            texts={"de": PurposeText("Für", 'Zeile "1"\nZeile 2 \U0001f600'), "en": PurposeText("For")},
        ),
        **{name: Purpose(name) for name in "abc"},
    },
    special_categories=frozenset({"health", "biometric"}),
    regimes={("*", "US"): Regime.OPT_OUT, ("a", "EU"): Regime.PROHIBITED},
    callers={"mailer": frozenset({"b", "a"}), "all": frozenset({"*"}), "none": frozenset()},
    soft_stale_seconds=61,
    clock_skew_seconds=299,
    reuse_window_seconds=1,
    journal_modes_permitted=frozenset({"async", "allow_and_count"}),
)


def test_format_policy_leaves_defaults_out() -> None:
    assert format_policy(make_policy()) == SMALL


def test_format_policy_is_the_same_whatever_the_order() -> None:
    first = make_policy({"a": {}, "b": {"data_categories": ["x", "y"]}}, callers={"p": ["b", "a"], "o": ["a"]})
    second = make_policy({"b": {"data_categories": ["y", "x"]}, "a": {}}, callers={"o": ["a"], "p": ["a", "b"]})
    assert format_policy(first) == format_policy(second)


def test_parse_policy_reads_back_every_field() -> None:
    assert parse_policy(format_policy(FULL)) == FULL


def test_format_policy_writes_every_field_of_the_shape() -> None:
    assert json.loads(format_policy(FULL)) == {
        "version": 3,
        "replaces_version": 2,
        "soft_stale_seconds": 61,
        "clock_skew_seconds": 299,
        "reuse_window_seconds": 1,
        "special_categories": ["biometric", "health"],
        "journal_modes_permitted": ["allow_and_count", "async"],
        "regimes": [
            {"purpose": "*", "jurisdiction": "US", "regime": "opt_out"},
            {"purpose": "a", "jurisdiction": "EU", "regime": "prohibited"},
        ],
        "callers": {"all": ["*"], "mailer": ["a", "b"], "none": []},
        "purposes": {
            "a": {},
            "b": {},
            "c": {},
            "werbung für": {
                "parents": ["b", "a"],
                "former_parents": [{"name": "c", "dropped_in_version": 2}],
                "legal_basis": "li",
                "direct_marketing": True,
                "gpc": True,
                "art18_exempt": True,
                "min_proof": 2,
                "regrant_proof": 3,
                "min_notice": 4,
                "stale_grace_seconds": 5,
                "concrete": True,
                "minors": True,
                "data_categories": ["age", "health"],
                "retired": True,
                "dpv": "https://w3id.org/dpv#Marketing",
                "texts": {
                    "de": {"title": "Für", "description": 'Zeile "1"\nZeile 2 \U0001f600'},
                    "en": {"title": "For"},
                },
            },
        },
    }


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"\xef\xbb\xbf" + SMALL,
        b"{",
        SMALL[:-1],
        SMALL + b"\n",
        b" " + SMALL,
        SMALL.replace(b":", b": "),
        SMALL.replace(b"marketing", b"m\\u0061rketing"),
        b'{"version":1,"replaces_version":0,"purposes":{"marketing":{}}}',
        b'{"purposes":{"marketing":{}},"version":1}',
        b'{"purposes":{"marketing":{"min_proof":1}},"replaces_version":0,"version":1}',
        b'{"purposes":{"marketing":{"data_categories":["y","x"]}},"replaces_version":0,"version":1}',
        (
            b'{"purposes":{"a":{},"b":{}},"regimes":[{"jurisdiction":["US"],"purpose":"a","regime":"opt_in"}],'
            b'"replaces_version":0,"version":1}'
        ),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_parse_policy_malformed_or_not_canonical_is_refused(document: bytes) -> None:
    with pytest.raises(MalformedDocument):
        parse_policy(document)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"null", InvalidValue),
        (b"[]", InvalidValue),
        (b"1e3", InvalidValue),
        (b"NaN", InvalidValue),
        (b'{"version":-Infinity}', InvalidValue),
        (b'{"version":' + b"9" * 5000 + b"}", InvalidValue),
        (b'{"purposes":{"a":{},"a":{}}}', DuplicateKey),
        (b'{"purposes":{"\\ud800":{}},"replaces_version":0,"version":1}', InvalidValue),
        (b'{"purposes":{"a":{"texts":{"en":{"title":"\\udfff"}}}},"replaces_version":0,"version":1}', InvalidValue),
        (b" " * (MAX_DOCUMENT_BYTES + 1), PolicyTooLarge),
    ],
)
def test_parse_policy_hostile_values_raise_only_our_errors(document: bytes, error: type[PolicyError]) -> None:
    with pytest.raises(error):
        parse_policy(document)


def test_parse_policy_unknown_key_of_a_newer_version_is_refused() -> None:
    document: dict[str, Any] = json.loads(SMALL) | {"witnesses": 2}
    with pytest.raises(PolicyError) as caught:
        parse_policy(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    assert caught.value.reason == "POLICY_UNKNOWN_KEY"


def test_format_policy_beyond_the_limit_is_refused() -> None:
    text = {"en": {"title": "T", "description": "x" * 4000}}
    with pytest.raises(PolicyTooLarge):
        format_policy(make_policy({f"p{i}": {"texts": text} for i in range(1100)}))
