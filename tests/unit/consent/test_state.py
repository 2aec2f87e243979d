"""What links share, what an UNLINK leaves behind, and what folding keeps."""

from dataclasses import replace

import pytest

from consent.event import DirectiveEvent, FactEvent, LinkEvent, RestrictionEvent, UnlinkEvent
from consent.state import Cluster, fold_event
from consent.vocabulary.directive import AgeBand, Facts, Kind
from tests.fakes.histories import ORIGIN, fold

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
_MINUTE = 60_000


def opt_out(token: bytes, purpose: str = "p", minute: int = 0, kind: Kind = Kind.OPT_OUT) -> DirectiveEvent:
    return DirectiveEvent(
        origin=ORIGIN, token=token, kind=kind, occurred_at_ms=minute * _MINUTE, purpose=purpose, proof=1, assurance=1
    )


def grant(token: bytes, purpose: str = "p", minute: int = 30) -> DirectiveEvent:
    return replace(opt_out(token, purpose, minute, Kind.GRANT), proof=3, assurance=2, notice_version=1)


def link(left: bytes, right: bytes, proof: int) -> LinkEvent:
    return LinkEvent(origin=ORIGIN, left=left, right=right, proof=proof, occurred_at_ms=0)


def unlink(left: bytes, right: bytes) -> UnlinkEvent:
    return UnlinkEvent(origin=ORIGIN, left=left, right=right, occurred_at_ms=0)


def seqs(directives: tuple[object, ...]) -> list[int]:
    return [directive.seq for directive in directives]  # type: ignore[attr-defined]


def test_link_proven_shares_denials_and_grants() -> None:
    view = fold([opt_out(A), grant(B), link(A, B, proof=2)])[A].view(A)
    assert (seqs(view.denials), seqs(view.grants), view.shared_denials) == ([1], [2], ())


def test_link_unproven_shares_denials_only() -> None:
    state = fold([opt_out(A), grant(B), link(A, B, proof=1)])
    assert seqs(state[A].view(B).shared_denials) == [1]
    assert seqs(state[A].view(A).grants) == []
    assert state[A].view(A).is_known


def test_link_any_proof_shares_a_restriction() -> None:
    restriction = RestrictionEvent(origin=ORIGIN, token=A, restricted=True, proof=0, occurred_at_ms=0)
    assert fold([restriction, link(A, B, proof=0)])[B].view(B).restricted_seq == 1


def test_link_to_itself_changes_nothing() -> None:
    assert fold([link(A, A, proof=3)]) == {}


def test_unlink_leaves_every_denial_on_both_sides_with_its_own_seq() -> None:
    state = fold([opt_out(A), opt_out(B, "q"), grant(A), link(A, B, proof=2), unlink(A, B)])
    assert seqs(state[A].view(A).denials) == [1, 2]
    assert seqs(state[B].view(B).denials) == [1, 2]
    assert seqs(state[B].view(B).grants) == []
    assert len(state[A].members) == len(state[B].members) == 1


def test_unlink_one_of_two_paths_keeps_the_cluster() -> None:
    state = fold([link(A, B, 2), link(B, C, 2), link(A, C, 2), opt_out(C), unlink(A, C)])
    assert [member.token for member in state[A].members] == [A, B, C]
    assert seqs(state[A].view(A).denials) == [4]


def test_unlink_denial_from_behind_an_unproven_link_cannot_be_lifted_by_an_older_grant() -> None:
    state = fold([opt_out(A), grant(B), link(A, B, proof=0), unlink(A, B)])
    (copied,) = state[B].view(B).denials
    assert (copied.seq, copied.lift_after_seq) == (1, 4)


def test_unlink_denial_from_behind_a_proven_link_keeps_its_seq_as_the_floor() -> None:
    state = fold([opt_out(A), grant(B), link(A, B, proof=2), unlink(A, B)])
    (copied,) = state[B].view(B).denials
    assert copied.lift_after_seq == 1


def test_unlink_facts_stay_behind_as_hints() -> None:
    child = FactEvent(origin=ORIGIN, token=A, age_band=AgeBand.CHILD, proof=3, occurred_at_ms=0, jurisdictions=("EU",))
    state = fold([child, link(A, B, proof=3), unlink(A, B)])
    assert state[B].view(B).hinted == Facts(AgeBand.CHILD, ("EU",))
    assert state[A].view(A).stated == Facts(AgeBand.CHILD, ("EU",))


