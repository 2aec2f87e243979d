"""The newest entries in memory, so that a thousand streams at the head of the log do not each read the disk."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from feed.ports import StoredEntry


class RecentEntries:
    """Consecutive entries up to the newest, within two bounds.

    Args:
        max_entries: How many.
        max_bytes: Of events and the signatures over them, in all.
    """

    def __init__(self, max_entries: int = 20_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._entries: deque[StoredEntry] = deque()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._total_bytes = 0

    def extend(self, entries: Iterable[StoredEntry]) -> None:
        """Take the entries that follow."""
        for entry in entries:
            self._entries.append(entry)
            self._total_bytes += entry.size_bytes
        while len(self._entries) > self._max_entries or self._total_bytes > self._max_bytes:
            self._total_bytes -= self._entries.popleft().size_bytes

    def read(self, from_seq: int, limit: int) -> Sequence[StoredEntry] | None:
        """Entries from `from_seq` on; None where it is not among those held."""
        if not self._entries or from_seq < self._entries[0].seq:
            return None
        start = from_seq - self._entries[0].seq
        return list(islice(self._entries, start, start + limit))
