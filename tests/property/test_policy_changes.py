"""A policy that may follow another undoes nothing, and what is not called relaxing relaxes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from consent.policy import (
    ForbiddenReplacement,
    LegalBasis,
    Policy,
    Purpose,
    check_replacement,
    describe_changes,
    format_policy,
    policy_from_mapping,
    policy_to_mapping,
)
from tests.property.policy_strategies import JURISDICTIONS, followers, policies

PAIRS = policies().flatmap(lambda old: st.tuples(st.just(old), followers(old)))


@given(PAIRS)
def test_replacement_that_passes_keeps_every_way_a_denial_flows(pair: tuple[Policy, Policy]) -> None:
    old, new = pair
    try:
        check_replacement(old, new)
    except ForbiddenReplacement:
        return
    assert set(old.purposes) <= set(new.purposes)
    for name, purpose in old.purposes.items():
        former = dict(new.former_ancestors(name))
        # Recorded until now, so under a version below the new one.
        for ancestor in old.ancestors(name):
            assert ancestor in new.ancestors(name) or former[ancestor] == new.version
        for ancestor, version in old.former_ancestors(name):
            assert ancestor == name or ancestor in new.ancestors(name) or former[ancestor] >= version
        assert purpose.is_mandatory or not new.purposes[name].is_mandatory
        assert purpose.art18_exempt or not new.purposes[name].art18_exempt


@given(policies())
def test_replacement_by_the_same_content_passes_and_shows_no_change(old: Policy) -> None:
    mapping = policy_to_mapping(old) | {"version": old.version + 1, "replaces_version": old.version}
    new = policy_from_mapping(mapping)
    check_replacement(old, new)
    assert describe_changes(old, new) == []


@given(PAIRS)
def test_changes_are_empty_only_for_the_same_content(pair: tuple[Policy, Policy]) -> None:
    old, new = pair
    mapping = policy_to_mapping(old) | {"version": new.version, "replaces_version": new.replaces_version}
    same = format_policy(policy_from_mapping(mapping)) == format_policy(new)
    reordered = any(
        set(old.purposes[name].parents) == set(purpose.parents) and old.purposes[name].parents != purpose.parents
        for name, purpose in new.purposes.items()
        if name in old.purposes
    )
    assert reordered or (describe_changes(old, new) == []) == same


@given(PAIRS)
def test_changes_without_a_relaxing_one_leave_everything_as_strict(pair: tuple[Policy, Policy]) -> None:
    old, new = pair
    if any(change.relaxing for change in describe_changes(old, new)):
        return
    assert new.soft_stale_seconds <= old.soft_stale_seconds
    assert new.clock_skew_seconds >= old.clock_skew_seconds
    assert new.reuse_window_seconds <= old.reuse_window_seconds
    assert new.journal_modes_permitted <= old.journal_modes_permitted
    for name in new.purposes:
        after, before = new.find_purpose(name), old.find_purpose(name)
        if after is not None:
            assert before is not None
            assert_as_strict(before, after, old, new)
            assert_flows_as_before(name, old, new)
            assert all(new.regime(name, [code]) >= old.regime(name, [code]) for code in (*JURISDICTIONS, "ZZ"))
            for caller in {*old.callers, *new.callers, "stranger"}:
                assert old.is_caller_permitted(caller, [name]) or not new.is_caller_permitted(caller, [name])


def assert_flows_as_before(name: str, old: Policy, new: Policy) -> None:
    # Grants reach no further, denials no less far.
    assert new.ancestors(name) == old.ancestors(name)
    assert new.descendants(name) >= old.descendants(name) or new.purposes[name].concrete
    former = dict(new.former_ancestors(name))
    assert all(former[ancestor] >= version for ancestor, version in old.former_ancestors(name))


def assert_as_strict(before: Purpose, after: Purpose, old: Policy, new: Policy) -> None:
    assert after.min_proof >= before.min_proof
    assert after.regrant_proof >= before.regrant_proof
    assert after.min_notice >= before.min_notice
    assert after.stale_grace_seconds <= before.stale_grace_seconds
    assert after.gpc >= before.gpc
    assert after.minors >= before.minors
    assert after.direct_marketing >= before.direct_marketing
    assert after.concrete <= before.concrete
    assert after.art18_exempt <= before.art18_exempt
    assert after.data_categories & new.special_categories >= before.data_categories & old.special_categories
    assert after.legal_basis in (before.legal_basis, LegalBasis.CONSENT) or before.is_mandatory
