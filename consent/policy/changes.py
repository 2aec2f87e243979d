"""What a new version of a policy changes, and which of it relaxes."""

from collections.abc import Iterator
from dataclasses import dataclass

from consent.policy.errors import DocumentPath, format_path
from consent.policy.model import Policy
from consent.policy.purpose import LegalBasis, Purpose
from consent.policy.regime import EVERY_PURPOSE, RegimeTable

# Flags whose becoming this value can turn a DENY into an ALLOW.
_RELAXING_FLAGS = {
    "direct_marketing": False,
    "gpc": False,
    "art18_exempt": True,
    "concrete": True,
    "minors": False,
    "retired": False,
}
# Numbers and whether a higher value is the laxer one.
_HIGHER_IS_LAXER = {"min_proof": False, "regrant_proof": False, "min_notice": False, "stale_grace_seconds": True}
_POLICY_HIGHER_IS_LAXER = {"soft_stale_seconds": True, "clock_skew_seconds": False, "reuse_window_seconds": True}


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One change.

    Attributes:
        text: For people, with its place: `purposes.marketing.min_proof: 2 -> 1`.
        relaxing: It could turn a DENY into an ALLOW, or let an ALLOW last longer. In doubt it is.
    """

    text: str
    relaxing: bool


def describe_changes(old: Policy, new: Policy) -> list[PolicyChange]:
    """Every difference but that of the versions, in the order of the document.

    If none is relaxing, no request that `old` denies is allowed by `new`, whatever people said, as far as it was said
    before the change.
    """
    return [
        *_compare_numbers(old, new, _POLICY_HIGHER_IS_LAXER, ()),
        *_compare_categories(old, new),
        *_compare_purposes(old, new),
        *_compare_regimes(old, new),
        *_compare_callers(old, new),
        *_compare_journal_modes(old, new),
    ]


def _change(path: DocumentPath, what: str, *, relaxing: bool) -> PolicyChange:
    return PolicyChange(f"{format_path(path)}: {what}", relaxing)


def _compare_numbers(
    old: Policy | Purpose, new: Policy | Purpose, higher_is_laxer: dict[str, bool], path: DocumentPath
) -> Iterator[PolicyChange]:
    for key, higher in higher_is_laxer.items():
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            yield _change((*path, key), f"{before} -> {after}", relaxing=(after > before) == higher)


def _compare_categories(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    for category in sorted(old.special_categories - new.special_categories):
        yield _change(("special_categories",), f"{category} removed", relaxing=True)
    for category in sorted(new.special_categories - old.special_categories):
        yield _change(("special_categories",), f"{category} added", relaxing=False)


def _compare_purposes(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    for name in sorted({*old.purposes, *new.purposes}):
        before, after = old.purposes.get(name), new.purposes.get(name)
        path: DocumentPath = ("purposes", name)
        if before is None and after is not None:
            # Asking for it was asking for an unknown purpose.
            yield _change(path, f"added ({after.legal_basis})", relaxing=not after.retired)
        elif before is not None and after is None:
            yield _change(path, "removed, with all denials at it", relaxing=True)
        elif before is not None and after is not None and before != after:
            yield from _compare_purpose(before, after, old.special_categories, path)


def _compare_purpose(
    before: Purpose, after: Purpose, special_categories: frozenset[str], path: DocumentPath
) -> Iterator[PolicyChange]:
    yield from _compare_parents(before, after, path)
    if before.legal_basis != after.legal_basis:
        yield _change(
            (*path, "legal_basis"),
            f"{before.legal_basis} -> {after.legal_basis}",
            # Under a mandatory basis everything was allowed already, and consent asks for the most.
            relaxing=not before.is_mandatory and after.legal_basis is not LegalBasis.CONSENT,
        )
    yield from _compare_flags(before, after, path)
    yield from _compare_numbers(before, after, _HIGHER_IS_LAXER, path)
    for category in sorted(before.data_categories - after.data_categories):
        yield _change((*path, "data_categories"), f"{category} removed", relaxing=category in special_categories)
    for category in sorted(after.data_categories - before.data_categories):
        yield _change((*path, "data_categories"), f"{category} added", relaxing=False)
    if before.dpv != after.dpv:
        yield _change((*path, "dpv"), f"{before.dpv or 'none'} -> {after.dpv or 'none'}", relaxing=False)
    for language in sorted({*before.texts, *after.texts}):
        if before.texts.get(language) != after.texts.get(language):
            yield _change((*path, "texts", language), "text changed", relaxing=False)


def _compare_flags(before: Purpose, after: Purpose, path: DocumentPath) -> Iterator[PolicyChange]:
    for key, relaxing_value in _RELAXING_FLAGS.items():
        was, becomes = getattr(before, key), getattr(after, key)
        if was != becomes:
            yield _change((*path, key), f"{was} -> {becomes}".lower(), relaxing=becomes is relaxing_value)


def _compare_parents(before: Purpose, after: Purpose, path: DocumentPath) -> Iterator[PolicyChange]:
    for parent in sorted({*before.parents} - {*after.parents}):
        # Denials to come at the parent no longer reach the purpose.
        yield _change((*path, "parents"), f"{parent} dropped", relaxing=True)
    for parent in sorted({*after.parents} - {*before.parents}):
        # Grants at the parent that cover its subtree now reach the purpose.
        yield _change((*path, "parents"), f"{parent} added", relaxing=True)
    was = {former.name: former.dropped_in_version for former in before.former_parents}
    becomes = {former.name: former.dropped_in_version for former in after.former_parents}
    for parent in sorted({*was, *becomes}):
        if was.get(parent) != becomes.get(parent):
            yield _change(
                (*path, "former_parents"),
                f"{parent} {was.get(parent, 'none')} -> {becomes.get(parent, 'none')}",
                relaxing=becomes.get(parent, 0) < was.get(parent, 0),
            )


def _compare_regimes(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    tables = (RegimeTable(old.regimes), RegimeTable(new.regimes))
    for purpose, jurisdiction in sorted({*old.regimes, *new.regimes}):
        before = old.regimes.get((purpose, jurisdiction))
        after = new.regimes.get((purpose, jurisdiction))
        if before != after:
            # What counts is what holds: without an entry of its own a purpose falls back on that of `*`, which may be
            # laxer.
            held, holds = (table.find(purpose, jurisdiction) for table in tables)
            words = f"{before.word if before else 'none'} -> {after.word if after else 'none'}"
            yield _change(("regimes", purpose, jurisdiction), words, relaxing=holds < held)


def _compare_callers(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    # Without any caller the policy sets no limit, so the first one restricts and the last one's removal relaxes.
    for caller in sorted({*old.callers, *new.callers}):
        before, after = old.callers.get(caller), new.callers.get(caller)
        if before == after:
            continue
        if after is None:
            yield _change(("callers", caller), "removed", relaxing=not new.callers)
        else:
            gains = EVERY_PURPOSE not in (before or frozenset()) and bool(after - (before or frozenset()))
            yield _change(
                ("callers", caller),
                f"may ask for {', '.join(sorted(after)) or 'nothing'}",
                relaxing=bool(old.callers) and gains,
            )


def _compare_journal_modes(old: Policy, new: Policy) -> Iterator[PolicyChange]:
    # Turns no DENY into an ALLOW, but lets an ALLOW leave whose record can be lost.
    for mode in sorted(old.journal_modes_permitted - new.journal_modes_permitted):
        yield _change(("journal_modes_permitted",), f"{mode} removed", relaxing=False)
    for mode in sorted(new.journal_modes_permitted - old.journal_modes_permitted):
        yield _change(("journal_modes_permitted",), f"{mode} added", relaxing=True)
