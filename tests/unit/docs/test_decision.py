"""docs/decision.md against the code: its rules, its reasons, and its worked examples, which are run."""

import re

import pytest

from consent import decide
from consent.policy import Policy, load_policy_file
from consent.vocabulary.reason import OPERATIONAL_REASONS, Reason
from feed.policies.shipped import read_default_policy
from tests.unit.docs.pages import code_blocks, read_page, table_rows
from tests.unit.docs.worked_examples import answer_example

PAGE = read_page("docs/decision.md")
EXAMPLES = list(code_blocks(PAGE, "consent"))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy_file(read_default_policy(), "default.yaml")


@pytest.mark.parametrize("block", EXAMPLES, ids=range(len(EXAMPLES)))
def test_worked_example_every_question_is_answered_as_the_page_says(block: str, policy: Policy) -> None:
    answered = list(answer_example(block, policy))
    assert answered
    assert [(one.line, one.decided) for one in answered] == [(one.line, one.expected) for one in answered]


def test_worked_examples_show_every_rule_that_needs_no_broken_sidecar() -> None:
    shown = set(re.findall(r"-> (?:ALLOW|DENY) (\w+)", "\n".join(EXAMPLES)))
    elsewhere = {"INVALID_REQUEST", "CALLER_NOT_PERMITTED_FOR_PURPOSE", "CACHE_INTEGRITY", "PROHIBITED", "NO_SNAPSHOT"}
    first_of_rule = {re.findall(r"`([A-Z_]+)`", row[2])[0] for row in table_rows(PAGE, "The rules") if row[0]}
    assert first_of_rule - shown == elsewhere


def test_rules_table_numbers_are_those_of_the_function() -> None:
    numbers = [int(row[0]) for row in table_rows(PAGE, "The rules") if row[0]]
    assert numbers == [1, 2, 3, 4, *(rule for rule, _ in decide._PURPOSE_RULES)]


def test_rules_table_effect_of_a_row_is_that_of_its_reasons() -> None:
    allowing = {"MANDATORY_BASIS", "GRANTED", "NO_CHOICE_REQUIRED", "DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN"}
    for row in table_rows(PAGE, "The rules"):
        reasons = re.findall(r"`([A-Z_]+)`", row[2])
        assert row[2].startswith("ALLOW" if reasons[0] in allowing else "DENY"), row


def test_page_names_every_reason() -> None:
    named = set(re.findall(r"`([A-Z_]+)`", PAGE))
    assert [reason.value for reason in Reason if reason.value not in named] == []


def test_page_lists_exactly_the_reasons_that_every_caller_sees() -> None:
    (paragraph,) = re.findall(r"^\*\*What a caller sees\.\*\*.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([A-Z_]+)`", paragraph)) == {reason.value for reason in OPERATIONAL_REASONS}
