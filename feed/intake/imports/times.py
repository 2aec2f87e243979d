"""Times as files write them."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from feed.intake.imports.rows import RowReason
from feed.intake.occurrence import EARLIEST_MS

_ISO = re.compile(
    r"\d{4}(?:-\d\d-\d\d|\d{4})"
    r"(?:[T ]\d\d(?::?\d\d(?::?\d\d(?:[.,]\d{1,9})?)?)?(?: ?(?P<zone>Z|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII,
)
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_CHARACTERS = len("2026-01-22")
_MILLISECOND = timedelta(milliseconds=1)


class StatedTime(NamedTuple):
    """A time that a row states.

    Attributes:
        at_ms: Unix ms; 0 where the cell is blank.
        without_zone: It had no zone and was taken as UTC.
    """

    at_ms: int
    without_zone: bool


NO_TIME = StatedTime(0, without_zone=False)


def parse_stated_time(cell: str, *, is_denial: bool) -> StatedTime | RowReason:
    """Read a time, or say why it cannot be read.

    Accepted are ISO 8601 (`2026-05-30T05:58:55+00:00`, `20260122T111244`, `2026-01-22 11:12:44`, dates alone), and `29.06.2026`
    where day and month cannot be mistaken for each other. Somewhere in a day means, in doubt, after a yes and before a no: a date
    alone is its last moment in UTC for a denial and its first for a grant.

    Args:
        cell: A cell of a file.
        is_denial: What was said then.

    Returns:
        The time, or TIME_AMBIGUOUS, TIME_UNREADABLE or TIME_TOO_EARLY.
    """
    text = cell.strip()
    if not text:
        return NO_TIME
    dotted = _DOTTED.fullmatch(text)
    if dotted is not None:
        return _read_dotted(*map(int, dotted.groups()), is_denial=is_denial)
    iso = _ISO.fullmatch(text)
    if iso is None:
        return RowReason.TIME_UNREADABLE
    try:
        moment = datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", ""))
    except ValueError:
        return RowReason.TIME_UNREADABLE
    if moment.tzinfo is not None:
        return _settle(moment, without_zone=False)
    moment = moment.replace(tzinfo=UTC)
    return _settle(
        _choose_moment(moment, is_denial=is_denial) if len(text) <= _DATE_CHARACTERS else moment, without_zone=True
    )


def _read_dotted(day: int, month: int, year: int, *, is_denial: bool) -> StatedTime | RowReason:
    if day <= 12 and month <= 12 and day != month:
        # The third of February in one country, the second of March in another.
        return RowReason.TIME_AMBIGUOUS
    try:
        date = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return RowReason.TIME_UNREADABLE
    return _settle(_choose_moment(date, is_denial=is_denial), without_zone=True)


def _choose_moment(date: datetime, *, is_denial: bool) -> datetime:
    return date.replace(hour=23, minute=59, second=59, microsecond=999_000) if is_denial else date


def _settle(moment: datetime, *, without_zone: bool) -> StatedTime | RowReason:
    at_ms = (moment - _EPOCH) // _MILLISECOND
    return RowReason.TIME_TOO_EARLY if at_ms < EARLIEST_MS else StatedTime(at_ms, without_zone)
