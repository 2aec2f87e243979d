"""Policies of every kind, and pairs of which one follows the other."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from consent.policy import (
    WEAKER_JOURNAL_MODES,
    FormerParent,
    LegalBasis,
    Policy,
    Purpose,
    PurposeText,
    Regime,
    RegimeTooWeak,
    requires_opt_in,
)

JURISDICTIONS = ("EU", "DE", "NO", "CH", "US", "US-CA", "BR")
CATEGORIES = ("health", "religion", "postcode")

# Names and texts that a writer of YAML, JSON or error texts could trip over; whole alphabets cost more time than they find.
NAMES = st.one_of(
    st.sampled_from(
        ["marketing", "no", "true", "null", "2025", "a.b", "x: y", "# x", "- x", "'", '"', "\\", "{", "~", "<<"]
    ),
    st.text("ab0.-_:#'\"\\{[&*!|>%@`,?=/ü広\U0001f600", min_size=1, max_size=8).filter(lambda name: name != "*"),
)
_LETTERS = "ab :#'\"\\{-ü\u00ad\u200d\u00a0\ufeff\U0001f600\U000e0001"
_FLAGS = ("direct_marketing", "gpc", "art18_exempt", "concrete", "minors", "retired")
_NUMBERS: dict[str, tuple[int, ...]] = {
    "min_proof": (1, 2, 3),
    "regrant_proof": (2, 3),
    "min_notice": (0, 1, 2),
    "stale_grace_seconds": (0, 600, 86_400),
}


def _make_body(source: random.Random) -> dict[str, Any]:
    def line(least: int) -> str:
        return "".join(source.choices(_LETTERS, k=source.randint(least, 12)))

    def text() -> PurposeText:
        return PurposeText("T" + line(0), "\n".join(line(0) for _ in range(source.randint(0, 3))))

    return {
        "legal_basis": source.choice(list(LegalBasis)),
        "data_categories": frozenset(source.sample(CATEGORIES, source.randint(0, 3))),
        "dpv": source.choice(["", "https://w3id.org/dpv#Marketing"]),
        "texts": {language: text() for language in source.sample(["en", "de", "pt-BR"], source.choice([0, 0, 1, 2]))},
        **{flag: source.random() < 0.3 for flag in _FLAGS},
        **{key: source.choice(values) for key, values in _NUMBERS.items()},
    }


# Fields that do not depend on other purposes come from one pool: to draw each of them would take most of the tests' time.
_BODIES = st.sampled_from([{}, *(_make_body(random.Random(seed)) for seed in range(500))])


@st.composite
def purposes(draw: st.DrawFn, version: int) -> dict[str, Purpose]:
    """Up to six purposes without a cycle; former edges go anywhere."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    edges = st.tuples(st.sampled_from(names), st.integers(1, version))
    found = {}
    for index, name in enumerate(names):
        above = draw(st.lists(st.sampled_from(names[:index]), max_size=3, unique=True)) if index else []
        former = draw(st.lists(edges, max_size=2, unique_by=lambda edge: edge[0]))
        former_parents = tuple(FormerParent(*edge) for edge in former)
        found[name] = Purpose(name, parents=tuple(above), former_parents=former_parents, **draw(_BODIES))
    return found


@st.composite
def regimes(draw: st.DrawFn, names: list[str]) -> dict[tuple[str, str], Regime]:
    """A few entries, none too weak."""
    pairs = st.tuples(st.sampled_from(["*", *names]), st.sampled_from(JURISDICTIONS))
    found = {}
    for purpose, jurisdiction in draw(st.lists(pairs, max_size=8, unique=True)):
        weakest = Regime.OPT_IN if requires_opt_in(jurisdiction) else Regime.NOTICE_ONLY
        found[purpose, jurisdiction] = draw(st.sampled_from([regime for regime in Regime if regime >= weakest]))
    return found


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Valid policies with every field in use."""
    version = draw(st.integers(1, 5))
    found = draw(purposes(version))
    allowed = st.frozensets(st.sampled_from(["*", *found]), max_size=3)
    return Policy(
        version=version,
        replaces_version=version - 1,
        purposes=found,
        special_categories=draw(st.frozensets(st.sampled_from(CATEGORIES))),
        regimes=draw(regimes(list(found))),
        callers=draw(st.dictionaries(NAMES, allowed, max_size=3)),
        soft_stale_seconds=draw(st.sampled_from([0, 60, 61])),
        clock_skew_seconds=draw(st.sampled_from([299, 300, 301])),
        reuse_window_seconds=draw(st.integers(0, 3)),
        journal_modes_permitted=draw(st.frozensets(st.sampled_from(WEAKER_JOURNAL_MODES))),
    )


@st.composite
def followers(draw: st.DrawFn, old: Policy) -> Policy:
    """Policies of the next version that differ from `old` in a few places, or in none; not all may replace it."""
    version = old.version + 1
    found = dict(old.purposes)
    for name in draw(st.lists(st.sampled_from(list(found)), max_size=2)):
        found[name] = replace(found[name], **draw(_changes(found[name], list(found), version)))
    if draw(st.booleans()):
        found.setdefault("added", Purpose("added", parents=(next(iter(found)),), retired=draw(st.booleans())))
    changes: dict[str, Any] = {
        "regimes": regimes(list(found)),
        "callers": st.dictionaries(
            st.sampled_from([*old.callers, "new"]), st.frozensets(st.sampled_from(["*", *found])), max_size=2
        ),
        "special_categories": st.frozensets(st.sampled_from(CATEGORIES)),
        "soft_stale_seconds": st.sampled_from([59, 60, 62]),
        "clock_skew_seconds": st.sampled_from([298, 300, 302]),
        "reuse_window_seconds": st.integers(0, 3),
        "journal_modes_permitted": st.frozensets(st.sampled_from(WEAKER_JOURNAL_MODES)),
    }
    chosen = draw(st.lists(st.sampled_from(list(changes)), max_size=2, unique=True))
    drawn = {key: draw(changes[key]) for key in chosen}
    try:
        return replace(old, version=version, replaces_version=old.version, purposes=found, **drawn)
    except RegimeTooWeak:
        # A purpose that now rests on consent outlaws an entry of the old table.
        return replace(old, version=version, replaces_version=old.version)


def _changes(purpose: Purpose, names: list[str], version: int) -> st.SearchStrategy[dict[str, Any]]:
    kept = st.sampled_from([purpose.parents[:count] for count in range(len(purpose.parents) + 1)])
    earlier = names[: names.index(purpose.name)]
    more = (
        st.sampled_from(earlier).map(lambda name: tuple(dict.fromkeys((*purpose.parents, name)))) if earlier else kept
    )
    formers = [FormerParent(name, version) for name in purpose.parents if name not in _former_names(purpose)]
    fields: dict[str, st.SearchStrategy[Any]] = {
        "legal_basis": st.sampled_from(LegalBasis),
        "data_categories": st.frozensets(st.sampled_from(CATEGORIES)),
        "parents": st.one_of(kept, more),
        **{key: st.sampled_from(values) for key, values in _NUMBERS.items()},
        **dict.fromkeys(_FLAGS, st.booleans()),
    }
    one = st.sampled_from(list(fields)).flatmap(lambda key: fields[key].map(lambda value: {key: value}))
    moved = kept.map(lambda parents: {"parents": parents, "former_parents": (*purpose.former_parents, *formers)})
    return st.one_of(one, moved)


def _former_names(purpose: Purpose) -> set[str]:
    return {former.name for former in purpose.former_parents}
