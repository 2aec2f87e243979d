"""Decision ids and heads, in a temporary database: what there are millions of is sorted on the disk, and memory stays flat."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from auditor.scratch import ScratchDatabase
from consent.eventlog.journal_head import JournalHead

_LARGEST: Final = 2**63 - 1
_SCHEMA: Final = """
CREATE TABLE heads(sidecar, chain, number INTEGER, kind INTEGER, at_ms INTEGER, segment INTEGER, frame INTEGER,
    decisions INTEGER, answered INTEGER, unrecorded INTEGER, mode INTEGER, PRIMARY KEY(sidecar, chain, number)) WITHOUT ROWID;
CREATE TABLE written AS SELECT * FROM heads;
CREATE TABLE recorded(id BLOB PRIMARY KEY, digest BLOB, caller TEXT, is_shipped INTEGER) WITHOUT ROWID;
CREATE TABLE spans(id BLOB PRIMARY KEY, digest BLOB, sidecar TEXT, times INTEGER, differs INTEGER) WITHOUT ROWID;
CREATE TABLE claimed(id BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID;
"""


class HeadRow(NamedTuple):
    """Of a head, what counts here; fields as in `JournalHead`."""

    sidecar_id: str
    chain_id: bytes
    number: int
    kind: int
    at_ms: int
    segment: int
    frame: int
    decisions: int
    answered: int
    unrecorded: int
    mode: int


def make_head_row(head: JournalHead) -> HeadRow:
    """What counts of a head; numbers that SQLite cannot hold are no honest counts, and become the largest that it can."""
    numbers = (
        head.number,
        head.kind,
        head.at_ms,
        head.segment,
        head.frame,
        head.decisions,
        head.answered,
        head.unrecorded,
        head.weakest_mode,
    )
    return HeadRow(head.sidecar_id, head.chain_id, *(min(number, _LARGEST) for number in numbers))


class RecordedRow(NamedTuple):
    """A recorded decision.

    Attributes:
        decision_id: 16 bytes.
        digest: Of what its span must say.
        caller: Who asked.
        is_shipped: Whether the shipper has passed it; None where that is not known.
    """

    decision_id: bytes
    digest: bytes
    caller: str
    is_shipped: bool | None


class Ledger(ScratchDatabase):
    """What was answered, recorded, exported and claimed, one row each."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add_logged_head(self, head: JournalHead) -> None:
        """Take a head that the log holds."""
        row = make_head_row(head)
        self._database.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def add_written_head(self, head: JournalHead) -> None:
        """Take a head that lies in a journal; it counts from `take_over_written` on."""
        self._database.execute("INSERT INTO written VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", make_head_row(head))

    def take_over_written(self) -> None:
        """Add the heads that only the journals hold to those of the log, which win."""
        self._database.execute("INSERT OR IGNORE INTO heads SELECT * FROM written")

    def chains(self) -> list[tuple[str, bytes]]:
        """Sidecar and chain of every head."""
        return list(self._database.execute("SELECT DISTINCT sidecar, chain FROM heads ORDER BY 1, 2"))

    def heads(self, sidecar_id: str, chain_id: bytes) -> Iterator[HeadRow]:
        """The heads of a chain, by number."""
        query = "SELECT * FROM heads WHERE sidecar = ? AND chain = ? ORDER BY number"
        return map(HeadRow._make, self._database.execute(query, (sidecar_id, chain_id)))

    def heads_by_time(self) -> Iterator[HeadRow]:
        """All heads, sidecar by sidecar, in the order of their times."""
        return map(HeadRow._make, self._database.execute("SELECT * FROM heads ORDER BY sidecar, at_ms, number"))

    def add_recorded(self, rows: Iterable[RecordedRow]) -> None:
        """Take recorded decisions; one that stands twice counts once (`verify` names it)."""
        self._database.executemany("INSERT OR IGNORE INTO recorded VALUES (?, ?, ?, ?)", rows)

    def add_span(self, decision_id: bytes, digest: bytes, sidecar_id: str) -> None:
        """Take a decision that a span tells of, once more where there is one already."""
        self._database.execute(
            "INSERT INTO spans VALUES (?, ?, ?, 1, 0) ON CONFLICT(id) DO UPDATE"
            " SET times = times + 1, differs = max(differs, digest != excluded.digest)",
            (decision_id, digest, sidecar_id),
        )

    def add_claimed(self, decision_id: bytes) -> None:
        """Take an id that a service says it was given."""
        self._database.execute(
            "INSERT INTO claimed VALUES (?, 1) ON CONFLICT(id) DO UPDATE SET times = times + 1", (decision_id,)
        )

    def count(self, query: str, *values: object) -> int:
        """The number that a query returns."""
        return int(self._database.execute(query, values).fetchone()[0] or 0)

    def select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows that a query returns."""
        return iter(self._database.execute(query, values))
