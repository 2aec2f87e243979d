"""The decision function: rules 1 to 17 of docs/decision.md, first one that fires wins.

Pure and total: the sidecar answers with it, the auditor replays with it. Rules 1 to 4 look at the request as a whole, the others at each
purpose in sorted order; all purposes must be allowed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consent.policy import LegalBasis, Policy, Purpose, Regime
from consent.state import Override, SubjectView
from consent.vocabulary.directive import (
    ANY,
    NO_FACTS,
    AgeBand,
    Assurance,
    Directive,
    Facts,
    GrantedBy,
    Kind,
    Proof,
    youngest,
)
from consent.vocabulary.reason import Effect, Reason


@dataclass(frozen=True, slots=True)
class Request:
    """A question, after its identifiers were turned into tokens.

    Attributes:
        purposes: Names as asked; duplicates count once.
        now_ms: Unix ms.
        is_well_formed: At least one identifier, and every identifier and enumerated value was understood.
        is_caller_permitted: The result of rule 3.
        facts: Age band and jurisdictions that the caller states.
        sec_gpc: The request carried the Global Privacy Control signal.
        recipient: Who would receive the data, `*` for the controller itself.
        data_categories: Categories that would be used.
        min_seq: The answer must know this entry; 0 for any.
    """

    purposes: tuple[str, ...]
    now_ms: int
    is_well_formed: bool = True
    is_caller_permitted: bool = True
    facts: Facts = NO_FACTS
    sec_gpc: bool = False
    recipient: str = ANY
    data_categories: frozenset[str] = frozenset()
    min_seq: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is held, and how old it is.

    Attributes:
        log_size: Entries folded into the state.
        age_ms: Age of the newest verified checkpoint for that size, None without a verified snapshot.
        is_intact: The cache passed its integrity checks.
    """

    log_size: int
    age_ms: int | None
    is_intact: bool = True


class Decision(NamedTuple):
    """The answer.

    Attributes:
        effect: ALLOW or DENY.
        reason: Why.
        deciding_seq: Seq of the event that decided, 0 where none did.
        valid_until_ms: Unix ms until which an ALLOW may be reused; 0 for a DENY.
        purpose: The purpose that the reason is about; empty where it is about the request, or about several purposes.
    """

    effect: Effect
    reason: Reason
    deciding_seq: int = 0
    valid_until_ms: int = 0
    purpose: str = ""


class RuleResult(NamedTuple):
    """One rule that was tried, for an explanation."""

    rule: int
    purpose: str
    fired: bool


class _Outcome(NamedTuple):
    reason: Reason
    event: Directive | None = None
    seq: int = 0
    is_allow: bool = False


class _Question:
    """One purpose of a request, with what the rules need worked out once."""

    __slots__ = ("_grants", "freshness", "policy", "purpose", "request", "views")

    def __init__(
        self, request: Request, views: Sequence[SubjectView], policy: Policy, freshness: Freshness, purpose: Purpose
    ) -> None:
        self.request = request
        self.views = views
        self.policy = policy
        self.freshness = freshness
        self.purpose = purpose
        self._grants: tuple[list[Directive], list[Directive]] | None = None

    def grants(self) -> list[Directive]:
        """Rule 15's scope: at the purpose, or above it with `subtree`, for this recipient, in any cluster asked for."""
        return self._sorted_grants()[0]

    def usable_grants(self) -> list[Directive]:
        """The usable ones of `grants`."""
        return self._sorted_grants()[1]

    def _sorted_grants(self) -> tuple[list[Directive], list[Directive]]:
        if self._grants is None:
            scoped = [grant for view in self.views for grant in view.grants if self.is_in_scope(grant)]
            self._grants = scoped, [grant for grant in scoped if self.fault(grant) is None]
        return self._grants

    def is_in_scope(self, grant: Directive) -> bool:
        name = self.purpose.name
        if grant.recipient != ANY and grant.recipient != self.request.recipient:
            return False
        return grant.purpose == name or (
            grant.subtree and (grant.purpose == ANY or grant.purpose in self.policy.ancestors(name))
        )

    def fault(self, grant: Directive) -> Reason | None:
        """Why a grant is not usable, None where it is."""
        skew_ms = self.policy.clock_skew_seconds * 1000
        if grant.expires_at_ms is not None and grant.expires_at_ms <= self.request.now_ms + skew_ms:
            return Reason.CONSENT_EXPIRED
        if grant.notice_version < self.purpose.min_notice:
            return Reason.NOTICE_OUTDATED
        if grant.proof < self.purpose.min_proof or not grant.is_sound:
            return Reason.PROOF_INSUFFICIENT
        return None

    def regime(self) -> Regime:
        """The strictest over all jurisdictions; hinted ones can raise it and never take the place of stated ones."""
        stated, hinted = self.request.facts.jurisdictions, set[str]()
        for view in self.views:
            stated = (*stated, *view.stated.jurisdictions)
            hinted.update(view.hinted.jurisdictions)
        regime = self.policy.regime(self.purpose.name, stated)
        return max(regime, self.policy.regime(self.purpose.name, hinted)) if hinted else regime

    def age_band(self) -> int:
        """The youngest band stated, tightened by hints; a purpose directed at minors takes silence for a child."""
        stated, hinted = self.request.facts.age_band, int(AgeBand.UNSPECIFIED)
        for view in self.views:
            stated = youngest(stated, view.stated.age_band)
            hinted = youngest(hinted, view.hinted.age_band)
        if stated == AgeBand.UNSPECIFIED and self.purpose.minors:
            return AgeBand.CHILD
        return youngest(stated, hinted)

    def is_softly_stale(self) -> bool:
        age_ms = self.freshness.age_ms
        return age_ms is None or age_ms > self.policy.soft_stale_seconds * 1000


