"""The graph of purposes: who lies above and below whom, along current and former edges."""

import heapq
from collections.abc import Iterable, Mapping

from consent.policy.errors import CyclicPolicy, PolicyTooLarge
from consent.policy.purpose import Purpose

MAX_RELATIONS = 500_000
"""Pairs of purpose and ancestor that a policy may have: some MiB of sets; a hostile chain of 10,000 needs gigabytes."""

_NOBODY: frozenset[str] = frozenset()
_STILL_AN_EDGE = 2**63
_SHOWN_OF_CYCLE = 20


class PurposeGraph:
    """Ancestors and descendants of every purpose, worked out once.

    Args:
        purposes: By name; every parent and former parent is a name of the mapping.

    Raises:
        CyclicPolicy: A purpose is its own ancestor along current edges; the text shows the way round.
        PolicyTooLarge: More than `MAX_RELATIONS` pairs of purpose and ancestor.
    """

    __slots__ = ("_ancestors", "_descendants", "_former_ancestors", "_former_descendants")

    def __init__(self, purposes: Mapping[str, Purpose]) -> None:
        order = _sort_parents_first(purposes)
        self._ancestors = _close_upwards(purposes, order)
        self._descendants = {name: frozenset(found) for name, found in _invert(self._ancestors).items()}
        self._former_ancestors: dict[str, tuple[tuple[str, int], ...]] = {}
        self._former_descendants: dict[str, tuple[tuple[str, int], ...]] = {}
        self._add_former_edges(purposes)

    def ancestors(self, name: str) -> frozenset[str]:
        """Proper ancestors along current edges; none for an unknown name."""
        return self._ancestors.get(name, _NOBODY)

    def descendants(self, name: str) -> frozenset[str]:
        """Proper descendants along current edges; none for an unknown name."""
        return self._descendants.get(name, _NOBODY)

    def former_ancestors(self, name: str) -> tuple[tuple[str, int], ...]:
        """(ancestor, version) reached through a former edge only; see `Policy.former_ancestors`."""
        return self._former_ancestors.get(name, ())

    def former_descendants(self, name: str) -> tuple[tuple[str, int], ...]:
        """The same relation seen from above."""
        return self._former_descendants.get(name, ())

    def _add_former_edges(self, purposes: Mapping[str, Purpose]) -> None:
        relations = 0
        below: dict[str, list[tuple[str, int]]] = {}
        for name in _names_below_a_former_edge(purposes):
            widest = _widest_paths(purposes, name)
            found = sorted((a, version) for a, version in widest.items() if a not in self._ancestors[name])
            relations += len(widest)
            _refuse_too_many(relations)
            if found:
                self._former_ancestors[name] = tuple(found)
            for ancestor, version in found:
                below.setdefault(ancestor, []).append((name, version))
        self._former_descendants = {name: tuple(sorted(pairs)) for name, pairs in below.items()}


def _sort_parents_first(purposes: Mapping[str, Purpose]) -> list[str]:
    # Kahn's algorithm: iterative, so that a deep chain cannot exhaust the stack.
    waiting = {name: len(purpose.parents) for name, purpose in purposes.items()}
    children: dict[str, list[str]] = {}
    for name, purpose in purposes.items():
        for parent in purpose.parents:
            children.setdefault(parent, []).append(name)
    order = [name for name, count in waiting.items() if count == 0]
    for name in order:
        for child in children.get(name, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    if len(order) < len(purposes):
        raise _describe_cycle(purposes, {name for name, count in waiting.items() if count > 0})
    return order


def _describe_cycle(purposes: Mapping[str, Purpose], unsorted: set[str]) -> CyclicPolicy:
    # Every purpose left over has a parent left over, so walking up must come round.
    trail: dict[str, int] = {}
    name = min(unsorted)
    while name not in trail:
        trail[name] = len(trail)
        name = min(parent for parent in purposes[name].parents if parent in unsorted)
    cycle = list(trail)[trail[name] :]
    turn = cycle.index(min(cycle))
    around = [*cycle[turn:], *cycle[:turn], cycle[turn]]
    shown = around if len(around) <= _SHOWN_OF_CYCLE else [*around[:_SHOWN_OF_CYCLE], f"… ({len(cycle)} purposes)"]
    return CyclicPolicy(
        f"a purpose cannot be its own ancestor: {' -> '.join(shown)}", path=("purposes", around[0], "parents")
    )


def _close_upwards(purposes: Mapping[str, Purpose], parents_first: Iterable[str]) -> dict[str, frozenset[str]]:
    relations = 0
    above: dict[str, frozenset[str]] = {}
    for name in parents_first:
        parents = purposes[name].parents
        found = frozenset(parents).union(*(above[parent] for parent in parents))
        relations += len(found)
        _refuse_too_many(relations)
        above[name] = found
    return above


def _invert(above: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    below: dict[str, set[str]] = {}
    for name, found in above.items():
        for ancestor in found:
            below.setdefault(ancestor, set()).add(name)
    return below


def _names_below_a_former_edge(purposes: Mapping[str, Purpose]) -> set[str]:
    children: dict[str, list[str]] = {}
    for name, purpose in purposes.items():
        for parent in (*purpose.parents, *(former.name for former in purpose.former_parents)):
            children.setdefault(parent, []).append(name)
    found = {name for name, purpose in purposes.items() if purpose.former_parents}
    pending = list(found)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def _widest_paths(purposes: Mapping[str, Purpose], start: str) -> dict[str, int]:
    """For each purpose above `start`, the largest over all paths of the smallest version on the path.

    Dijkstra's algorithm with the narrowest edge in place of the length; a current edge is wider than any former one.
    Former edges may close a cycle (two purposes that changed places), which closure in sorted order could not cross.
    """
    best: dict[str, int] = {}
    queue = [(-_STILL_AN_EDGE, start)]
    while queue:
        width, name = heapq.heappop(queue)
        if name in best:
            continue
        best[name] = -width
        purpose = purposes[name]
        edges = [(parent, _STILL_AN_EDGE) for parent in purpose.parents]
        edges += [(former.name, former.dropped_in_version) for former in purpose.former_parents]
        for parent, version in edges:
            if parent not in best:
                heapq.heappush(queue, (max(width, -version), parent))
    del best[start]
    return best


def _refuse_too_many(relations: int) -> None:
    if relations > MAX_RELATIONS:
        raise PolicyTooLarge(
            f"the purposes have more than {MAX_RELATIONS} pairs of purpose and ancestor; make the tree flatter",
            path=("purposes",),
        )
