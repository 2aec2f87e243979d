"""The fold: from events in the order of the log to the state that decisions need.

A `Cluster` is everything known of one person as far as links tell: its members are tokens, each with its own folded directives. Denials
and restrictions reach every member; grants, and what only a proven link may carry, stay within the members joined by links of proof 2 or
more (a *group*). Folding drops only what can never matter again (`Directive.dominates`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from consent.event import (
    KNOWN_DIRECTIVE_FLAGS,
    DirectiveEvent,
    ErasureEvent,
    Event,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    RestrictionEvent,
    UnlinkEvent,
)
from consent.vocabulary.directive import (
    ANY,
    NO_FACTS,
    SUBJECT_PROOF,
    Assurance,
    Directive,
    Facts,
    Kind,
    Proof,
    known_age_band,
    known_proof,
)


class Override(NamedTuple):
    """An objection that no longer counts for one purpose."""

    purpose: str
    objection_seq: int


class Link(NamedTuple):
    """One end of a link: the other token, and the best proof it was made with."""

    token: bytes
    proof: int


@dataclass(frozen=True, slots=True)
class Member:
    """What is known under one token.

    Attributes:
        token: 16 bytes.
        directives: In the order of the log.
        restricted_seq: Seq of the restriction of processing in force, 0 for none.
        stated: Facts with proof 2 or more.
        hinted: Facts with less: they can only tighten.
        overrides: Overrides given for this token.
        links: Links to other members, sorted by token.
    """

    token: bytes
    directives: tuple[Directive, ...] = ()
    restricted_seq: int = 0
    stated: Facts = NO_FACTS
    hinted: Facts = NO_FACTS
    overrides: tuple[Override, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectView:
    """A cluster as seen from one of its tokens: the input of the decision.

    Attributes:
        denials: Denials of the token's own group: its grants may lift them.
        grants: Grants of the group.
        shared_denials: Denials that came over links without proof of both ends: nothing here lifts them.
        restricted_seq: Seq of a restriction anywhere in the cluster, 0 for none.
        stated: Facts of the group with proof.
        hinted: All other facts of the cluster.
        overrides: Overrides of the group.
        is_known: Whether the cluster has any directive.
    """

    denials: tuple[Directive, ...] = ()
    grants: tuple[Directive, ...] = ()
    shared_denials: tuple[Directive, ...] = ()
    restricted_seq: int = 0
    stated: Facts = NO_FACTS
    hinted: Facts = NO_FACTS
    overrides: frozenset[Override] = frozenset()
    is_known: bool = False


_NO_OVERRIDES = frozenset[Override]()
UNKNOWN_SUBJECT = SubjectView()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The members that links join, sorted by token; most clusters have one."""

    members: tuple[Member, ...]
    _views: dict[bytes, SubjectView] = field(default_factory=dict, compare=False, repr=False)

    def view(self, token: bytes) -> SubjectView:
        """What a question about `token`, one of the members, is decided on."""
        view = self._views.get(token)
        if view is None:
            view = self._views[token] = _make_view(self.members, token)
        return view

    def find(self, token: bytes) -> Member:
        """The member of this token; KeyError where it is none."""
        for member in self.members:
            if member.token == token:
                return member
        raise KeyError("not a member")


FindCluster = Callable[[bytes], Cluster | None]
Changes = Mapping[bytes, Cluster]
"""New cluster of every token that an event touched."""


def reach(members: Iterable[Member], start: bytes, min_proof: int = 0) -> frozenset[bytes]:
    """The tokens that links of at least `min_proof` join to `start`, itself included."""
    links = {member.token: member.links for member in members}
    reached, frontier = {start}, [start]
    while frontier:
        for link in links[frontier.pop()]:
            if link.proof >= min_proof and link.token not in reached:
                reached.add(link.token)
                frontier.append(link.token)
    return frozenset(reached)


def _make_view(members: tuple[Member, ...], token: bytes) -> SubjectView:
    if len(members) == 1:
        return _view_alone(members[0])
    group = reach(members, token, SUBJECT_PROOF)
    own = [member for member in members if member.token in group]
    others = [member for member in members if member.token not in group]
    stated, hinted = NO_FACTS, NO_FACTS
    for member in own:
        stated = stated.combine(member.stated)
    for facts in [member.hinted for member in members] + [member.stated for member in others]:
        hinted = hinted.combine(facts)
    directives = [directive for member in own for directive in member.directives]
    shared = tuple(d for member in others for d in member.directives if not d.is_grant)
    return SubjectView(
        denials=tuple(d for d in directives if not d.is_grant),
        grants=tuple(d for d in directives if d.is_grant),
        shared_denials=shared,
        restricted_seq=max(member.restricted_seq for member in members),
        stated=stated,
        hinted=hinted,
        overrides=frozenset(override for member in own for override in member.overrides),
        is_known=any(member.directives for member in members),
    )


