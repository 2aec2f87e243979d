"""What every policy must be, wherever it comes from.

Each `verify_x` returns None or raises with the place in the document.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from consent.policy.errors import (
    DocumentPath,
    InvalidValue,
    PolicyTooLarge,
    RegimeTooWeak,
    UnknownParent,
    UnknownPurpose,
)
from consent.policy.purpose import FormerParent, LegalBasis, Purpose, PurposeText
from consent.policy.regime import EVERY_PURPOSE, Regime, requires_opt_in
from consent.policy.wording import quote, suggest

MAX_PURPOSES = 10_000
MAX_REGIMES = 100_000
MAX_CALLERS = 10_000
MAX_PARENTS = 32
MAX_VERSION = 2**31 - 1
MAX_NAME_CHARACTERS = 128
MAX_CALLER_CHARACTERS = 500
MAX_TITLE_CHARACTERS = 200
MAX_DESCRIPTION_CHARACTERS = 4_000
MAX_STALE_GRACE_SECONDS = 366 * 86_400
WEAKER_JOURNAL_MODES = ("allow_and_count", "async")
"""What a sidecar's settings may ask for and only the policy can permit: both let an answer leave whose record can be lost."""

_JURISDICTION = re.compile(r"[A-Z0-9]{1,16}(-[A-Z0-9]{1,16}){0,3}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}")
_IRI = re.compile(r"https?://[^\s<>\"{}|\\^`]{1,2000}")
# Unicode categories that no text may hold: control characters, surrogates, separators of lines.
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def verify_name(name: str, path: DocumentPath, *, most: int = MAX_NAME_CHARACTERS) -> None:
    """Refuses what cannot be a name: empty, too long, `*`, white space at an end, hidden characters, not NFC."""
    if name == EVERY_PURPOSE:
        raise InvalidValue("'*' stands for everything and cannot be a name", path=path)
    if not name or name != name.strip():
        raise InvalidValue(f"{quote(name)} is not a name: it is empty or has white space at an end", path=path)
    _verify_length(name, path, most)
    # Stricter than for texts: two names must not look like one, so no joiners, direction marks or odd spaces.
    _refuse_characters((character for character in name if not character.isprintable()), path)
    _verify_normal_form(name, path)


def verify_range(value: int, path: DocumentPath, *, least: int, most: int) -> None:
    """Refuses a number outside `least` to `most`."""
    if not least <= value <= most:
        raise InvalidValue(f"is {quote(value)}, must be {least} to {most}", path=path)


def verify_jurisdiction(code: str, path: DocumentPath) -> None:
    """Refuses what is no code such as `EU`, `DE`, `US-CA`."""
    if not _JURISDICTION.fullmatch(code):
        raise InvalidValue(f"{quote(code)} is not a code such as EU, DE or US-CA (capitals, no spaces)", path=path)


def verify_purpose(purpose: Purpose, purposes: Mapping[str, Purpose], version: int) -> None:
    """Refuses a purpose with a value out of range or a parent that is not among `purposes`."""
    place: DocumentPath = ("purposes", purpose.name)
    verify_name(purpose.name, place)
    verify_range(purpose.min_proof, (*place, "min_proof"), least=1, most=3)
    verify_range(purpose.regrant_proof, (*place, "regrant_proof"), least=2, most=3)
    verify_range(purpose.min_notice, (*place, "min_notice"), least=0, most=MAX_VERSION)
    verify_range(purpose.stale_grace_seconds, (*place, "stale_grace_seconds"), least=0, most=MAX_STALE_GRACE_SECONDS)
    edges = len(purpose.parents) + len(purpose.former_parents)
    if edges > MAX_PARENTS:
        raise PolicyTooLarge(f"has {edges} parents and former parents, the most is {MAX_PARENTS}", path=place)
    _verify_parents(purpose.parents, (*place, "parents"), purposes)
    _verify_former_parents(purpose.former_parents, (*place, "former_parents"), purposes, version)
    for category in sorted(purpose.data_categories):
        verify_name(category, (*place, "data_categories"))
    if purpose.dpv and not _IRI.fullmatch(purpose.dpv):
        raise InvalidValue(f"{quote(purpose.dpv)} is not an IRI (https://...)", path=(*place, "dpv"))
    _verify_texts(purpose.texts, (*place, "texts"))


def _verify_parents(parents: tuple[str, ...], path: DocumentPath, purposes: Mapping[str, Purpose]) -> None:
    for index, parent in enumerate(parents):
        if parent not in purposes:
            raise UnknownParent(f"unknown parent {quote(parent)}{suggest(parent, purposes)}", path=(*path, index))
        if parent in parents[:index]:
            raise InvalidValue(f"names {quote(parent)} twice", path=(*path, index))


def _verify_former_parents(
    former_parents: tuple[FormerParent, ...], path: DocumentPath, purposes: Mapping[str, Purpose], version: int
) -> None:
    seen: set[str] = set()
    for index, former in enumerate(former_parents):
        place = (*path, index)
        if former.name not in purposes:
            raise UnknownParent(
                f"unknown former parent {quote(former.name)}{suggest(former.name, purposes)}", path=(*place, "name")
            )
        if former.name in seen:
            raise InvalidValue(f"names {quote(former.name)} twice; keep the later version", path=(*place, "name"))
        seen.add(former.name)
        verify_range(former.dropped_in_version, (*place, "dropped_in_version"), least=1, most=version)