def _check_restriction(q: _Question) -> _Outcome | None:
    seq = max((view.restricted_seq for view in q.views), default=0)
    return _Outcome(Reason.PROCESSING_RESTRICTED, seq=seq) if seq and not q.purpose.art18_exempt else None


def _check_prohibition(q: _Question) -> _Outcome | None:
    return _Outcome(Reason.PROHIBITED) if q.regime() == Regime.PROHIBITED else None


def _check_mandatory(q: _Question) -> _Outcome | None:
    is_mandatory = q.purpose.legal_basis in (LegalBasis.LEGAL_OBLIGATION, LegalBasis.VITAL)
    if is_mandatory and (q.freshness.age_ms is not None or q.purpose.art18_exempt):
        return _Outcome(Reason.MANDATORY_BASIS, is_allow=True)
    return None


def _check_snapshot(q: _Question) -> _Outcome | None:
    return _Outcome(Reason.NO_SNAPSHOT) if q.freshness.age_ms is None else None


def _check_consistency(q: _Question) -> _Outcome | None:
    return _Outcome(Reason.NOT_YET_CONSISTENT) if q.request.min_seq > q.freshness.log_size else None


def _check_staleness(q: _Question) -> _Outcome | None:
    age_ms = q.freshness.age_ms
    return _Outcome(Reason.CACHE_TOO_STALE) if age_ms is None or age_ms > q.purpose.stale_grace_seconds * 1000 else None


def _check_denials(q: _Question) -> _Outcome | None:
    latest: Directive | None = None
    latest_reason = Reason.OPT_OUT
    for view in q.views:
        for denials, may_be_lifted in ((view.denials, True), (view.shared_denials, False)):
            for denial in denials:
                reason = _denial_reach(q, denial)
                if reason is None or (latest is not None and denial.seq < latest.seq):
                    continue
                if not (may_be_lifted and _is_lifted(q, view, denial, is_below=reason is Reason.OPT_OUT_CHILD)):
                    latest, latest_reason = denial, reason
    return None if latest is None else _Outcome(latest_reason, event=latest)


def _denial_reach(q: _Question, denial: Directive) -> Reason | None:
    """How a denial reaches the purpose asked for, None where it does not."""
    policy, name, denied = q.policy, q.purpose.name, denial.purpose
    if denied == name:
        return Reason.OPT_OUT
    if denied == ANY:
        return Reason.GLOBAL_OPT_OUT
    if denied in policy.ancestors(name) or _flows_along_former_edge(policy, denial, policy.former_ancestors(name)):
        return Reason.OPT_OUT_PARENT
    if q.purpose.concrete:
        return None
    if denied in policy.descendants(name) or _flows_along_former_edge(policy, denial, policy.former_descendants(name)):
        return Reason.OPT_OUT_CHILD
    return None


