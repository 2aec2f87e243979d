"""The policy file: what it may hold, and where its errors point."""

import pytest

from consent.policy import (
    CyclicPolicy,
    DuplicateKey,
    DuplicatePurpose,
    InvalidValue,
    MalformedDocument,
    PolicyError,
    PolicyTooLarge,
    Regime,
    RegimeTooWeak,
    UnknownKey,
    UnknownParent,
    UnknownPurpose,
    format_policy_file,
    load_policy_file,
)
from tests.unit.consent.policy.test_document import FULL

GOOD = """\
# a comment
version: 2
special_categories: [health]
purposes:
  marketing: {}
  newsletter:
    parents:
      - marketing
    direct_marketing: true
    texts:
      en:
        title: Newsletter
        description: >-
          We send you
          our newsletter.
  service: {legal_basis: contract, min_notice: 2}
regimes:
  - {purpose: "*", jurisdiction: [EU, NO], regime: opt_in}
  - purpose: [marketing, newsletter]
    jurisdiction: US-CA
    regime: opt_out
callers:
  mailer: [newsletter]
"""


def test_load_policy_file_reads_what_people_write() -> None:
    policy = load_policy_file(GOOD, "p.yaml")
    assert (policy.version, policy.replaces_version) == (2, 1)
    assert policy.purposes["newsletter"].parents == ("marketing",)
    assert policy.purposes["newsletter"].texts["en"].description == "We send you our newsletter."
    assert policy.regimes == {
        ("*", "EU"): Regime.OPT_IN,
        ("*", "NO"): Regime.OPT_IN,
        ("marketing", "US-CA"): Regime.OPT_OUT,
        ("newsletter", "US-CA"): Regime.OPT_OUT,
    }
    assert policy.callers == {"mailer": frozenset({"newsletter"})}


def test_load_policy_file_norway_is_not_false() -> None:
    policy = load_policy_file(
        "purposes: {on: {}}\nregimes: [{purpose: on, jurisdiction: NO, regime: opt_in}]", "p.yaml"
    )
    assert policy.regimes == {("on", "NO"): Regime.OPT_IN}


def test_load_policy_file_with_mark_and_crlf_is_read() -> None:
    assert load_policy_file("\ufeff" + GOOD.replace("\n", "\r\n"), "p.yaml") == load_policy_file(GOOD, "p.yaml")


def test_load_policy_file_decomposed_letters_are_composed() -> None:
    assert set(load_policy_file("purposes: {fu\u0308r: {}}", "p.yaml").purposes) == {"f\u00fcr"}


def test_load_policy_file_number_as_name_is_text() -> None:
    assert set(load_policy_file("purposes: {2025: {}, true: {}, null: {}}", "p.yaml").purposes) == {
        "2025",
        "true",
        "null",
    }


