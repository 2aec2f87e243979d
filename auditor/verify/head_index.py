"""Every signed head that the log or a journal holds, by chain, in a temporary database: memory stays flat over years of heads."""

from collections.abc import Iterator
from typing import NamedTuple

from auditor.scratch import ScratchDatabase
from consent.eventlog.journal_head import (
    JournalDisposal,
    JournalHead,
    format_disposal,
    format_head,
    parse_disposal,
    parse_head,
)

_SCHEMA = """
CREATE TABLE logged(sidecar, chain, number, seq, received_at_ms, head);
CREATE TABLE written(sidecar, chain, number, place, head);
CREATE TABLE disposals(sidecar, chain, first_segment, seq, disposal);
"""
_INDICES = """
CREATE INDEX IF NOT EXISTS logged_order ON logged(sidecar, chain, number, seq);
CREATE INDEX IF NOT EXISTS written_order ON written(sidecar, chain, number);
"""


class LoggedHead(NamedTuple):
    """A head, and where the log has it.

    Attributes:
        seq: Of the JOURNAL_HEADS entry.
        received_at_ms: Unix ms by the feed's clock.
        head: The head.
    """

    seq: int
    received_at_ms: int
    head: JournalHead


class WrittenHead(NamedTuple):
    """A head that lies in a journal.

    Attributes:
        place: File and frame.
        head: The head.
        logged: The head of its number in the log; None where it has none.
    """

    place: str
    head: JournalHead
    logged: JournalHead | None


class HeadIndex(ScratchDatabase):
    """Collects heads and disposals, then yields them by chain."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add_logged(self, seq: int, received_at_ms: int, head: JournalHead) -> None:
        """Take a head that the log holds."""
        row = (*_key(head), seq, received_at_ms, format_head(head))
        self._database.execute("INSERT INTO logged VALUES (?, ?, ?, ?, ?, ?)", row)

    def add_written(self, place: str, head: JournalHead) -> None:
        """Take a head that a journal holds."""
        self._database.execute("INSERT INTO written VALUES (?, ?, ?, ?, ?)", (*_key(head), place, format_head(head)))

    def add_disposal(self, seq: int, disposal: JournalDisposal) -> None:
        """Take a disposal that the log holds."""
        row = (disposal.sidecar_id, disposal.chain_id, _number(disposal.first_segment), seq, format_disposal(disposal))
        self._database.execute("INSERT INTO disposals VALUES (?, ?, ?, ?, ?)", row)

    def chains(self) -> list[tuple[str, bytes]]:
        """Sidecar and chain of everything that the log names."""
        self._database.executescript(_INDICES)
        query = "SELECT sidecar, chain FROM logged UNION SELECT sidecar, chain FROM disposals ORDER BY 1, 2"
        return list(self._database.execute(query))

    def logged(self, sidecar_id: str, chain_id: bytes) -> Iterator[LoggedHead]:
        """The heads of a chain in the log, by number, and those of one number in the order logged."""
        query = "SELECT seq, received_at_ms, head FROM logged WHERE sidecar = ? AND chain = ? ORDER BY number, seq"
        for seq, received_at_ms, head in self._database.execute(query, (sidecar_id, chain_id)):
            yield LoggedHead(seq, received_at_ms, parse_head(head))

    def disposals(self, sidecar_id: str, chain_id: bytes) -> list[JournalDisposal]:
        """The disposals of a chain in the log, by their first segment."""
        query = "SELECT disposal FROM disposals WHERE sidecar = ? AND chain = ? ORDER BY first_segment, seq"
        return [parse_disposal(row[0]) for row in self._database.execute(query, (sidecar_id, chain_id))]

    def written_between(self, sidecar_id: str, chain_id: bytes, first: int, last: int) -> Iterator[JournalHead]:
        """The heads of a chain in the journals, from a number to a number."""
        query = "SELECT head FROM written WHERE sidecar = ? AND chain = ? AND number BETWEEN ? AND ? ORDER BY number"
        for row in self._database.execute(query, (sidecar_id, chain_id, _number(first), _number(last))):
            yield parse_head(row[0])

    def written_unlike_logged(self) -> Iterator[WrittenHead]:
        """The heads in the journals that the log does not have, or has otherwise."""
        query = """
            SELECT written.place, written.head, logged.head FROM written
            LEFT JOIN logged USING (sidecar, chain, number) WHERE logged.head IS NOT written.head
        """
        for place, written, logged in self._database.execute(query):
            yield WrittenHead(place, parse_head(written), None if logged is None else parse_head(logged))


def disposed_until(disposals: list[JournalDisposal]) -> int:
    """The first segment that the disposals of a chain leave."""
    end = 0
    for disposal in disposals:
        if disposal.first_segment <= end:
            end = max(end, disposal.last_segment + 1)
    return end


def _key(head: JournalHead) -> tuple[str, bytes, bytes]:
    return head.sidecar_id, head.chain_id, _number(head.number)


def _number(number: int) -> bytes:
    """Unsigned 64-bit numbers in an order that SQLite keeps."""
    return number.to_bytes(8, "big")