def _flows_along_former_edge(policy: Policy, denial: Directive, former: tuple[tuple[str, int], ...]) -> bool:
    """Whether the denial was recorded before the edge to its purpose was dropped."""
    return bool(former) and any(
        name == denial.purpose and policy.is_recorded_before(denial.seq, version) for name, version in former
    )


def _is_lifted(q: _Question, view: SubjectView, denial: Directive, *, is_below: bool) -> bool:
    if denial.kind == Kind.OBJECT and _is_overridden(q, view, denial):
        return True
    earliest_ms = denial.occurred_at_ms + q.policy.clock_skew_seconds * 1000
    return any(
        grant.seq > denial.lift_after_seq
        and grant.occurred_at_ms > earliest_ms
        and grant.proof >= q.purpose.regrant_proof
        and grant.assurance >= denial.assurance
        and (grant.subtree or not is_below)
        and q.is_in_scope(grant)
        and q.fault(grant) is None
        for grant in view.grants
    )


def _is_overridden(q: _Question, view: SubjectView, objection: Directive) -> bool:
    purpose = q.purpose
    may_override = purpose.legal_basis == LegalBasis.LEGITIMATE_INTEREST and not purpose.direct_marketing
    return may_override and Override(purpose.name, objection.seq) in view.overrides


def _check_age(q: _Question) -> _Outcome | None:
    purpose = q.purpose
    if not (purpose.legal_basis == LegalBasis.CONSENT or purpose.gpc or purpose.minors):
        return None
    band = q.age_band()
    if band not in (AgeBand.CHILD, AgeBand.TEEN):
        return None
    if any(
        g.proof == Proof.AUTHENTICATED and (band == AgeBand.TEEN or g.granted_by == GrantedBy.GUARDIAN)
        for g in q.usable_grants()
    ):
        return None
    return _Outcome(Reason.MINOR_NO_VALID_CONSENT)


def _check_gpc(q: _Question) -> _Outcome | None:
    if not (q.request.sec_gpc and q.purpose.gpc):
        return None
    if any(g.assurance == Assurance.ACCOUNT and g.proof >= q.purpose.regrant_proof for g in q.usable_grants()):
        return None
    return _Outcome(Reason.GPC_SIGNAL)


def _check_special_categories(q: _Question) -> _Outcome | None:
    special = q.policy.special_categories
    if special.isdisjoint(q.request.data_categories) and special.isdisjoint(q.purpose.data_categories):
        return None
    return None if any(grant.explicit for grant in q.usable_grants()) else _Outcome(Reason.EXPLICIT_CONSENT_REQUIRED)


def _check_grants(q: _Question) -> _Outcome | None:
    usable = q.usable_grants()
    if not usable:
        return None
    reason = Reason.GRANTED_STALE if q.is_softly_stale() else Reason.GRANTED
    return _Outcome(reason, event=_latest(usable), is_allow=True)


def _check_unusable_grants(q: _Question) -> _Outcome | None:
    grants = q.grants()
    if not grants or q.usable_grants() or q.regime() != Regime.OPT_IN:
        return None
    latest = _latest(grants)
    return _Outcome(q.fault(latest) or Reason.PROOF_INSUFFICIENT, event=latest)


def _check_regime(q: _Question) -> _Outcome:
    regime = _resolve_regime(q)
    is_known, is_stale = any(view.is_known for view in q.views), q.is_softly_stale()
    if regime == Regime.NOTICE_ONLY:
        return _Outcome(Reason.NO_CHOICE_REQUIRED_STALE if is_stale else Reason.NO_CHOICE_REQUIRED, is_allow=True)
    if regime == Regime.OPT_OUT:
        if not is_known:
            if is_stale:
                return _Outcome(Reason.STALE_UNKNOWN_SUBJECT)
            return _Outcome(Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN, is_allow=True)
        stale, fresh = Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE, Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN
        return _Outcome(stale if is_stale else fresh, is_allow=True)
    return _Outcome(Reason.NO_CONSENT_SUBJECT_KNOWN if is_known else Reason.NO_CONSENT_SUBJECT_UNKNOWN)


def _resolve_regime(q: _Question) -> Regime:
    """Rule 17: a contract needs no choice whatever the regime says."""
    return Regime.NOTICE_ONLY if q.purpose.legal_basis == LegalBasis.CONTRACT else q.regime()


