"""What a service says it asked for, against what is recorded."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from auditor.errors import FolderUnusable
from auditor.findings import Finding, Severity
from auditor.reconcile.ledger import Ledger
from auditor.reconcile.report import CallerHour
from auditor.reconcile.times import MS_PER_HOUR, format_time

COLUMNS: Final = ("caller", "hour_utc", "decisions")
_MOST_NAMED: Final = 1_000


def read_calls(path: Path) -> Counter[tuple[str, int]]:
    """Decisions by caller and hour (of Unix time) from a CSV file with the columns `caller,hour_utc,decisions`.

    An hour is a time in ISO 8601; minutes and seconds in it are passed over.

    Raises:
        FolderUnusable: The file cannot be read, or a line is not of that form.
    """
    claimed: Counter[tuple[str, int]] = Counter()
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise FolderUnusable(f"{path}: its first line must be {','.join(COLUMNS)}")
            for row in rows:
                number += 1
                claimed[row["caller"], _parse_hour(row["hour_utc"])] += _parse_count(row["decisions"])
    except OSError as error:
        raise FolderUnusable(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, csv.Error):
        raise FolderUnusable(f"{path}: row {number} is not of the form {','.join(COLUMNS)}") from None
    return claimed


def read_call_ids(path: Path, ledger: Ledger) -> None:
    """Put the decision ids of a file, one a line, into the ledger.

    Raises:
        FolderUnusable: The file cannot be read, or a line is no UUID.
    """
    number = 1
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if line.strip():
                    ledger.add_claimed(UUID(line.strip()).bytes)
                number += 1
    except OSError as error:
        raise FolderUnusable(f"{path}: {error.strerror}") from None
    except ValueError:
        raise FolderUnusable(f"{path}: line {number} is no decision id") from None


def compare_calls(
    claimed: Mapping[tuple[str, int], int], recorded: Mapping[tuple[str, int], int]
) -> tuple[list[CallerHour], list[Finding]]:
    """Hold the counts of the callers that claim anything against those recorded, hour by hour."""
    callers = {caller for caller, _ in claimed}
    names = sorted({*claimed, *(name for name in recorded if name[0] in callers)})
    rows = [CallerHour(*name, claimed.get(name, 0), recorded.get(name, 0)) for name in names]
    found = []
    for row in rows:
        where = f"caller {row.caller}, hour from {format_time(row.hour * MS_PER_HOUR)}"
        if row.claimed > row.recorded:
            text = f"{where}: {row.claimed} decisions are claimed, {row.recorded} are recorded"
            found.append(Finding("CALLS_NOT_RECORDED", text))
        elif row.claimed < row.recorded:
            text = f"{where}: {row.recorded} decisions are recorded, {row.claimed} are claimed"
            found.append(Finding("CALLS_NOT_CLAIMED", text, Severity.NOTE))
    return rows, found


def compare_call_ids(ledger: Ledger) -> Iterator[Finding]:
    """Hold claimed ids against recorded ones.

    The other way round it is told only for callers of whom some id is claimed, and between the first and the last of these.
    """
    query = "FROM claimed LEFT JOIN recorded USING (id) WHERE recorded.id IS NULL"
    for (decision_id,) in ledger.select(f"SELECT id {query} LIMIT ?", _MOST_NAMED):
        yield Finding("CALLS_NOT_RECORDED", f"decision {UUID(bytes=decision_id)} is claimed and not recorded")
    spans = list(
        ledger.select(
            "SELECT caller, min(id), max(id) FROM claimed JOIN recorded USING (id) GROUP BY caller ORDER BY caller"
        )
    )
    for caller, first, last in spans:
        unclaimed = ledger.count(
            "SELECT count(*) FROM recorded LEFT JOIN claimed USING (id)"
            " WHERE claimed.id IS NULL AND caller = ? AND recorded.id BETWEEN ? AND ?",
            caller,
            first,
            last,
        )
        if unclaimed:
            text = f"caller {caller}: {unclaimed} decisions are recorded and not claimed, between the first and last that it claims"
            yield Finding("CALLS_NOT_CLAIMED", text, Severity.NOTE)


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("no count")
    return int(text)


def _parse_hour(text: str) -> int:
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000) // MS_PER_HOUR
