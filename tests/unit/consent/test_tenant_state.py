"""Policies and key epochs as the log tells them."""

import pytest

from consent.errors import MalformedState
from consent.event import DirectiveEvent, EnrolEvent, Event, KeyEpochEvent, PolicyEvent, RetireEvent
from consent.key_ring import commit_key
from consent.policy import PolicyError, format_policy, policy_from_mapping
from consent.state_record import format_tenant, parse_tenant
from consent.tenant_state import EMPTY_TENANT, EnrolledSidecar, EventOutOfOrder, TenantState, fold_tenant_event

KEY = bytes(range(32))


def policy_event(version: int, parents: list[str], former: list[dict[str, object]] | None = None) -> PolicyEvent:
    child: dict[str, object] = {"parents": parents, "legal_basis": "li"}
    if former:
        child["former_parents"] = former
    purposes = {"parent": {"parents": [], "legal_basis": "li"}, "child": child}
    mapping = {"version": version, "replaces_version": version - 1, "purposes": purposes}
    document = format_policy(policy_from_mapping(mapping))
    return PolicyEvent(origin="o", version=version, replaces_version=version - 1, document=document)


def fold(*events: Event) -> TenantState:
    state = EMPTY_TENANT
    for seq, event in enumerate(events, start=1):
        state = fold_tenant_event(state, event, seq)
    return state


def test_fold_tenant_policies_in_order_are_kept_with_their_seqs() -> None:
    state = fold(policy_event(1, ["parent"]), policy_event(2, ["parent"]))
    assert (state.policy_version, state.version_seqs, state.drop_seqs) == (2, ((1, 1), (2, 2)), ())
    policy = state.load_policy()
    assert policy is not None
    assert policy.version_seqs == {1: 1, 2: 2}


def test_fold_tenant_policy_that_drops_an_edge_is_remembered() -> None:
    second = policy_event(2, [], former=[{"name": "parent", "dropped_in_version": 2}])
    assert fold(policy_event(1, ["parent"]), second).drop_seqs == (2,)


def test_fold_tenant_policy_that_drops_an_edge_and_its_memory_is_refused() -> None:
    with pytest.raises(PolicyError):
        fold(policy_event(1, ["parent"]), policy_event(2, []))


@pytest.mark.parametrize("version", [1, 3])
def test_fold_tenant_policy_out_of_order_is_refused(version: int) -> None:
    with pytest.raises((EventOutOfOrder, PolicyError)):
        fold(policy_event(1, ["parent"]), policy_event(version, ["parent"]))


def test_fold_tenant_key_epochs_follow_each_other() -> None:
    epoch = KeyEpochEvent(origin="o", epoch=0, key_commitment=commit_key(KEY))
    assert fold(epoch).key_commitments == (commit_key(KEY),)
    with pytest.raises(EventOutOfOrder):
        fold(epoch, epoch)


def test_fold_tenant_other_events_change_nothing() -> None:
    other = DirectiveEvent(origin="o", token=bytes(16), kind=2, occurred_at_ms=0, purpose="p")
    assert fold_tenant_event(EMPTY_TENANT, other, 1) is EMPTY_TENANT


def test_tenant_record_round_trips() -> None:
    epoch = KeyEpochEvent(origin="o", epoch=0, key_commitment=commit_key(KEY))
    state = fold(policy_event(1, ["parent"]), epoch)
    assert parse_tenant(format_tenant(state)) == state


def test_commit_key_tells_keys_apart() -> None:
    assert commit_key(KEY) != commit_key(bytes(32)) != KEY


def enrol(name: str, key: bytes = KEY) -> EnrolEvent:
    return EnrolEvent(origin="o", sidecar_id=name, public_key=key, enrolled_at_ms=1, possession=bytes(64))


def retire(name: str) -> RetireEvent:
    return RetireEvent(origin="o", sidecar_id=name, retired_at_ms=2)


def test_fold_tenant_sidecars_are_enrolled_replaced_and_retired() -> None:
    state = fold(enrol("pod-b"), enrol("pod-c"), enrol("pod-a"), enrol("pod-b", bytes(32)), retire("pod-c"))
    assert state.sidecars == (EnrolledSidecar("pod-a", KEY, 3), EnrolledSidecar("pod-b", bytes(32), 4))
    assert state.find_sidecar("pod-b") == EnrolledSidecar("pod-b", bytes(32), 4)
    assert [state.find_sidecar(name) for name in ("", "pod-c", "pod-z")] == [None, None, None]


def test_fold_tenant_retirement_of_a_sidecar_that_is_not_enrolled_is_refused() -> None:
    for events in ([retire("pod-a")], [enrol("pod-a"), retire("pod-a"), retire("pod-a")]):
        with pytest.raises(EventOutOfOrder):
            fold(*events)


def test_tenant_record_carries_the_sidecars_in_order() -> None:
    state = fold(enrol("pod-b"), enrol("pod-a"))
    assert parse_tenant(format_tenant(state)) == state
    for sidecars in (state.sidecars[::-1], state.sidecars[:1] * 2):
        with pytest.raises(MalformedState):
            parse_tenant(format_tenant(TenantState(sidecars=sidecars)))