def _view_alone(member: Member) -> SubjectView:
    """The view of a token without links: nearly everybody's, so it is made with as little as possible."""
    directives = member.directives
    return SubjectView(
        denials=tuple([d for d in directives if d.kind != Kind.GRANT]),
        grants=tuple([d for d in directives if d.kind == Kind.GRANT]),
        restricted_seq=member.restricted_seq,
        stated=member.stated,
        hinted=member.hinted,
        overrides=frozenset(member.overrides) if member.overrides else _NO_OVERRIDES,
        is_known=bool(directives),
    )


def fold_event(event: Event, seq: int, find: FindCluster, policy_drops: tuple[int, ...] = ()) -> Changes:
    """Apply one event to the state before it.

    Args:
        event: The event; policies, state roots and informative events change no cluster.
        seq: Its sequence number, larger than that of any event folded before.
        find: Looks up the cluster of a token, None for a token never seen.
        policy_drops: Seqs of the policies that dropped a parent edge: a denial from before such a policy still flows along the edge, so
            no later one may take its place.

    Returns:
        The new cluster of every token concerned.
    """
    match event:
        case DirectiveEvent():
            return _fold_directive(event, seq, find, policy_drops)
        case LinkEvent():
            return _fold_link(event, find)
        case UnlinkEvent():
            return _fold_unlink(event, seq, find, policy_drops)
        case FactEvent():
            return _change_member(find, event.token, lambda m: _with_facts(m, event))
        case RestrictionEvent():
            return _change_member(find, event.token, lambda m: _with_restriction(m, event, seq))
        case OverrideEvent():
            override = Override(event.purpose, event.objection_seq)
            return _change_member(
                find, event.token, lambda m: replace(m, overrides=tuple(sorted({*m.overrides, override})))
            )
        case ErasureEvent():
            return _fold_erasure(event, seq, find)
        case _:
            return {}


def _fold_erasure(event: ErasureEvent, seq: int, find: FindCluster) -> Changes:
    """Whoever is erased becomes a tombstone: one denial of everything under each token, and nothing else.

    It reaches every member of the clusters named, for what was known of one of them was known of all. The denial has the assurance of a
    contact point, so that a person may come back by a double opt-in.
    """
    tombstone = Directive(seq, ANY, Kind.OPT_OUT, event.occurred_at_ms, Proof.NONE, Assurance.CONTACT_POINT)
    members = {member.token for token in event.tokens for member in _find_or_start(find, token).members}
    return {token: Cluster((Member(token, (tombstone,)),)) for token in members}


_NOBODY = 0
"""Stands for who gave a grant that says something this version does not know: nobody's grant is usable."""


def _make_directive(event: DirectiveEvent, seq: int) -> Directive:
    is_understood = event.kind != Kind.GRANT or not event.flags & ~KNOWN_DIRECTIVE_FLAGS
    return Directive(
        seq=seq,
        purpose=event.purpose,
        kind=event.kind,
        occurred_at_ms=event.occurred_at_ms,
        proof=event.proof,
        assurance=event.assurance,
        expires_at_ms=event.expires_at_ms,
        subtree=event.subtree,
        notice_version=event.notice_version,
        recipient=event.recipient,
        explicit=event.explicit,
        granted_by=event.granted_by if is_understood else _NOBODY,
    )


def _find_or_start(find: FindCluster, token: bytes) -> Cluster:
    return find(token) or Cluster((Member(token),))


def _change_member(find: FindCluster, token: bytes, change: Callable[[Member], Member]) -> Changes:
    cluster = _find_or_start(find, token)
    changed = Cluster(tuple(change(member) if member.token == token else member for member in cluster.members))
    return dict.fromkeys((member.token for member in changed.members), changed)


def _fold_directive(event: DirectiveEvent, seq: int, find: FindCluster, policy_drops: tuple[int, ...]) -> Changes:
    new = _make_directive(event, seq)
    # Nearly every event of a log is the first that is heard of somebody, so it is folded with as little as possible.
    if find(event.token) is None:
        return {event.token: Cluster((Member(event.token, (new,)),))}
    return _change_member(find, event.token, lambda m: _with_directive(m, new, policy_drops))