def _verify_texts(texts: Mapping[str, PurposeText], path: DocumentPath) -> None:
    for language, text in texts.items():
        place = (*path, language)
        if not _LANGUAGE.fullmatch(language):
            raise InvalidValue(f"{quote(language)} is not a language tag such as en, de or pt-BR", path=place)
        if not text.title.strip():
            raise InvalidValue("is empty", path=(*place, "title"))
        _verify_text(text.title, (*place, "title"), MAX_TITLE_CHARACTERS)
        _verify_text(text.description, (*place, "description"), MAX_DESCRIPTION_CHARACTERS, allowed="\n")


def _verify_text(text: str, path: DocumentPath, most: int, allowed: str = "") -> None:
    _verify_length(text, path, most)
    suspects = "" if text.isprintable() else text
    _refuse_characters((c for c in suspects if c not in allowed and unicodedata.category(c) in _CONTROLS), path)
    _verify_normal_form(text, path)


def _verify_length(text: str, path: DocumentPath, most: int) -> None:
    if len(text) > most:
        raise InvalidValue(f"has {len(text)} characters, the most is {most}", path=path)


def _refuse_characters(characters: Iterable[str], path: DocumentPath) -> None:
    for character in characters:
        raise InvalidValue(f"holds U+{ord(character):04X}, a character that cannot be seen or told apart", path=path)


def _verify_normal_form(text: str, path: DocumentPath) -> None:
    if not unicodedata.is_normalized("NFC", text):
        raise InvalidValue("is not in Unicode normal form C (NFC)", path=path)


def verify_regimes(regimes: Mapping[tuple[str, str], Regime], purposes: Mapping[str, Purpose]) -> None:
    """Refuses entries about unknown purposes, and any that would let a purpose run without the consent it rests on.

    Raises:
        InvalidValue: A jurisdiction is no code.
        UnknownPurpose: An entry names no purpose of the policy.
        RegimeTooWeak: A purpose of basis consent is below `opt_in` in the EU, EEA, UK or Switzerland, by its own
            entry or by that of `*`.
        PolicyTooLarge: Too many entries.
    """
    if len(regimes) > MAX_REGIMES:
        raise PolicyTooLarge(f"there are {len(regimes)} regimes, the most is {MAX_REGIMES}", path=("regimes",))
    for purpose, jurisdiction in regimes:
        place: DocumentPath = ("regimes", purpose, jurisdiction)
        verify_jurisdiction(jurisdiction, place)
        if purpose != EVERY_PURPOSE and purpose not in purposes:
            raise UnknownPurpose(f"unknown purpose {quote(purpose)}{suggest(purpose, purposes)}", path=place)
    resting_on_consent = [name for name, purpose in purposes.items() if purpose.legal_basis is LegalBasis.CONSENT]
    for (purpose, jurisdiction), regime in regimes.items():
        if regime >= Regime.OPT_IN or not requires_opt_in(jurisdiction):
            continue
        touched = resting_on_consent if purpose == EVERY_PURPOSE else [purpose]
        for name in touched:
            # An entry of its own shields a purpose from the entry of `*`, and is looked at by itself.
            is_shielded = purpose == EVERY_PURPOSE and (name, jurisdiction) in regimes
            if purposes[name].legal_basis is LegalBasis.CONSENT and not is_shielded:
                raise RegimeTooWeak(
                    f"{regime.word} in {jurisdiction} for {quote(name)}, whose legal basis is consent: "
                    "there it must be opt_in or prohibited",
                    path=("regimes", purpose, jurisdiction),
                )


def verify_callers(callers: Mapping[str, Iterable[str]], purposes: Mapping[str, Purpose]) -> None:
    """Refuses callers without a proper name and purposes that the policy does not have."""
    if len(callers) > MAX_CALLERS:
        raise PolicyTooLarge(f"there are {len(callers)} callers, the most is {MAX_CALLERS}", path=("callers",))
    for caller, allowed in callers.items():
        place: DocumentPath = ("callers", caller)
        verify_name(caller, place, most=MAX_CALLER_CHARACTERS)
        for purpose in sorted(allowed):
            if purpose != EVERY_PURPOSE and purpose not in purposes:
                raise UnknownPurpose(f"unknown purpose {quote(purpose)}{suggest(purpose, purposes)}", path=place)


def verify_categories(categories: Iterable[str], path: DocumentPath) -> None:
    """Refuses categories without a proper name."""
    for category in sorted(categories):
        verify_name(category, path)


def verify_journal_modes(modes: Iterable[str], path: DocumentPath) -> None:
    """Refuses what is none of `WEAKER_JOURNAL_MODES`."""
    for mode in sorted(modes):
        if mode not in WEAKER_JOURNAL_MODES:
            raise InvalidValue(
                f"is {quote(mode)}, must be one of {', '.join(WEAKER_JOURNAL_MODES)}{suggest(mode, WEAKER_JOURNAL_MODES)}",
                path=path,
            )
