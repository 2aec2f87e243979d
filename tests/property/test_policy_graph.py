"""What a policy works out beforehand is what walking its edges finds."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from consent.policy import Policy, Regime
from tests.property.policy_strategies import JURISDICTIONS, policies

STILL_AN_EDGE = 10**9


def walk(policy: Policy, name: str, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
    """(ancestor, smallest version on the way) for every simple path upwards."""
    purpose = policy.purposes[name]
    edges = [(parent, STILL_AN_EDGE) for parent in purpose.parents]
    edges += [(former.name, former.dropped_in_version) for former in purpose.former_parents]
    for parent, version in edges:
        if parent not in seen | {name}:
            yield parent, version
            for ancestor, above in walk(policy, parent, seen | {name}):
                yield ancestor, min(version, above)


@given(policies())
def test_ancestors_and_former_ancestors_are_those_of_all_paths(policy: Policy) -> None:
    for name in policy.purposes:
        widest: dict[str, int] = {}
        for ancestor, version in walk(policy, name):
            widest[ancestor] = max(version, widest.get(ancestor, 0))
        current = {ancestor for ancestor, version in widest.items() if version == STILL_AN_EDGE}
        former = {(ancestor, version) for ancestor, version in widest.items() if version != STILL_AN_EDGE}
        assert policy.ancestors(name) == current
        assert policy.former_ancestors(name) == tuple(sorted(former))


@given(policies())
def test_descendants_are_the_inverse_of_ancestors(policy: Policy) -> None:
    for name in policy.purposes:
        assert policy.descendants(name) == {below for below in policy.purposes if name in policy.ancestors(below)}
        assert policy.former_descendants(name) == tuple(
            sorted(
                (below, version)
                for below in policy.purposes
                for ancestor, version in policy.former_ancestors(below)
                if ancestor == name
            )
        )


@given(policies(), st.lists(st.lists(st.sampled_from([*JURISDICTIONS, "ZZ"]), max_size=4), max_size=5))
def test_regime_is_the_strictest_of_own_or_star_entries(policy: Policy, asked: list[list[str]]) -> None:
    for jurisdictions in asked:
        for name in policy.purposes:
            found = [
                policy.regimes.get((name, code), policy.regimes.get(("*", code), Regime.OPT_IN))
                for code in jurisdictions
            ]
            assert policy.regime(name, jurisdictions) is max(found, default=Regime.OPT_IN)