def _with_directive(member: Member, new: Directive, policy_drops: tuple[int, ...]) -> Member:
    def makes_idle(later: Directive, earlier: Directive) -> bool:
        return later.dominates(earlier) and not any(earlier.seq < drop < later.seq for drop in policy_drops)

    # An UNLINK may copy back what another one copied away: of one entry, the copy that is hardest to lift stays.
    same = next((kept for kept in member.directives if kept.seq == new.seq), None)
    if same is not None and same.floor_seq >= new.floor_seq:
        return member
    if any(makes_idle(kept, new) for kept in member.directives):
        return member
    kept = [directive for directive in member.directives if directive is not same and not makes_idle(new, directive)]
    return replace(member, directives=tuple(sorted([*kept, new], key=lambda d: d.seq)))


def _with_facts(member: Member, event: FactEvent) -> Member:
    facts = Facts(known_age_band(event.age_band), tuple(sorted(set(event.jurisdictions))))
    if known_proof(event.proof) >= SUBJECT_PROOF:
        return replace(member, stated=facts, hinted=NO_FACTS)
    return replace(member, hinted=member.hinted.combine(facts))


def _with_restriction(member: Member, event: RestrictionEvent, seq: int) -> Member:
    if event.restricted:
        return replace(member, restricted_seq=seq)
    return replace(member, restricted_seq=0) if known_proof(event.proof) >= SUBJECT_PROOF else member


def _fold_link(event: LinkEvent, find: FindCluster) -> Changes:
    if event.left == event.right:
        return {}
    members = {
        member.token: member for token in (event.left, event.right) for member in _find_or_start(find, token).members
    }
    for token, other in ((event.left, event.right), (event.right, event.left)):
        links = {link.token: link.proof for link in members[token].links}
        # A weaker link made later takes nothing away from a proven one.
        links[other] = max(known_proof(event.proof), links.get(other, 0))
        members[token] = replace(members[token], links=tuple(Link(*item) for item in sorted(links.items())))
    merged = Cluster(tuple(members[token] for token in sorted(members)))
    return dict.fromkeys(members, merged)


def _fold_unlink(event: UnlinkEvent, seq: int, find: FindCluster, policy_drops: tuple[int, ...]) -> Changes:
    before = _find_or_start(find, event.left)
    members = {member.token: member for member in before.members}
    if event.right not in members or event.left == event.right:
        return {}
    for token, other in ((event.left, event.right), (event.right, event.left)):
        kept = tuple(link for link in members[token].links if link.token != other)
        members[token] = replace(members[token], links=kept)
    left_side = reach(members.values(), event.left)
    if event.right in left_side:
        whole = Cluster(tuple(members[token] for token in sorted(members)))
        return dict.fromkeys(members, whole)
    right_side = frozenset(members) - left_side
    left = _with_copied_denials(members, event.left, left_side, right_side, before, seq, policy_drops)
    right = _with_copied_denials(members, event.right, right_side, left_side, before, seq, policy_drops)
    return {**dict.fromkeys(left_side, left), **dict.fromkeys(right_side, right)}


def _with_copied_denials(
    members: Mapping[bytes, Member],
    endpoint: bytes,
    own_side: frozenset[bytes],
    other_side: frozenset[bytes],
    before: Cluster,
    seq: int,
    policy_drops: tuple[int, ...],
) -> Cluster:
    """One side after an UNLINK, with the other side's denials, restriction and facts copied to its end of the link.

    Separating two people is no consent of either, so nothing may become easier by it. A denial that the endpoint's grants could not
    lift before, because only an unproven link joined them, must not become liftable by an older grant now: its copy has the UNLINK as
    its floor. Facts stay as hints, which only tighten.
    """
    group = reach(before.members, endpoint, SUBJECT_PROOF)
    end = members[endpoint]
    for token in sorted(other_side):
        other = members[token]
        for denial in (d for d in other.directives if not d.is_grant):
            floor_seq = denial.floor_seq if token in group else seq
            end = _with_directive(end, replace(denial, floor_seq=floor_seq), policy_drops)
        hinted = end.hinted.combine(other.hinted).combine(other.stated)
        end = replace(end, restricted_seq=max(end.restricted_seq, other.restricted_seq), hinted=hinted)
    return Cluster(tuple(end if token == endpoint else members[token] for token in sorted(own_side)))
