"""Regimes: what a jurisdiction asks for before a purpose may run."""

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum

EVERY_PURPOSE = "*"

# Bounds the memory that odd combinations of jurisdictions can take; a deployment sees a few hundred.
_MAX_REMEMBERED = 16_384

# Member states by ISO 3166-1 code, `EL` (the Union's own code for Greece), and the parts of member states that have a
# code of their own and in which Union law applies (TFEU Art. 355(1) and (4)).
_EU = "EU|AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GR|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK|AX|GF|GP|MF|MQ|RE|YT"
_OPT_IN_JURISDICTION = re.compile(f"(?:{_EU}|EEA|IS|LI|NO|UK|GB|CH)(?:-.*)?")


class Regime(IntEnum):
    """What is asked for; the strictest is the greatest."""

    NOTICE_ONLY = 1
    OPT_OUT = 2
    OPT_IN = 3
    PROHIBITED = 4

    @property
    def word(self) -> str:
        """Its word in files."""
        return self.name.lower()


REGIME_WORDS = {regime.word: regime for regime in Regime}


def requires_opt_in(jurisdiction: str) -> bool:
    """Whether consent there means opting in: EU, EEA, UK, Switzerland, their states and subdivisions (`DE-BY`)."""
    return _OPT_IN_JURISDICTION.fullmatch(jurisdiction) is not None


class RegimeTable:
    """Regimes by purpose (or `*`) and jurisdiction.

    Args:
        entries: (purpose or `*`, jurisdiction) → regime.
    """

    __slots__ = ("_by_jurisdiction", "_remembered")

    def __init__(self, entries: Mapping[tuple[str, str], Regime]) -> None:
        self._by_jurisdiction: dict[str, dict[str, Regime]] = {}
        for (purpose, jurisdiction), regime in entries.items():
            self._by_jurisdiction.setdefault(jurisdiction, {})[purpose] = regime
        self._remembered: dict[tuple[str, frozenset[str]], Regime] = {}

    def find(self, purpose: str, jurisdiction: str) -> Regime:
        """The regime in one jurisdiction: the purpose's own entry, else that of `*`, else `OPT_IN`."""
        row = self._by_jurisdiction.get(jurisdiction, {})
        return row.get(purpose) or row.get(EVERY_PURPOSE) or Regime.OPT_IN

    def strictest(self, purpose: str, jurisdictions: Iterable[str]) -> Regime:
        """The strictest regime over all jurisdictions; `OPT_IN` when there is none."""
        key = (purpose, frozenset(jurisdictions))
        known = self._remembered.get(key)
        if known is not None:
            return known
        regime = max((self.find(purpose, jurisdiction) for jurisdiction in key[1]), default=Regime.OPT_IN)
        # Callers may send any code; only those of the table are worth remembering.
        if self._by_jurisdiction.keys() >= key[1]:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = regime
        return regime