def break_line(line: str, replacement: str) -> str:
    assert GOOD.count(line) == 1
    return GOOD.replace(line, replacement)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            break_line("      - marketing", "      - markting"),
            UnknownParent,
            "p.yaml:8: purposes.newsletter.parents[0]: unknown parent 'markting'; did you mean 'marketing'?",
        ),
        (
            break_line("    direct_marketing: true", "    direct_marking: true"),
            UnknownKey,
            "p.yaml:9: purposes.newsletter.direct_marking: unknown key; did you mean 'direct_marketing'?",
        ),
        (
            break_line("    direct_marketing: true", "    direct_marketing: yes"),
            InvalidValue,
            "p.yaml:9: purposes.newsletter.direct_marketing: is 'yes', must be true or false",
        ),
        (
            break_line("  service:", "  newsletter:"),
            DuplicatePurpose,
            "p.yaml:16: purposes: the purpose 'newsletter' is already defined on line 6",
        ),
        (
            break_line("    direct_marketing: true", "    parents: []"),
            DuplicateKey,
            "p.yaml:9: purposes.newsletter: the key 'parents' already stands on line 7",
        ),
        (
            break_line("legal_basis: contract", "legal_basis: contrct"),
            InvalidValue,
            (
                "p.yaml:16: purposes.service.legal_basis: is 'contrct', must be one of consent, li, contract, "
                "legal_obligation, vital; did you mean 'contract'?"
            ),
        ),
        (
            break_line("min_notice: 2", "min_notice: two"),
            InvalidValue,
            "p.yaml:16: purposes.service.min_notice: is 'two', must be a whole number",
        ),
        (
            break_line("    regime: opt_out", "    regime: opt-out"),
            InvalidValue,
            (
                "p.yaml:21: regimes[1].regime: is 'opt-out', must be one of notice_only, opt_out, opt_in, prohibited; "
                "did you mean 'opt_out'?"
            ),
        ),
        (
            break_line("jurisdiction: US-CA", "jurisdiction: DE"),
            RegimeTooWeak,
            (
                "p.yaml:19: regimes[1]: opt_out in DE for 'marketing', whose legal basis is consent: there it must be "
                "opt_in or prohibited"
            ),
        ),
        (
            break_line("purpose: [marketing, newsletter]", "purpose: [marketing, newsleter]"),
            UnknownPurpose,
            "p.yaml:19: regimes[1]: unknown purpose 'newsleter'; did you mean 'newsletter'?",
        ),
        (
            break_line("mailer: [newsletter]", "mailer: [newsletters]"),
            UnknownPurpose,
            "p.yaml:23: callers.mailer: unknown purpose 'newsletters'; did you mean 'newsletter'?",
        ),
        (
            break_line("  marketing: {}", "  marketing: {parents: [newsletter]}"),
            CyclicPolicy,
            (
                "p.yaml:5: purposes.marketing.parents: a purpose cannot be its own ancestor: "
                "marketing -> newsletter -> marketing"
            ),
        ),
        (
            break_line("special_categories:", "special_category:"),
            UnknownKey,
            "p.yaml:3: special_category: unknown key; did you mean 'special_categories'?",
        ),
        ("version: 1\n", InvalidValue, "p.yaml:1: the key 'purposes' is missing"),
        ("", InvalidValue, "p.yaml:1: the key 'purposes' is missing"),
        ("- a\n", InvalidValue, "p.yaml:1: is a list, must be a mapping (an empty one is written {})"),
        (
            "purposes:\n  a:\n",
            InvalidValue,
            "p.yaml:2: purposes.a: is empty, must be a mapping (an empty one is written {})",
        ),
    ],
)
def test_load_policy_file_error_says_file_line_and_nearest_name(
    text: str, error: type[PolicyError], message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy_file(text, "p.yaml")
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("purposes:\n  a: {\n", 3, "not readable"),
        ("purposes:\n\ta: {}\n", 2, "not readable"),
        ("purposes: {}\n---\npurposes: {}\n", 2, "another document"),
        ("purposes:\n  a: &x {}\n  b: *x\n", 2, "anchors and aliases"),
        ("purposes:\n  b: *x\n", 2, "anchors and aliases"),
        ("purposes:\n  a: !!python/object/apply:os.system [ls]\n", 2, "tags are not allowed"),
        ("purposes:\n  a: !mine {}\n", 2, "tags are not allowed"),
        ("purposes:\n  a: !!set {x}\n", 2, "tags are not allowed"),
        ("purposes:\n  a: {gpc: !!bool x}\n", 2, "tags are not allowed"),
        ("purposes:\n  a: {min_proof: !!int x}\n", 2, "tags are not allowed"),
        ("purposes:\n  a: {min_proof: ! 1}\n", 2, "tags are not allowed"),
        ("purposes:\n  ? [a]\n  : {}\n", 2, "a key must be text"),
        ("purposes:\n  " + "[" * 5000, 2, "nested too deeply"),
        ("purposes:\n  a: \x07\n", 2, "does not allow"),
        ("purposes:\n  a: \ud800\n", 2, "does not allow"),
        ("%YAML 3.0\n---\npurposes: {}\n", 1, "not readable"),
    ],
)
def test_load_policy_file_malformed_is_refused_with_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(MalformedDocument) as caught:
        load_policy_file(text, "p.yaml")
    assert str(caught.value).startswith(f"p.yaml:{line}: ")
    assert part in str(caught.value)


def test_load_policy_file_merge_key_is_an_unknown_key() -> None:
    with pytest.raises(UnknownKey):
        load_policy_file("purposes:\n  a: {<<: {gpc: true}}\n", "p.yaml")


def test_load_policy_file_huge_is_refused() -> None:
    with pytest.raises(PolicyTooLarge) as caught:
        load_policy_file("#" * (4 * 1024 * 1024 + 1), "p.yaml")
    assert str(caught.value).startswith("p.yaml: ")


def test_load_policy_file_that_no_document_could_carry_is_refused() -> None:
    # A list of places per regime makes much of little.
    names = ", ".join(f"p{i}" for i in range(500))
    codes = ", ".join(f"X{i}" for i in range(190))
    text = f"purposes: {{{', '.join(f'p{i}: {{}}' for i in range(500))}}}\nregimes:\n"
    with pytest.raises(PolicyTooLarge) as caught:
        load_policy_file(text + f"- {{purpose: [{names}], jurisdiction: [{codes}], regime: opt_in}}", "p.yaml")
    assert str(caught.value).startswith("p.yaml:1: the document would have ")


def test_format_policy_file_reads_back_every_field() -> None:
    text = format_policy_file(FULL, "Two lines\nof comment")
    assert text.startswith("# Two lines\n# of comment\n\nversion: 3\n")
    assert load_policy_file(text, "p.yaml") == FULL
