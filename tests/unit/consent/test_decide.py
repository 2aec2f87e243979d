"""Rules whose fine print the vectors do not reach; the vectors themselves run in tests/conformance."""

from dataclasses import replace
from typing import Any

import pytest

from consent.decide import Decision, Freshness, Request, RuleResult, decide
from consent.state import UNKNOWN_SUBJECT, Override, SubjectView
from consent.vocabulary.directive import AgeBand, Directive, Facts, Kind
from consent.vocabulary.reason import Effect, Reason
from tests.fakes.histories import FRESH, NOW_MS, POLICY, make_policy

_DAY = 86_400_000


def question(*purposes: str, **changes: Any) -> Request:
    return replace(Request(purposes=purposes, now_ms=NOW_MS, facts=Facts(AgeBand.ADULT, ("US-CA",))), **changes)


def directive(seq: int, purpose: str, kind: Kind = Kind.OPT_OUT, **changes: Any) -> Directive:
    base = Directive(seq, purpose, kind, NOW_MS - _DAY + seq * 600_000, proof=3, assurance=2, notice_version=1)
    return replace(base, **changes)


def view(*directives: Directive, **changes: Any) -> SubjectView:
    return SubjectView(
        denials=tuple(d for d in directives if not d.is_grant),
        grants=tuple(d for d in directives if d.is_grant),
        is_known=bool(directives),
        **changes,
    )


def test_decide_no_purpose_left_after_duplicates_counts_once() -> None:
    rules: list[RuleResult] = []
    decide(question("root", "root"), [UNKNOWN_SUBJECT], POLICY, FRESH, rules)
    assert [rule.rule for rule in rules if rule.purpose] == list(range(5, 18))


def test_decide_first_denied_purpose_in_sorted_order_is_the_answer() -> None:
    answer = decide(
        question("right", "left", "root"), [view(directive(1, "left"), directive(2, "right"))], POLICY, FRESH
    )
    assert (answer.reason, answer.purpose, answer.deciding_seq) == (Reason.OPT_OUT, "left", 1)


def test_decide_all_allowed_for_different_reasons_says_so() -> None:
    answer = decide(question("contract", "left"), [UNKNOWN_SUBJECT], POLICY, FRESH)
    assert (answer.effect, answer.reason) == (Effect.ALLOW, Reason.ALL_PURPOSES_ALLOWED)


def test_decide_latest_of_two_live_denials_gives_the_reason() -> None:
    answer = decide(
        question("leaf"), [view(directive(5, "root"), directive(9, "*"), directive(7, "leaf"))], POLICY, FRESH
    )
    assert (answer.reason, answer.deciding_seq) == (Reason.GLOBAL_OPT_OUT, 9)


def test_decide_grant_of_another_identifier_named_together_lifts_nothing() -> None:
    denied, granted = view(directive(1, "leaf")), view(directive(2, "leaf", Kind.GRANT))
    assert decide(question("leaf"), [denied, granted], POLICY, FRESH).reason is Reason.OPT_OUT


def test_decide_denial_behind_an_unproven_link_is_never_lifted() -> None:
    shared = view(directive(9, "leaf", Kind.GRANT), shared_denials=(directive(1, "leaf"),))
    assert decide(question("leaf"), [shared], POLICY, FRESH).reason is Reason.OPT_OUT


@pytest.mark.parametrize(("offset_ms", "reason"), [(300_000, Reason.OPT_OUT), (300_001, Reason.GRANTED)])
def test_decide_grant_within_the_clock_skew_does_not_lift(offset_ms: int, reason: Reason) -> None:
    denial = directive(1, "leaf", occurred_at_ms=NOW_MS - _DAY)
    grant = directive(2, "leaf", Kind.GRANT, occurred_at_ms=NOW_MS - _DAY + offset_ms)
    assert decide(question("leaf"), [view(denial, grant)], POLICY, FRESH).reason is reason


@pytest.mark.parametrize(("expires_in_ms", "reason"), [(300_000, Reason.CONSENT_EXPIRED), (300_001, Reason.GRANTED)])
def test_decide_grant_that_ends_within_the_clock_skew_is_not_usable(expires_in_ms: int, reason: Reason) -> None:
    grant = directive(1, "leaf", Kind.GRANT, expires_at_ms=NOW_MS + expires_in_ms)
    in_eu = question("leaf", facts=Facts(AgeBand.ADULT, ("EU",)))
    assert decide(in_eu, [view(grant)], POLICY, FRESH).reason is reason


