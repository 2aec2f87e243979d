"""From a day's audit pseudonyms back to the tokens of the log.

A pseudonym is a keyed hash, so that the only way back is to make those of every token known; one table for each day in use.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from consent.key_ring import KeyRing
from consent.vocabulary.subject import Pseudonymiser

TABLES_KEPT: Final = 2

Tokens = tuple[bytes | None, ...]
"""The token behind each pseudonym, None for nobody's."""


@dataclass(slots=True)
class _Table:
    pseudonymiser: Pseudonymiser
    tokens: list[bytes]
    taken: int = 0
    token_of: dict[bytes, bytes] = field(default_factory=dict)


class PseudonymTables:
    """Finds tokens by the pseudonyms of a day.

    Args:
        ring: With the audit keys.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._keys = dict(ring.audit_keys)
        self._key_of: dict[int, bytes | None] = {}
        self._tables: OrderedDict[bytes, _Table] = OrderedDict()

    def knows_day(self, day: int) -> bool:
        """Whether the ring holds this day's own key."""
        return day in self._keys

    def key_of(self, day: int) -> bytes | None:
        """The key that a sidecar with the same ring would use on a day; None where the ring has none."""
        if day not in self._key_of:
            self._key_of[day] = self._ring.audit_key(day)
        return self._key_of[day]

    def find(self, pseudonyms: Sequence[bytes], key: bytes, tokens: list[bytes]) -> Tokens:
        """The tokens behind pseudonyms.

        Args:
            pseudonyms: 16 bytes each.
            key: The audit key that they were made with.
            tokens: Every token known; the same list as before may have grown, and a new one makes the table anew.
        """
        table = self._table(key, tokens)
        return tuple([table.token_of.get(pseudonym) for pseudonym in pseudonyms])

    def search(self, pseudonyms: Sequence[bytes], day: int, tokens: list[bytes]) -> bytes | None:
        """The key of another day under which one of these pseudonyms is somebody's: a sidecar that was given no newer key uses an old one.

        Reads through all tokens once for each key and keeps nothing.
        """
        wanted = frozenset(pseudonyms)
        for key in self._other_keys(day):
            make = Pseudonymiser(key).pseudonym
            if any(make(token) in wanted for token in tokens):
                return key
        return None

    def _other_keys(self, day: int) -> Iterator[bytes]:
        """Those of earlier days, the latest first; then those of later days, which a sidecar with a clock behind would use."""
        used = self.key_of(day)
        days = [*sorted((known for known in self._keys if known <= day), reverse=True)]
        days += sorted(known for known in self._keys if known > day)
        return (self._keys[known] for known in days if self._keys[known] != used)

    def _table(self, key: bytes, tokens: list[bytes]) -> _Table:
        table = self._tables.get(key)
        if table is None or table.tokens is not tokens:
            table = self._tables[key] = _Table(Pseudonymiser(key), tokens)
        if table.taken < len(tokens):
            make = table.pseudonymiser.pseudonym
            table.token_of.update((make(token), token) for token in tokens[table.taken :])
            table.taken = len(tokens)
        self._tables.move_to_end(key)
        while len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        return table
