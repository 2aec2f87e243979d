"""Documents and files read back to the policy that they were made of, and nothing makes a parser raise anything but our errors."""

import contextlib
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from consent.policy import (
    Policy,
    PolicyError,
    format_policy,
    format_policy_file,
    load_policy_file,
    parse_policy,
    policy_from_mapping,
)
from tests.property.policy_strategies import NAMES, policies

KEYS = st.sampled_from(
    [
        *("version", "replaces_version", "purposes", "regimes", "callers", "special_categories", "soft_stale_seconds"),
        *("parents", "former_parents", "name", "dropped_in_version", "legal_basis", "gpc", "min_proof", "texts", "en"),
        *("title", "description", "purpose", "jurisdiction", "regime", "data_categories", "marketing"),
        *("journal_modes_permitted", "async"),
    ]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.floats(),
        KEYS,
        st.sampled_from(["EU", "opt_in", "consent", "*"]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, NAMES), inner, max_size=5)),
    max_leaves=25,
)
FRAGMENTS = st.sampled_from(
    [
        *(
            "purposes:",
            "\n",
            "  ",
            "- ",
            "marketing",
            ": ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&x ",
            "*x",
            "!!int ",
            "!t ",
            "|\n",
        ),
        *(
            "regimes:",
            "version: 1",
            "true",
            "null",
            "2025",
            '"',
            "'",
            "# ",
            "? ",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "<<",
        ),
        *(
            "parents: ",
            "texts: ",
            "en: ",
            "title: ",
            "\t",
            "\r",
            "\x00",
            "\u2028",
            "\ud800",
            "\ufeff",
            "@",
            "`",
            ">-\n",
        ),
    ]
)


@given(policies())
def test_document_reads_back_and_is_canonical(policy: Policy) -> None:
    document = format_policy(policy)
    parsed = parse_policy(document)
    assert parsed == policy
    assert format_policy(parsed) == document


@given(policies(), st.text(st.characters(codec="utf-8"), max_size=20))
def test_file_reads_back(policy: Policy, comment: str) -> None:
    assert load_policy_file(format_policy_file(policy, comment), "p.yaml") == policy


@given(policies(), st.data())
def test_parse_policy_any_other_bytes_are_refused_or_another_policy(policy: Policy, data: st.DataObject) -> None:
    document = bytearray(format_policy(policy))
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != document[at]))
    try:
        parsed = parse_policy(bytes(document))
    except PolicyError:
        return
    assert parsed != policy
    assert format_policy(parsed) == document


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
@example(b"\xef\xbb\xbf{}")
def test_parse_policy_hostile_bytes_raise_only_our_errors(document: bytes) -> None:
    with contextlib.suppress(PolicyError):
        parse_policy(document)


@given(VALUES)
def test_policy_from_mapping_any_data_raises_only_our_errors(mapping: Any) -> None:
    with contextlib.suppress(PolicyError):
        policy_from_mapping(mapping)


@given(st.one_of(st.lists(FRAGMENTS, max_size=25).map("".join), st.text(max_size=40)))
def test_load_policy_file_any_text_raises_only_our_errors_with_a_line(text: str) -> None:
    try:
        load_policy_file(text, "p.yaml")
    except PolicyError as error:
        name, line, _ = str(error).split(":", 2)
        assert name == "p.yaml"
        assert 1 <= int(line) <= text.count("\n") + text.count("\r") + text.count("\u2028") + text.count("\u0085") + 2
