"""Entries without payload: an erasure has left them, and the log itself must say so."""

from consent.event import ErasureEvent, EventType
from feed.ports import StoredEntry


class MissingPayloads:
    """Those of a run of entries that no later ERASURE has named so far: with one of these at its end, an opt-out may be lost."""

    def __init__(self) -> None:
        self._seqs: set[int] = set()

    def take(self, entry: StoredEntry) -> None:
        """Take the entry that follows.

        Raises:
            MalformedEvent: It cannot be read.
        """
        if not entry.event_bytes:
            self._seqs.add(entry.seq)
        elif self._seqs and entry.type_byte == EventType.ERASURE:
            event = entry.load_event()
            if isinstance(event, ErasureEvent):
                self._seqs.difference_update(event.seqs)

    @property
    def first_seq(self) -> int:
        """The first of them; 0 where there is none."""
        return min(self._seqs, default=0)
