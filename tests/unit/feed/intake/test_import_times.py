from datetime import UTC, datetime

import pytest

from feed.intake.imports.rows import RowReason
from feed.intake.imports.times import StatedTime, parse_stated_time


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-05-30T05:58:55+00:00", "2026-05-30T05:58:55"),
        ("2026-05-30T05:58:55Z", "2026-05-30T05:58:55"),
        ("2026-05-30T05:58:55+05:30", "2026-05-30T00:28:55"),
        (" 2026-05-30 05:58:55 -0700 ", "2026-05-30T12:58:55"),
        ("2026-02-01 05:02:13.372758416 -07:00", "2026-02-01T12:02:13.372"),
        ("20260530T055855Z", "2026-05-30T05:58:55"),
    ],
)
def test_time_with_a_zone_is_taken_as_it_is(cell: str, moment: str) -> None:
    assert parse_stated_time(cell, is_denial=True) == StatedTime(ms(moment), without_zone=False)


@pytest.mark.parametrize("cell", ["20260122T111244", "2026-01-22T11:12:44", "2026-01-22 11:12:44"])
def test_time_without_a_zone_is_utc_and_flagged(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=False) == StatedTime(ms("2026-01-22T11:12:44"), without_zone=True)


@pytest.mark.parametrize("cell", ["29.06.2026", "2026-06-29", "20260629"])
def test_time_date_alone_is_its_end_for_a_denial_and_its_start_for_a_grant(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=True) == StatedTime(ms("2026-06-29T23:59:59.999"), without_zone=True)
    assert parse_stated_time(cell, is_denial=False) == StatedTime(ms("2026-06-29T00:00:00"), without_zone=True)


def test_time_midnight_is_no_date_alone() -> None:
    assert parse_stated_time("2026-06-29T00:00:00Z", is_denial=True) == StatedTime(ms("2026-06-29"), without_zone=False)


@pytest.mark.parametrize("cell", ["", "  ", "\t"])
def test_time_blank_is_none(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=True) == StatedTime(0, without_zone=False)


@pytest.mark.parametrize("cell", ["03.02.2026", "3.2.2026", "12.11.2026", "01.12.2026"])
def test_time_with_day_and_month_that_could_be_swapped_is_ambiguous(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=True) is RowReason.TIME_AMBIGUOUS


def test_time_with_equal_day_and_month_is_not_ambiguous() -> None:
    assert parse_stated_time("03.03.2026", is_denial=False) == StatedTime(ms("2026-03-03"), without_zone=True)


@pytest.mark.parametrize(
    "cell",
    [
        "yesterday",
        "03/02/2026",
        "02.13.2026",
        "31.02.2026",
        "2026-02-30",
        "2026-13-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-W05-3",
        "1767225600",
        "2026-01-01T10:00:00+99:00",
        "\u0662026-01-01",
        "2026-01-01Z",
    ],
)
def test_time_of_another_form_is_unreadable(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=True) is RowReason.TIME_UNREADABLE


@pytest.mark.parametrize("cell", ["1970-01-01T00:00:00Z", "31.12.1994", "0001-01-01T00:00:00+23:59"])
def test_time_before_1995_is_too_early(cell: str) -> None:
    assert parse_stated_time(cell, is_denial=True) is RowReason.TIME_TOO_EARLY


def test_time_at_the_end_of_time_is_read() -> None:
    assert isinstance(parse_stated_time("9999-12-31T23:59:59-23:59", is_denial=True), StatedTime)