def test_unlink_of_what_is_not_linked_changes_nothing() -> None:
    before = fold([opt_out(A), opt_out(B)])
    assert fold([unlink(A, B)], before, first_seq=3) == before


def test_fact_with_proof_replaces_and_without_it_only_tightens() -> None:
    proven = FactEvent(origin=ORIGIN, token=A, age_band=AgeBand.ADULT, proof=2, occurred_at_ms=0)
    hint = replace(proven, age_band=AgeBand.TEEN, proof=1)
    assert fold([hint, proven])[A].view(A).hinted == Facts()
    view = fold([proven, hint])[A].view(A)
    assert (view.stated.age_band, view.hinted.age_band) == (AgeBand.ADULT, AgeBand.TEEN)


def test_restriction_is_lifted_only_with_proof() -> None:
    set_it = RestrictionEvent(origin=ORIGIN, token=A, restricted=True, proof=0, occurred_at_ms=0)
    unproven, proven = replace(set_it, restricted=False, proof=1), replace(set_it, restricted=False, proof=2)
    assert fold([set_it, unproven])[A].view(A).restricted_seq == 1
    assert fold([set_it, proven])[A].view(A).restricted_seq == 0


def test_fold_later_denial_takes_the_place_of_an_earlier_one() -> None:
    assert seqs(fold([opt_out(A), opt_out(A, minute=1)])[A].members[0].directives) == [2]


@pytest.mark.parametrize(
    "later",
    [
        replace(opt_out(A, minute=1), assurance=0),
        opt_out(A, "q", minute=1),
        opt_out(A, minute=-1),
        opt_out(A, minute=1, kind=Kind.OBJECT),
        opt_out(B, minute=1),
    ],
    ids=["less assurance", "other purpose", "said earlier", "an objection", "other token"],
)
def test_fold_denial_that_is_easier_to_lift_leaves_the_earlier_one(later: DirectiveEvent) -> None:
    state = fold([opt_out(A), later])
    assert 1 in seqs(state[A].members[0].directives)


def test_fold_policy_that_dropped_an_edge_keeps_the_denial_from_before_it() -> None:
    state = fold([opt_out(A)])
    state.update(fold_event(opt_out(A, minute=1), 3, state.get, policy_drops=(2,)))
    assert seqs(state[A].members[0].directives) == [1, 3]


def test_view_of_a_token_that_is_no_member_is_an_error() -> None:
    with pytest.raises(KeyError):
        Cluster(fold([opt_out(A)])[A].members).find(B)


@pytest.mark.parametrize("proof", [4, 77, 255])
def test_fold_proof_that_is_not_known_proves_nothing(proof: int) -> None:
    assert fold([grant(B), link(A, B, proof)])[A].view(A).grants == ()
    set_it = RestrictionEvent(origin=ORIGIN, token=A, restricted=True, proof=0, occurred_at_ms=0)
    assert fold([set_it, replace(set_it, restricted=False, proof=proof)])[A].view(A).restricted_seq == 1
    child = FactEvent(origin=ORIGIN, token=A, age_band=AgeBand.CHILD, proof=3, occurred_at_ms=0)
    assert (
        fold([child, replace(child, age_band=AgeBand.ADULT, proof=proof)])[A].view(A).stated.age_band == AgeBand.CHILD
    )


def test_fold_age_band_that_is_not_known_counts_as_a_child() -> None:
    unknown = FactEvent(origin=ORIGIN, token=A, age_band=9, proof=3, occurred_at_ms=0)
    assert fold([unknown])[A].view(A).stated.age_band == AgeBand.CHILD


def test_fold_grant_with_an_unknown_flag_is_kept_and_never_usable() -> None:
    (directive,) = fold([replace(grant(A), flags=1 << 40)])[A].view(A).grants
    assert not directive.is_sound
    (denial,) = fold([replace(opt_out(A), flags=1 << 40)])[A].view(A).denials
    assert denial.seq == 1


def test_unlink_and_link_again_many_times_keeps_one_copy_of_each_denial() -> None:
    events = [opt_out(A), opt_out(B, "q")]
    for _ in range(12):
        events += [link(A, B, 0), unlink(A, B)]  # type: ignore[list-item]
    state = fold(events)
    assert seqs(state[A].members[0].directives) == [1, 2]
    assert seqs(state[B].members[0].directives) == [1, 2]
