"""Samples: whole populations count, order and chance do not, and nobody but the seed chooses."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from auditor.evidence.period import MAX_DAYS, Period, add_business_days
from auditor.evidence.sampling import Sample

DAY_MS = 86_400_000
NAMES = st.lists(st.text(max_size=8), unique=True, max_size=60)


def draw(names: list[str], seed: str, wanted: int) -> Sample[str]:
    sample: Sample[str] = Sample("population", seed, wanted)
    for name in names:
        sample.add(name, name)
    return sample


@given(names=NAMES, seed=st.text(max_size=5), wanted=st.integers(1, 20), data=st.data())
def test_sample_does_not_depend_on_the_order_of_the_population(
    names: list[str], seed: str, wanted: int, data: st.DataObject
) -> None:
    first = draw(names, seed, wanted)
    again = draw(data.draw(st.permutations(names)), seed, wanted)
    assert first.drawn() == again.drawn()
    assert first.size == len(names)
    assert len(first.drawn()) == min(wanted, len(names))
    assert set(first.drawn()) <= set(names)


@given(names=NAMES, seed=st.text(max_size=5), wanted=st.integers(1, 20))
def test_sample_of_fewer_items_is_the_beginning_of_a_larger_one(names: list[str], seed: str, wanted: int) -> None:
    assert draw(names, seed, wanted + 5).drawn()[:wanted] == draw(names, seed, wanted).drawn()


@given(names=NAMES.filter(lambda names: len(names) > 1), seed=st.text(max_size=5), wanted=st.integers(1, 20))
def test_sample_without_an_item_that_was_not_drawn_stays_the_same(names: list[str], seed: str, wanted: int) -> None:
    drawn = draw(names, seed, wanted).drawn()
    rest = [name for name in names if name not in drawn]
    assert draw([name for name in names if name not in rest[:1]], seed, wanted).drawn() == drawn


@given(time_ms=st.integers(0, 4_000_000_000_000), days=st.integers(0, 40))
def test_business_days_end_at_midnight_and_hold_exactly_so_many_weekdays(time_ms: int, days: int) -> None:
    end_ms = add_business_days(time_ms, days)
    assert end_ms % DAY_MS == 0
    # 1970-01-01 was a Thursday, so days 2 and 3 of each week from there are Saturday and Sunday.
    first, last = time_ms // DAY_MS + 1, end_ms // DAY_MS
    weekdays = [day for day in range(first, last) if day % 7 not in {2, 3}]
    assert len(weekdays) == days
    assert add_business_days(time_ms, days + 1) > end_ms


@given(first=st.dates(date(1970, 1, 1), date(2990, 1, 1)), length=st.integers(0, MAX_DAYS - 1))
def test_period_holds_its_days_and_nothing_else(first: date, length: int) -> None:
    last = first + timedelta(days=length)
    period = Period.parse(first.isoformat(), last.isoformat())
    assert period.holds(period.start_ms)
    assert not period.holds(period.start_ms - 1)
    assert not period.holds(period.end_ms)
    assert len(period.days()) == length + 1
    assert period.end_ms - period.start_ms == (length + 1) * DAY_MS
