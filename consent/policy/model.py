"""The policy: purposes, regimes and limits that a decision is made under."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from consent.policy.checks import (
    MAX_PURPOSES,
    MAX_VERSION,
    verify_callers,
    verify_categories,
    verify_journal_modes,
    verify_purpose,
    verify_range,
    verify_regimes,
)
from consent.policy.errors import InvalidValue, PolicyTooLarge
from consent.policy.graph import PurposeGraph
from consent.policy.purpose import Purpose
from consent.policy.regime import EVERY_PURPOSE, Regime, RegimeTable


@dataclass(frozen=True)
class Policy:
    """One version of a tenant's policy: never invalid, with everything that a check asks for worked out beforehand.

    Attributes:
        version: From 1; each replacement is one higher.
        replaces_version: The version before, 0 for the first.
        purposes: By name, retired ones included.
        special_categories: Categories of data that need explicit consent (GDPR Art. 9).
        regimes: (purpose or `*`, jurisdiction) → regime.
        callers: Caller's name → purposes it may ask for, or `{"*"}`. Empty: the policy sets no limit of its own.
        soft_stale_seconds: Age of the newest checkpoint above which unknown subjects are denied under `opt_out`.
        clock_skew_seconds: How far apart honest clocks may be.
        reuse_window_seconds: How long a caller may reuse an answer.
        journal_modes_permitted: Which of `WEAKER_JOURNAL_MODES` a sidecar may keep its decision record in.
        version_seqs: Seq of the event that published each version, where the log is known; not part of the document.

    Raises:
        PolicyError: As the subclass says.
    """

    version: int
    replaces_version: int
    purposes: Mapping[str, Purpose]
    special_categories: frozenset[str] = frozenset()
    regimes: Mapping[tuple[str, str], Regime] = field(default_factory=dict)
    callers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    soft_stale_seconds: int = 60
    clock_skew_seconds: int = 300
    reuse_window_seconds: int = 0
    journal_modes_permitted: frozenset[str] = frozenset()
    version_seqs: Mapping[int, int] = field(init=False, repr=False, compare=False)
    _active: dict[str, Purpose] = field(init=False, repr=False, compare=False)
    _graph: PurposeGraph = field(init=False, repr=False, compare=False)
    _table: RegimeTable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("purposes", "regimes", "callers"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        _verify(self)
        object.__setattr__(self, "version_seqs", MappingProxyType({}))
        active = {name: purpose for name, purpose in self.purposes.items() if not purpose.retired}
        object.__setattr__(self, "_active", active)
        object.__setattr__(self, "_graph", PurposeGraph(self.purposes))
        object.__setattr__(self, "_table", RegimeTable(self.regimes))

    def with_version_seqs(self, version_seqs: Mapping[int, int]) -> "Policy":
        """The same policy, knowing at which entries of the log its versions came into force."""
        known = copy.copy(self)
        object.__setattr__(known, "version_seqs", MappingProxyType(dict(version_seqs)))
        return known

    def is_recorded_before(self, seq: int, version: int) -> bool:
        """Whether an entry was logged before `version` was published; True where that is not known, so that a denial stays."""
        published_seq = self.version_seqs.get(version)
        return published_seq is None or seq < published_seq

    def find_purpose(self, name: str) -> Purpose | None:
        """The purpose that may be asked for under this name; None for an unknown one and for a retired one."""
        return self._active.get(name)

    def ancestors(self, name: str) -> frozenset[str]:
        """Proper ancestors along current edges, retired ones included."""
        return self._graph.ancestors(name)

    def descendants(self, name: str) -> frozenset[str]:
        """Proper descendants along current edges, retired ones included."""
        return self._graph.descendants(name)

    def former_ancestors(self, name: str) -> tuple[tuple[str, int], ...]:
        """Ancestors that are reached through at least one former edge.

        Returns:
            (ancestor, version), sorted: denials recorded under a policy below that version flow from the ancestor. The
            version is the smallest on the path, the largest over several paths. Current ancestors are not repeated:
            from them every denial flows.
        """
        return self._graph.former_ancestors(name)

    def former_descendants(self, name: str) -> tuple[tuple[str, int], ...]:
        """`former_ancestors` seen from above: (descendant, version), sorted."""
        return self._graph.former_descendants(name)

    def regime(self, name: str, jurisdictions: Iterable[str]) -> Regime:
        """The strictest regime over all jurisdictions.

        In each the purpose's own entry wins over that of `*`; entries of parents do not count. No jurisdiction, or one
        without an entry, is `OPT_IN`.
        """
        return self._table.strictest(name, jurisdictions)

    def is_caller_permitted(self, caller: str, purposes: Iterable[str]) -> bool:
        """Whether the policy lets this caller ask for all of these purposes."""
        if not self.callers:
            return True
        allowed = self.callers.get(caller)
        if allowed is None:
            return False
        return EVERY_PURPOSE in allowed or allowed.issuperset(purposes)


def _verify(policy: Policy) -> None:
    # 1. The version, because former parents are measured against it.
    verify_range(policy.version, ("version",), least=1, most=MAX_VERSION)
    if policy.replaces_version != policy.version - 1:
        raise InvalidValue(
            f"is {policy.replaces_version}, must be one less than version: {policy.version - 1}",
            path=("replaces_version",),
        )
    # 2. Limits of the whole policy.
    verify_range(policy.soft_stale_seconds, ("soft_stale_seconds",), least=0, most=86_400)
    verify_range(policy.clock_skew_seconds, ("clock_skew_seconds",), least=0, most=3_600)
    verify_range(policy.reuse_window_seconds, ("reuse_window_seconds",), least=0, most=3_600)
    verify_categories(policy.special_categories, ("special_categories",))
    verify_journal_modes(policy.journal_modes_permitted, ("journal_modes_permitted",))
    # 3. Purposes, before what refers to them; the graph comes last because it needs every parent to exist.
    if len(policy.purposes) > MAX_PURPOSES:
        raise PolicyTooLarge(
            f"there are {len(policy.purposes)} purposes, the most is {MAX_PURPOSES}", path=("purposes",)
        )
    for name, purpose in policy.purposes.items():
        if purpose.name != name:
            raise InvalidValue("the purpose's name differs from its key", path=("purposes", name))
        verify_purpose(purpose, policy.purposes, policy.version)
    # 4. What refers to purposes.
    verify_regimes(policy.regimes, policy.purposes)
    verify_callers(policy.callers, policy.purposes)