def test_decide_copied_denial_needs_a_grant_after_its_floor() -> None:
    copied = directive(1, "leaf", floor_seq=5)
    for seq, reason in ((4, Reason.OPT_OUT), (6, Reason.GRANTED)):
        grant = directive(seq, "leaf", Kind.GRANT)
        assert decide(question("leaf"), [view(copied, grant)], POLICY, FRESH).reason is reason


def test_decide_override_lifts_the_named_objection_alone() -> None:
    overridden = frozenset({Override("left", 1)})
    one = view(directive(1, "left", Kind.OBJECT), overrides=overridden)
    two = view(directive(1, "left", Kind.OBJECT), directive(2, "left", Kind.OBJECT), overrides=overridden)
    assert decide(question("left"), [one], POLICY, FRESH).effect is Effect.ALLOW
    assert decide(question("left"), [two], POLICY, FRESH).deciding_seq == 2


def test_decide_hinted_jurisdiction_tightens_and_never_takes_the_place_of_a_stated_one() -> None:
    nowhere = question("left", facts=Facts(AgeBand.ADULT))
    hinted = view(hinted=Facts(jurisdictions=("US-CA",)))
    assert decide(nowhere, [hinted], POLICY, FRESH).reason is Reason.NO_CONSENT_SUBJECT_UNKNOWN
    strict = view(hinted=Facts(jurisdictions=("EU",)))
    assert decide(question("left"), [strict], POLICY, FRESH).reason is Reason.NO_CONSENT_SUBJECT_UNKNOWN


def test_decide_hinted_age_does_not_end_the_doubt_of_a_purpose_for_minors() -> None:
    unstated = question("kids", facts=Facts(AgeBand.UNSPECIFIED, ("US-CA",)))
    own_login = view(directive(1, "kids", Kind.GRANT), hinted=Facts(AgeBand.TEEN))
    assert decide(unstated, [own_login], POLICY, FRESH).reason is Reason.MINOR_NO_VALID_CONSENT


def test_decide_former_edge_carries_the_denials_from_before_it_was_dropped() -> None:
    dropped = make_policy(
        {"leaf": {"parents": ["left"], "former_parents": [{"name": "right", "dropped_in_version": 1}]}}
    )
    policy = dropped.with_version_seqs({1: 10})
    for seq, reason in ((9, Reason.OPT_OUT_PARENT), (11, Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN)):
        assert decide(question("leaf"), [view(directive(seq, "right"))], policy, FRESH).reason is reason
    for seq, reason in ((9, Reason.OPT_OUT_CHILD), (11, Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN)):
        assert decide(question("right"), [view(directive(seq, "leaf"))], policy, FRESH).reason is reason


@pytest.mark.parametrize("age_ms", [0, 60_000, 60_001, 600_000, 600_001])
def test_decide_stale_exactly_above_the_limits(age_ms: int) -> None:
    answer = decide(question("left"), [view(directive(1, "kids"))], POLICY, Freshness(9, age_ms))
    expected = (
        Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN
        if age_ms <= 60_000
        else Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE
        if age_ms <= 600_000
        else Reason.CACHE_TOO_STALE
    )
    assert answer.reason is expected


def test_decide_broken_cache_denies_whatever_is_asked() -> None:
    answer = decide(question("duty"), [UNKNOWN_SUBJECT], POLICY, Freshness(9, 0, is_intact=False))
    assert answer == Decision(Effect.DENY, Reason.CACHE_INTEGRITY)


def test_decide_valid_until_is_now_without_a_reuse_window() -> None:
    assert decide(question("left"), [UNKNOWN_SUBJECT], POLICY, FRESH).valid_until_ms == NOW_MS


def test_decide_valid_until_is_the_earliest_of_window_expiry_and_staleness() -> None:
    policy = replace(POLICY, reuse_window_seconds=3600)
    soon = directive(1, "left", Kind.GRANT, expires_at_ms=NOW_MS + 400_000)
    assert decide(question("left"), [view(soon)], policy, FRESH).valid_until_ms == NOW_MS + 400_000
    assert decide(question("left"), [view()], policy, Freshness(9, 10_000)).valid_until_ms == NOW_MS + 590_000
    assert decide(question("left"), [view(directive(9, "*"))], policy, FRESH).valid_until_ms == 0
