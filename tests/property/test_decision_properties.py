"""The five properties of docs/decision.md, over thousands of histories."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consent.decide import Freshness, Request, decide
from consent.event import DirectiveEvent, Event, LinkEvent
from consent.policy import Policy
from consent.state import Cluster, Member, fold_event, reach
from consent.state_record import format_cluster, parse_cluster
from consent.vocabulary.directive import SUBJECT_PROOF, Directive, Kind
from consent.vocabulary.reason import Effect
from tests.fakes import histories as h

THOUSANDS = settings(max_examples=1000)
_DENIALS = [kind for kind in Kind if kind is not Kind.GRANT]

_asked_tokens = st.lists(st.sampled_from(h.TOKENS), min_size=1, max_size=2, unique=True)
_policies = st.sampled_from(h.POLICIES)


@THOUSANDS
@given(h.histories(), h.requests(), _policies, st.data())
def test_decide_any_proven_linked_identifier_answers_the_same(
    events: list[Event], request: Request, policy: Policy, data: st.DataObject
) -> None:
    state = h.fold(events)
    assume(state)
    token = data.draw(st.sampled_from(sorted(state)))
    group = reach(state[token].members, token, SUBJECT_PROOF)
    answers = {decide(request, h.views_of(state, [member]), policy, h.FRESH) for member in group}
    assert len(answers) == 1


@THOUSANDS
@given(st.lists(st.one_of(h.directives(), h.links()), max_size=8), h.requests(), _policies, _asked_tokens, st.randoms())
def test_fold_events_that_arrive_in_another_order_answers_the_same(
    events: list[Event], request: Request, policy: Policy, tokens: list[bytes], random: st.DataObject
) -> None:
    numbered = list(enumerate(events, start=1))
    in_order = h.fold(events)
    shuffled = list(numbered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    state: dict[bytes, Cluster] = {}
    for seq, event in shuffled:
        state.update(fold_event(event, seq, state.get))
    first = decide(request, h.views_of(in_order, tokens), policy, h.FRESH)
    assert decide(request, h.views_of(state, tokens), policy, h.FRESH) == first


@THOUSANDS
@given(h.histories(), h.directives(kinds=_DENIALS), h.requests(), _policies, _asked_tokens)
def test_decide_one_more_denial_never_turns_deny_into_allow(
    events: list[Event], denial: DirectiveEvent, request: Request, policy: Policy, tokens: list[bytes]
) -> None:
    before = h.fold(events)
    after = h.fold([denial], before, first_seq=len(events) + 1)
    was = decide(request, h.views_of(before, tokens), policy, h.FRESH)
    now = decide(request, h.views_of(after, tokens), policy, h.FRESH)
    assert not (was.effect is Effect.DENY and now.effect is Effect.ALLOW)


@THOUSANDS
@given(
    h.histories(),
    h.requests(),
    _policies,
    _asked_tokens,
    st.integers(0, 700_000),
    st.integers(0, 700_000),
    st.integers(0, 10**8),
)
def test_decide_less_trust_never_turns_deny_into_allow(
    events: list[Event],
    request: Request,
    policy: Policy,
    tokens: list[bytes],
    age_ms: int,
    older_ms: int,
    later_ms: int,
) -> None:
    state = h.fold(events)
    was = decide(request, h.views_of(state, tokens), policy, Freshness(1000, age_ms))
    assume(was.effect is Effect.DENY)
    weaker = [
        replace(e, proof=max(0, e.proof - 1)) if isinstance(e, DirectiveEvent) and e.kind == Kind.GRANT else e
        for e in events
    ]
    older = Freshness(1000, age_ms + older_ms)
    assert decide(request, h.views_of(state, tokens), policy, older).effect is Effect.DENY
    later = replace(request, now_ms=request.now_ms + later_ms)
    assert decide(later, h.views_of(state, tokens), policy, Freshness(1000, age_ms)).effect is Effect.DENY
    assert decide(request, h.views_of(h.fold(weaker), tokens), policy, Freshness(1000, age_ms)).effect is Effect.DENY
    nothing = Freshness(1000, None)
    # Rule 7 needs a snapshot, or an exempt purpose, so losing the snapshot cannot help either.
    assert decide(request, h.views_of(state, tokens), policy, nothing).effect is Effect.DENY


_without_own_proof = st.lists(
    st.one_of(
        h.directives(kinds=[Kind.GRANT], proofs=(0,)),
        h.directives(kinds=_DENIALS),
        h.links(proofs=(0, 1)),
        h.unlinks(),
        h.facts(proofs=(0, 1)),
        h.restrictions(proofs=(0, 1)),
    ),
    min_size=1,
    max_size=6,
)


@THOUSANDS
@given(h.histories(), _without_own_proof, h.requests(), _policies, _asked_tokens)
def test_decide_imports_links_and_administration_never_turn_deny_into_allow(
    events: list[Event], actions: list[Event], request: Request, policy: Policy, tokens: list[bytes]
) -> None:
    before = h.fold(events)
    was = decide(request, h.views_of(before, tokens), policy, h.FRESH)
    assume(was.effect is Effect.DENY)
    after = h.fold(actions, before, first_seq=len(events) + 1)
    assert decide(request, h.views_of(after, tokens), policy, h.FRESH).effect is Effect.DENY


_unknown_codes = st.sampled_from(
    [("proof", 7), ("proof", 255), ("assurance", 9), ("granted_by", 0), ("granted_by", 200), ("kind", 0), ("kind", 99)]
)


@THOUSANDS
@given(
    h.histories(),
    h.directives(kinds=[Kind.GRANT], proofs=(2, 3)),
    _unknown_codes,
    h.requests(),
    _policies,
    _asked_tokens,
)
def test_decide_grant_with_an_unknown_code_never_helps(
    events: list[Event],
    grant: DirectiveEvent,
    code: tuple[str, int],
    request: Request,
    policy: Policy,
    tokens: list[bytes],
) -> None:
    before = h.fold(events)
    was = decide(request, h.views_of(before, tokens), policy, h.FRESH)
    assume(was.effect is Effect.DENY)
    changed: dict[str, Any] = dict([code])
    after = h.fold([replace(grant, **changed)], before, first_seq=len(events) + 1)
    assert decide(request, h.views_of(after, tokens), policy, h.FRESH).effect is Effect.DENY


@given(h.histories(), h.requests(), _asked_tokens, st.text(min_size=1, max_size=8))
def test_decide_unknown_purpose_and_unknown_jurisdiction_never_allow(
    events: list[Event], request: Request, tokens: list[bytes], name: str
) -> None:
    assume(name not in h.PURPOSES)
    views = h.views_of(h.fold(events), tokens)
    unknown = replace(request, purposes=(*request.purposes, name))
    assert decide(unknown, views, h.POLICY, h.FRESH).effect is Effect.DENY
    was = decide(request, views, h.POLICY, h.FRESH)
    assume(was.effect is Effect.DENY)
    elsewhere = replace(request.facts, jurisdictions=(*request.facts.jurisdictions, "NOWHERE"))
    assert decide(replace(request, facts=elsewhere), views, h.POLICY, h.FRESH).effect is Effect.DENY


@THOUSANDS
@given(h.histories(max_size=14), h.requests(), _policies, _asked_tokens, st.integers(0, 10**8))
def test_fold_folded_state_answers_as_the_whole_history(
    events: list[Event], request: Request, policy: Policy, tokens: list[bytes], later_ms: int
) -> None:
    folded = h.fold(events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directive, "dominates", lambda *_: False)
        whole = h.fold(events)
    later = replace(request, now_ms=request.now_ms + later_ms)
    for question in (request, later):
        expected = decide(question, h.views_of(whole, tokens), policy, h.FRESH)
        assert decide(question, h.views_of(folded, tokens), policy, h.FRESH) == expected


@given(h.histories(max_size=14))
def test_cluster_record_round_trips(events: list[Event]) -> None:
    for cluster in h.fold(events).values():
        record = format_cluster(cluster)
        assert parse_cluster(record) == cluster
        assert format_cluster(parse_cluster(record)) == record


@given(st.lists(h.directives(), min_size=1, max_size=60))
def test_fold_one_member_keeps_no_directive_that_another_dominates(events: list[DirectiveEvent]) -> None:
    state = h.fold([replace(event, token=h.TOKENS[0]) for event in events])
    member: Member = state[h.TOKENS[0]].members[0]
    kept = member.directives
    assert not any(a.dominates(b) for a in kept for b in kept if a is not b)


@given(h.histories(), st.lists(st.integers(1, 5), max_size=6))
def test_fold_any_split_into_batches_gives_the_same_state(events: list[Event], sizes: list[int]) -> None:
    state: dict[bytes, Cluster] = {}
    first = 0
    for size in [*sizes, len(events)]:
        state = h.fold(events[first : first + size], state, first_seq=first + 1)
        first = min(first + size, len(events))
    assert state == h.fold(events)


def test_link_made_again_with_less_proof_keeps_the_better_one() -> None:
    left, right = h.TOKENS[:2]
    strong = LinkEvent(origin=h.ORIGIN, left=left, right=right, proof=3, occurred_at_ms=0)
    state = h.fold([strong, replace(strong, proof=0)])
    assert reach(state[left].members, left, SUBJECT_PROOF) == {left, right}
