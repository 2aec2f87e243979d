"""Counting: what is counted is shown, and nothing that goes wrong with one number hides the others."""

import logging

import pytest

from hosting.metrics import Counter, Family, Histogram, Kind, Registry
from hosting.metrics.registry import MAX_SERIES, OTHER, Point

CALLS = Family("calls_total", Kind.COUNTER, "Calls.", ("reason",))
STARTS = Family("starts_total", Kind.COUNTER, "Starts.")
SIZE = Family("size_bytes", Kind.GAUGE, "Size.")
STATE = Family("state", Kind.GAUGE, "State.", ("state",))
SPEED = Family("speed_seconds", Kind.HISTOGRAM, "Speed.", ("method",))
SPAN = (bytes(15) + b"\x01", bytes(7) + b"\x02")


def test_counter_without_labels_is_zero_before_anything_happened() -> None:
    counter = Counter(STARTS)
    assert counter.collect().points == [Point((), 0)]
    counter.add(amount=2)
    counter.add()
    assert counter.collect().points == [Point((), 3)]


def test_counter_counts_each_label_apart() -> None:
    counter = Counter(CALLS)
    for reason in ("A", "B", "A"):
        counter.add((reason,))
    assert dict(counter.collect().points) == {("A",): 2, ("B",): 1}


def test_counter_beyond_its_bound_counts_the_rest_together() -> None:
    counter = Counter(CALLS)
    for number in range(MAX_SERIES + 3):
        counter.add((f"R{number}",))
    counter.add(("R0",))
    values = dict(counter.collect().points)
    assert len(values) == MAX_SERIES + 1
    assert (values["R0",], values[OTHER,]) == (2, 3)


def test_histogram_sorts_observations_into_buckets_bounds_included() -> None:
    histogram = Histogram(SPEED, (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value, ("Check",))
    (series,) = histogram.collect().distributions
    assert (series.labels, series.counts) == (("Check",), (2, 1, 1))
    assert series.total == pytest.approx(7.65)


def test_histogram_keeps_the_latest_span_of_each_bucket() -> None:
    histogram = Histogram(SPEED, (0.1, 1.0))
    histogram.observe(0.5, ("Check",), (bytes(16), bytes(8)))
    histogram.observe(0.6, ("Check",), SPAN)
    histogram.observe(0.7, ("Check",))
    low, middle, high = histogram.collect().distributions[0].exemplars
    assert (low, high) == (None, None)
    assert middle is not None
    assert (middle.value, middle.span) == (0.6, SPAN)
    assert middle.time_seconds > 1_600_000_000


def test_registry_reads_when_somebody_looks() -> None:
    registry, held = Registry(), [1]
    registry.read(SIZE, lambda: held[0])
    registry.read(STATE, lambda: {("up",): 1, ("down",): 0})
    held[0] = 5
    size, state = registry.collect()
    assert size.points == [Point((), 5)]
    assert dict(state.points) == {("up",): 1, ("down",): 0}


def test_registry_number_that_cannot_be_read_is_missing_alone_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()

    def fail() -> float:
        raise ValueError("alice@person.example")

    registry.read(SIZE, fail)
    registry.add(Counter(STARTS))
    with caplog.at_level(logging.WARNING):
        collected = [registry.collect(), registry.collect()][-1]
    assert [len(each.points) for each in collected] == [0, 1]
    assert [record.getMessage() for record in caplog.records] == ["a metric cannot be read"]
    assert "alice" not in str(caplog.records[0].__dict__)


def test_registry_takes_each_name_once_until_it_is_cleared() -> None:
    registry = Registry()
    registry.add(Counter(STARTS))
    with pytest.raises(ValueError, match="starts_total"):
        registry.add(Counter(STARTS))
    registry.clear()
    registry.add(Counter(STARTS))
    assert registry.families == (STARTS,)


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("calls", Kind.COUNTER, ()),
        ("size_total", Kind.GAUGE, ()),
        ("Calls_total", Kind.COUNTER, ()),
        ("size", Kind.GAUGE, ("a-b",)),
    ],
)
def test_family_refuses_names_that_prometheus_would_change(name: str, kind: Kind, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=name):
        Family(name, kind, "Meaning.", labels)
