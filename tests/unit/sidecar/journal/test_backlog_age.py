"""Since when the oldest decision waits."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal.backlog_age import MARK_PERIOD_MS, MAX_MARKS, BacklogAge


def test_backlog_age_is_that_of_the_oldest_that_waits() -> None:
    age = BacklogAge()
    for second in range(10):
        age.mark(1_000 * second, recorded=100 * (second + 1))
    assert age.age_ms(20_000, shipped=0, recorded=1_000) == 20_000
    assert age.age_ms(20_000, shipped=350, recorded=1_000) == 17_000
    assert age.age_ms(20_000, shipped=999, recorded=1_000) == 11_000
    assert age.age_ms(20_000, shipped=1_000, recorded=1_000) == 0


def test_backlog_age_begins_anew_after_everything_was_shipped() -> None:
    age = BacklogAge()
    age.mark(0, recorded=5)
    assert age.age_ms(60_000, shipped=5, recorded=5) == 0
    age.mark(60_000, recorded=6)
    assert age.age_ms(61_000, shipped=5, recorded=6) == 1_000


def test_backlog_age_of_an_outage_of_hours_keeps_the_oldest_and_stays_small() -> None:
    age = BacklogAge()
    seconds = 5 * MAX_MARKS
    for second in range(seconds):
        age.mark(1_000 * second, recorded=second + 1)
    assert len(age._marks) <= MAX_MARKS
    assert age.age_ms(1_000 * seconds, shipped=0, recorded=seconds) == 1_000 * seconds


@given(
    steps=st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 3)), min_size=1, max_size=40),
    share=st.floats(0, 1),
)
def test_backlog_age_is_off_by_no_more_than_the_marks_are_apart(steps: list[tuple[int, int]], share: float) -> None:
    age, now_ms, recorded = BacklogAge(), 0, 0
    born: list[int] = []
    for wait_ms, decisions in steps:
        now_ms += wait_ms
        recorded += decisions
        born += [now_ms] * decisions
        age.mark(now_ms, recorded)
    shipped = int(share * recorded)
    found = age.age_ms(now_ms, shipped, recorded)
    true = now_ms - born[shipped] if shipped < recorded else 0
    assert abs(found - true) <= MARK_PERIOD_MS + max(wait_ms for wait_ms, _ in steps)