def _latest(directives: Iterable[Directive]) -> Directive:
    return max(directives, key=lambda d: d.seq)


_PURPOSE_RULES: tuple[tuple[int, Callable[[_Question], _Outcome | None]], ...] = (
    (5, _check_restriction),
    (6, _check_prohibition),
    (7, _check_mandatory),
    (8, _check_snapshot),
    (9, _check_consistency),
    (10, _check_staleness),
    (11, _check_denials),
    (12, _check_age),
    (13, _check_gpc),
    (14, _check_special_categories),
    (15, _check_grants),
    (16, _check_unusable_grants),
    (17, _check_regime),
)


def decide(
    request: Request,
    views: Sequence[SubjectView],
    policy: Policy,
    freshness: Freshness,
    trace: list[RuleResult] | None = None,
) -> Decision:
    """Answer one question.

    Args:
        request: The question.
        views: One view for each identifier asked for (`UNKNOWN_SUBJECT` where the log has nothing); never pooled with each other.
        policy: The policy in force at `freshness.log_size`.
        freshness: What is held and how old it is.
        trace: Filled with the rules tried, in order, where an explanation is wanted.

    Returns:
        The decision; never an error.
    """
    purposes = sorted(set(request.purposes))
    refused = _check_request(request, purposes, policy, freshness, trace)
    if refused is not None:
        return Decision(Effect.DENY, refused)
    allowed: list[Decision] = []
    for name in purposes:
        purpose = policy.purposes[name]  # rule 2 found it
        decision = _decide_purpose(_Question(request, views, policy, freshness, purpose), trace)
        if decision.effect is Effect.DENY:
            return decision
        allowed.append(decision)
    return allowed[0] if len(allowed) == 1 else _combine(allowed)


def _check_request(
    request: Request, purposes: list[str], policy: Policy, freshness: Freshness, trace: list[RuleResult] | None
) -> Reason | None:
    checks = (
        (1, Reason.INVALID_REQUEST, not request.is_well_formed or not purposes),
        (2, Reason.PURPOSE_UNKNOWN, any(policy.find_purpose(name) is None for name in purposes)),
        (3, Reason.CALLER_NOT_PERMITTED_FOR_PURPOSE, not request.is_caller_permitted),
        (4, Reason.CACHE_INTEGRITY, not freshness.is_intact),
    )
    for rule, reason, fired in checks:
        if trace is not None:
            trace.append(RuleResult(rule, "", fired))
        if fired:
            return reason
    return None


def _decide_purpose(question: _Question, trace: list[RuleResult] | None) -> Decision:
    for rule, check in _PURPOSE_RULES:
        outcome = check(question)
        if trace is not None:
            trace.append(RuleResult(rule, question.purpose.name, outcome is not None))
        if outcome is not None:
            return _conclude(question, outcome)
    raise AssertionError("rule 17 always answers")


def _conclude(question: _Question, outcome: _Outcome) -> Decision:
    seq = outcome.event.seq if outcome.event is not None else outcome.seq
    name = question.purpose.name
    if not outcome.is_allow:
        return Decision(Effect.DENY, outcome.reason, seq, 0, name)
    return Decision(Effect.ALLOW, outcome.reason, seq, _valid_until_ms(question, outcome.event), name)


def _valid_until_ms(question: _Question, grant: Directive | None) -> int:
    now_ms, freshness = question.request.now_ms, question.freshness
    until_ms = now_ms + question.policy.reuse_window_seconds * 1000
    if freshness.age_ms is not None:
        until_ms = min(until_ms, now_ms - freshness.age_ms + question.purpose.stale_grace_seconds * 1000)
    if grant is not None and grant.expires_at_ms is not None:
        until_ms = min(until_ms, grant.expires_at_ms)
    return max(until_ms, now_ms)


def _combine(allowed: list[Decision]) -> Decision:
    """All purposes are allowed: one answer, good for as long as the shortest of them."""
    first = allowed[0]
    is_same = all(decision.reason == first.reason for decision in allowed)
    return Decision(
        Effect.ALLOW,
        first.reason if is_same else Reason.ALL_PURPOSES_ALLOWED,
        max(decision.deciding_seq for decision in allowed),
        min(decision.valid_until_ms for decision in allowed),
    )
