"""Hypothesis strategies for policies, histories and questions that meet each other often."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from consent.decide import Freshness, Request
from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, OverrideEvent, RestrictionEvent, UnlinkEvent
from consent.policy import Policy, policy_from_mapping
from consent.state import UNKNOWN_SUBJECT, Cluster, SubjectView, fold_event
from consent.vocabulary.directive import AgeBand, Facts, GrantedBy, Kind

ORIGIN = "history.example/log"
TOKENS = tuple(bytes([number]) * 16 for number in range(1, 5))
NOW_MS = 1_800_000_000_000
_MINUTE_MS = 60_000
FRESH = Freshness(log_size=1000, age_ms=0)

_BASE: dict[str, Any] = {
    "legal_basis": "consent",
    "direct_marketing": False,
    "gpc": False,
    "art18_exempt": False,
    "min_proof": 1,
    "regrant_proof": 2,
    "min_notice": 1,
    "stale_grace_seconds": 600,
    "concrete": False,
    "minors": False,
    "data_categories": [],
}
_PURPOSES: dict[str, dict[str, Any]] = {
    "root": {"parents": []},
    "left": {"parents": ["root"], "legal_basis": "li"},
    "right": {"parents": ["root"], "gpc": True},
    "leaf": {"parents": ["left", "right"]},
    "deep": {"parents": ["leaf"], "legal_basis": "li", "direct_marketing": True},
    "health": {"parents": ["left"], "data_categories": ["health"]},
    "kids": {"parents": ["right"], "legal_basis": "li", "minors": True},
    "contract": {"parents": [], "legal_basis": "contract"},
    "duty": {"parents": ["contract"], "legal_basis": "legal_obligation"},
    "concrete": {"parents": ["root"], "concrete": True},
}
PURPOSES = tuple(_PURPOSES)
JURISDICTIONS = ("EU", "US-CA", "XX", "ZZ")
_REGIMES = [
    {"purpose": "*", "jurisdiction": "EU", "regime": "opt_in"},
    {"purpose": "*", "jurisdiction": "US-CA", "regime": "opt_out"},
    {"purpose": "kids", "jurisdiction": "XX", "regime": "prohibited"},
    {"purpose": "left", "jurisdiction": "XX", "regime": "notice_only"},
]


def make_policy(changes: dict[str, dict[str, Any]] | None = None) -> Policy:
    """The test policy, with fields of single purposes changed."""
    purposes = {name: {**_BASE, **fields, **(changes or {}).get(name, {})} for name, fields in _PURPOSES.items()}
    return policy_from_mapping(
        {
            "purposes": purposes,
            "regimes": _REGIMES,
            "special_categories": ["health"],
            "soft_stale_seconds": 60,
            "clock_skew_seconds": 300,
        }
    )


POLICY = make_policy()
POLICIES = (
    POLICY,
    make_policy({"leaf": {"regrant_proof": 3, "min_proof": 2}, "left": {"min_notice": 2}}),
    make_policy({"root": {"concrete": True}, "deep": {"legal_basis": "consent", "gpc": True, "minors": True}}),
    make_policy({"leaf": {"parents": ["left"]}, "health": {"legal_basis": "contract"}}),
)

_tokens = st.sampled_from(TOKENS)
_times = st.integers(min_value=0, max_value=40).map(lambda minutes: NOW_MS - 86_400_000 + minutes * _MINUTE_MS)
_directive_purposes = st.sampled_from((*PURPOSES, "*"))


def directives(
    kinds: Sequence[Kind] = tuple(Kind), proofs: Sequence[int] = (0, 1, 2, 3)
) -> st.SearchStrategy[DirectiveEvent]:
    """Directives of these kinds and proofs."""
    return st.builds(
        DirectiveEvent,
        origin=st.just(ORIGIN),
        token=_tokens,
        kind=st.sampled_from([int(kind) for kind in kinds]),
        occurred_at_ms=_times,
        purpose=_directive_purposes,
        proof=st.sampled_from(proofs),
        assurance=st.integers(0, 2),
        subtree=st.booleans(),
        explicit=st.booleans(),
        granted_by=st.sampled_from([int(by) for by in GrantedBy]),
        notice_version=st.integers(0, 2),
        recipient=st.sampled_from(("*", "*", "acme")),
        expires_at_ms=st.sampled_from((None, None, NOW_MS - 1000, NOW_MS + 299_000, NOW_MS + 301_000, NOW_MS + 9**9)),
    )


def links(proofs: Sequence[int] = (0, 1, 2, 3)) -> st.SearchStrategy[LinkEvent]:
    """Links made with these proofs."""
    return st.builds(
        LinkEvent,
        origin=st.just(ORIGIN),
        left=_tokens,
        right=_tokens,
        proof=st.sampled_from(proofs),
        occurred_at_ms=_times,
    )


def unlinks() -> st.SearchStrategy[UnlinkEvent]:
    """Unlinks, of tokens that may or may not be linked."""
    return st.builds(UnlinkEvent, origin=st.just(ORIGIN), left=_tokens, right=_tokens, occurred_at_ms=_times)


def facts(proofs: Sequence[int] = (0, 1, 2, 3)) -> st.SearchStrategy[FactEvent]:
    """Facts stated with these proofs."""
    return st.builds(
        FactEvent,
        origin=st.just(ORIGIN),
        token=_tokens,
        age_band=st.sampled_from([int(band) for band in AgeBand]),
        proof=st.sampled_from(proofs),
        occurred_at_ms=_times,
        jurisdictions=st.sets(st.sampled_from(JURISDICTIONS), max_size=2).map(lambda names: tuple(sorted(names))),
    )


def restrictions(proofs: Sequence[int] = (0, 1, 2, 3)) -> st.SearchStrategy[RestrictionEvent]:
    """Restrictions set and lifted."""
    return st.builds(
        RestrictionEvent,
        origin=st.just(ORIGIN),
        token=_tokens,
        restricted=st.booleans(),
        proof=st.sampled_from(proofs),
        occurred_at_ms=_times,
    )


def overrides() -> st.SearchStrategy[OverrideEvent]:
    """Overrides of what may or may not be an objection."""
    return st.builds(
        OverrideEvent,
        origin=st.just(ORIGIN),
        token=_tokens,
        objection_seq=st.integers(1, 12),
        occurred_at_ms=_times,
        purpose=st.sampled_from(PURPOSES),
        ground=st.just("compelling"),
    )


def histories(max_size: int = 10) -> st.SearchStrategy[list[Event]]:
    """Anything that can be in a log, directives most often."""
    event = st.one_of(
        directives(), directives(), directives(), links(), links(), unlinks(), facts(), restrictions(), overrides()
    )
    return st.lists(event, max_size=max_size)


def requests() -> st.SearchStrategy[Request]:
    """Questions about the test policy's purposes."""
    return st.builds(
        Request,
        purposes=st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=2).map(tuple),
        now_ms=st.just(NOW_MS),
        facts=st.builds(
            Facts,
            st.sampled_from([int(band) for band in AgeBand]),
            st.lists(st.sampled_from(JURISDICTIONS), max_size=2, unique=True).map(tuple),
        ),
        sec_gpc=st.booleans(),
        recipient=st.sampled_from(("*", "acme", "beta")),
        data_categories=st.sampled_from((frozenset[str](), frozenset({"contact"}), frozenset({"health"}))),
    )


def fold(
    events: Sequence[Event], clusters: dict[bytes, Cluster] | None = None, first_seq: int = 1
) -> dict[bytes, Cluster]:
    """The state after these events, in the order of the log."""
    state = dict(clusters or {})
    for seq, event in enumerate(events, start=first_seq):
        state.update(fold_event(event, seq, state.get))
    return state


def views_of(state: dict[bytes, Cluster], tokens: Sequence[bytes]) -> list[SubjectView]:
    """What a question about these tokens is decided on."""
    return [state[token].view(token) if token in state else UNKNOWN_SUBJECT for token in tokens]
