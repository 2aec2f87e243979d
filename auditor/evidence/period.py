"""The period that evidence is about, and times as the report writes them. All of it is UTC."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Self

from auditor.evidence.errors import InvalidEvidenceOption

MS_PER_SECOND: Final = 1000
MS_PER_HOUR: Final = 3_600_000
MS_PER_DAY: Final = 86_400_000
MAX_DAYS: Final = 1100
"""Three years: as long as a certificate counts."""
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
_FRIDAY: Final = 4


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days.

    Attributes:
        first: The first day.
        last: The last day; it belongs to the period.
        start_ms: Unix ms at which it begins.
        end_ms: Unix ms at which it is over.
    """

    first: date
    last: date
    start_ms: int = field(init=False)
    end_ms: int = field(init=False)

    def __post_init__(self) -> None:
        # Asked for every record, so reckoned once.
        object.__setattr__(self, "start_ms", _start_of(self.first))
        object.__setattr__(self, "end_ms", _start_of(self.last) + MS_PER_DAY)

    @classmethod
    def parse(cls, first: str, last: str) -> Self:
        """Read two days, `YYYY-MM-DD`.

        Raises:
            InvalidEvidenceOption: One is no day, they are in the wrong order, or too far apart.
        """
        days = []
        for option, text in (("--from", first), ("--to", last)):
            try:
                days.append(date.fromisoformat(text))
            except ValueError:
                raise InvalidEvidenceOption(f"{option}: must be a day, YYYY-MM-DD") from None
        if days[0] > days[1]:
            raise InvalidEvidenceOption("--to: lies before --from")
        if not _FIRST_YEAR <= days[0].year <= days[1].year <= _LAST_YEAR:
            raise InvalidEvidenceOption(f"--from, --to: must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
        if (days[1] - days[0]).days >= MAX_DAYS:
            raise InvalidEvidenceOption(f"--from, --to: at most {MAX_DAYS} days")
        return cls(*days)

    def holds(self, time_ms: int) -> bool:
        """Whether a time lies in it."""
        return self.start_ms <= time_ms < self.end_ms

    def days(self) -> list[str]:
        """Every day of it, as `day_of` writes days."""
        count = (self.last - self.first).days + 1
        return [(self.first + timedelta(days=number)).isoformat() for number in range(count)]


def day_of(time_ms: int) -> str:
    """The day of a time, `YYYY-MM-DD`."""
    return _day(time_ms // MS_PER_DAY)


def hour_of(time_ms: int) -> str:
    """The hour of a time, `YYYY-MM-DD HH:00Z`."""
    return _moment(time_ms).strftime("%Y-%m-%d %H:00Z")


def format_time(time_ms: int | None) -> str:
    """A time to the second, empty for none."""
    return "" if time_ms is None else _moment(time_ms).strftime("%Y-%m-%d %H:%M:%SZ")


def add_business_days(time_ms: int, days: int) -> int:
    """The end of the last of so many business days after the day of a time, Unix ms. Monday to Friday count; no holiday is known."""
    day = _moment(time_ms).date()
    while days > 0:
        day += timedelta(days=1)
        days -= day.weekday() <= _FRIDAY
    return _start_of(day + timedelta(days=1))


@lru_cache(maxsize=4096)
def _day(days: int) -> str:
    return _moment(days * MS_PER_DAY).date().isoformat()


def _start_of(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * MS_PER_SECOND


def _moment(time_ms: int) -> datetime:
    # A sidecar may sign any time; one that no calendar holds must not end the export.
    seconds = min(max(time_ms // MS_PER_SECOND, 0), 253_402_300_799)
    return datetime.fromtimestamp(seconds, UTC)
