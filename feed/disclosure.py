"""What leads from people to pseudonyms, for an audit: handed out by an administrator, and every time logged by whoever serves it.

None of it goes the other way: no key that leaves here makes a token of an identifier.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consent.event import EventType, parse_event
from consent.key_ring import KeyRing
from consent.vocabulary.subject import KEY_BYTES, Pseudonymiser, Rekeyer, Tokeniser
from feed.intake.requests import Subject
from feed.intake.subjects import require_token, resolve_subject
from feed.ports import Log, StoredEntry
from feed.sequencer.state_changes import tokens_of
from feed.signing.subject_keys import SubjectKeys

_PAGE_ENTRIES: Final = 1_000
_PERSONAL_TYPES: Final = frozenset(
    {
        EventType.DIRECTIVE,
        EventType.LINK,
        EventType.UNLINK,
        EventType.FACT,
        EventType.RESTRICTION,
        EventType.OVERRIDE,
        EventType.ERASURE,
    }
)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What stands for an identifier.

    Attributes:
        tokens: 16 bytes each, of the key epochs 0, 1, ….
        pseudonyms: Of each day asked for: one of each epoch, since a sidecar that is behind still uses an older one.
        seqs: Of the entries about these tokens, ascending.
    """

    tokens: tuple[bytes, ...]
    pseudonyms: Mapping[int, tuple[bytes, ...]]
    seqs: tuple[int, ...]


class Disclosure:
    """Finds what an audit needs and an auditor must not find alone.

    Args:
        log: The entries.
        tokeniser: Makes tokens of epoch 0.
        subject_keys: Lead tokens through the key epochs.
        day_key: Returns the 32-byte key of a day's audit pseudonyms.
    """

    def __init__(
        self, log: Log, tokeniser: Tokeniser, subject_keys: SubjectKeys, day_key: Callable[[int], bytes]
    ) -> None:
        self._log = log
        self._tokeniser = tokeniser
        self._subject_keys = subject_keys
        self._day_key = day_key

    def replay_keys(self, days: Iterable[int]) -> KeyRing:
        """The keys with which `replay` tells which token a recorded pseudonym is: zeros in the place of epoch 0's subject key."""
        later_keys = self._subject_keys.begun(self._log.head.tenant)[1:]
        return KeyRing((bytes(KEY_BYTES), *later_keys), tuple((day, self._day_key(day)) for day in days))

    async def resolve(self, subject: Subject, days: Iterable[int]) -> Resolution:
        """What stands for an identifier, in the log as it is now.

        The whole log is read, page by page: tens of seconds for a million entries. Entries whose payload was erased are not found.

        Raises:
            InvalidIdentifier: It cannot be one.
            CorruptLog, LogStoreError: An entry is damaged, or cannot be read.
        """
        head = self._log.head
        tokens = [require_token(resolve_subject(subject, "identifier", self._tokeniser))]
        for key in self._subject_keys.begun(head.tenant)[1:]:
            tokens.append(Rekeyer(key).rekey(tokens[-1]))
        pseudonyms = {day: self._make_pseudonyms(day, tokens) for day in days}
        seqs: list[int] = []
        wanted, size = frozenset(tokens), 0
        while size < head.size:
            page = await self._log.read_entries(size + 1, min(_PAGE_ENTRIES, head.size - size))
            seqs += await asyncio.to_thread(_find_seqs, page, wanted)
            size = page[-1].seq
        return Resolution(tuple(tokens), pseudonyms, tuple(seqs))

    def _make_pseudonyms(self, day: int, tokens: Sequence[bytes]) -> tuple[bytes, ...]:
        pseudonymiser = Pseudonymiser(self._day_key(day))
        return tuple(map(pseudonymiser.pseudonym, tokens))


def _find_seqs(page: Sequence[StoredEntry], tokens: frozenset[bytes]) -> list[int]:
    return [
        entry.seq
        for entry in page
        if entry.type_byte in _PERSONAL_TYPES
        and entry.event_bytes
        and not tokens.isdisjoint(tokens_of(parse_event(entry.event_bytes)))
    ]
