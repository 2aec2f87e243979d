"""Records of mode `async` that are not written yet."""

from typing import Final, NamedTuple

_MAX_BYTES: Final = 16 << 20
_GROUP_MAX_BYTES: Final = 1 << 20


class Entry(NamedTuple):
    """A record and how many decisions it holds."""

    record: bytes
    decisions: int


class Pending:
    """Keeps records in order until they are written. Callers see to it that one thread at a time is in here."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def decisions(self) -> int:
        """How many decisions wait."""
        return sum(entry.decisions for entry in self._entries)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that the disk must be too slow."""
        return self._size_bytes > _MAX_BYTES

    def add(self, entry: Entry) -> None:
        """Take a record."""
        self._entries.append(entry)
        self._size_bytes += len(entry.record)

    def groups(self) -> list[list[Entry]]:
        """What waits, in groups of about one mebibyte."""
        groups: list[list[Entry]] = []
        room = 0
        for entry in self._entries:
            if room < len(entry.record):
                groups.append([])
                room = _GROUP_MAX_BYTES
            groups[-1].append(entry)
            room -= len(entry.record)
        return groups

    def drop(self, count: int) -> None:
        """Let go of the oldest ones, which are written."""
        self._size_bytes -= sum(len(entry.record) for entry in self._entries[:count])
        del self._entries[:count]
