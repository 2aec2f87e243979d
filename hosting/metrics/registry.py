"""Counting in plain memory.

A check costs some ten microseconds, and an instrument of the OpenTelemetry SDK would add several to it. Here a count is one entry of a
dict, a duration one slot of a list, and everything else is asked for when somebody looks. Counts are made and read in the event loop's
thread alone, so there is no lock.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, time
from typing import Final, NamedTuple

from hosting.call_context import Span
from hosting.metrics.family import Family

MAX_SERIES: Final = 2_000
"""Of one family; what comes beyond is counted under `OTHER`, so that no mistake fills the memory."""
OTHER: Final = "(other)"

Labels = tuple[str, ...]
Reading = float | Mapping[Labels, float] | None
"""What a callback returns: a number, a number for each label values, or None where there is nothing to say."""

_LOGGER: Final = logging.getLogger(__name__)


class Exemplar(NamedTuple):
    """One observation and the span that it was made in.

    Attributes:
        value: As observed.
        span: Where.
        time_seconds: Unix time.
    """

    value: float
    span: Span
    time_seconds: float


class Point(NamedTuple):
    """The value of one series."""

    labels: Labels
    value: float


class Distribution(NamedTuple):
    """One series of a histogram.

    Attributes:
        labels: Values of the labels.
        counts: Observations in each bucket, the last one above every bound; not cumulated.
        total: Sum of the observations.
        exemplars: The latest of each bucket, None where there is none.
    """

    labels: Labels
    counts: tuple[int, ...]
    total: float
    exemplars: tuple[Exemplar | None, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """A family as it stands.

    Attributes:
        family: Which.
        points: Of a counter or gauge.
        distributions: Of a histogram.
        bounds: Of its buckets.
    """

    family: Family
    points: Sequence[Point] = ()
    distributions: Sequence[Distribution] = ()
    bounds: Sequence[float] = ()


class Counter:
    """Numbers that only grow.

    Attributes:
        values: By label values. Who counts on a hot path adds to entries that are there by itself.
    """

    __slots__ = ("family", "values")

    def __init__(self, family: Family) -> None:
        self.family = family
        # Without labels there is one series, and it is 0 before anything happened.
        self.values: dict[Labels, float] = {} if family.labels else {(): 0}

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Count."""
        if labels not in self.values:
            labels = _bound(self.values, labels)
        self.values[labels] = self.values.get(labels, 0) + amount

    def collect(self) -> Collected:
        """As it stands."""
        return Collected(self.family, [Point(labels, value) for labels, value in self.values.items()])


class _Series:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
        self.exemplars: list[tuple[float, Span, float] | None] = [None] * buckets


class Histogram:
    """How observations are distributed over fixed buckets.

    Args:
        family: Which.
        bounds: Upper bounds of the buckets, ascending; above the last one there is one bucket more.
    """

    __slots__ = ("_series", "bounds", "family")

    def __init__(self, family: Family, bounds: Sequence[float]) -> None:
        self.family = family
        self.bounds = tuple(bounds)
        self._series: dict[Labels, _Series] = {}
        if not family.labels:
            self._begin(())

    def observe(self, value: float, labels: Labels = (), span: Span | None = None) -> None:
        """Count an observation, made in `span`."""
        series = self._series.get(labels)
        if series is None:
            series = self._begin(_bound(self._series, labels))
        bucket = bisect_left(self.bounds, value)
        series.counts[bucket] += 1
        series.total += value
        if span is not None:
            series.exemplars[bucket] = (value, span, perf_counter())

    def collect(self) -> Collected:
        """As it stands."""
        # Exemplars are kept with the cheaper clock's time, and leave with the world's.
        offset = time() - perf_counter()
        distributions = [
            Distribution(
                labels,
                tuple(series.counts),
                series.total,
                tuple(_date(each, offset) for each in series.exemplars),
            )
            for labels, series in self._series.items()
        ]
        return Collected(self.family, (), distributions, self.bounds)

    def _begin(self, labels: Labels) -> _Series:
        return self._series.setdefault(labels, _Series(len(self.bounds) + 1))


def _date(kept: "tuple[float, Span, float] | None", offset: float) -> Exemplar | None:
    return None if kept is None else Exemplar(kept[0], kept[1], kept[2] + offset)


class _Callback:
    def __init__(self, family: Family, read: Callable[[], Reading]) -> None:
        self.family = family
        self._read = read
        self._has_failed = False

    def collect(self) -> Collected:
        try:
            reading = self._read()
        except Exception as error:  # noqa: BLE001 - one number that cannot be had must not hide all others
            if not self._has_failed:
                fields = {"metric": self.family.name, "error": type(error).__name__}
                _LOGGER.warning("a metric cannot be read", extra={"fields": fields})
            self._has_failed, reading = True, None
        if reading is None:
            return Collected(self.family)
        if isinstance(reading, Mapping):
            points = [Point(labels, value) for labels, value in reading.items()]
            return Collected(self.family, points[:MAX_SERIES])
        return Collected(self.family, [Point((), reading)])


Instrument = Counter | Histogram | _Callback


class Registry:
    """All metrics of a program. Its methods, and those of instruments, are for the event loop's thread."""

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}

    def add(self, *instruments: Instrument) -> None:
        """Show these too; a name that is taken is a ValueError, here and below."""
        for instrument in instruments:
            if instrument.family.name in self._instruments:
                raise ValueError(f"{instrument.family.name}: is there already")
            self._instruments[instrument.family.name] = instrument

    def read(self, family: Family, read: Callable[[], Reading]) -> None:
        """A gauge, or a counter that is kept elsewhere: `read` is called whenever somebody looks, and must be quick."""
        self.add(_Callback(family, read))

    @property
    def families(self) -> tuple[Family, ...]:
        """What there is."""
        return tuple(instrument.family for instrument in self._instruments.values())

    def collect(self) -> list[Collected]:
        """Everything as it stands."""
        return [instrument.collect() for instrument in self._instruments.values()]

    def clear(self) -> None:
        """Forget all of them: what they were about has ended."""
        self._instruments.clear()


def _bound(known: Mapping[Labels, object], labels: Labels) -> Labels:
    return labels if len(known) < MAX_SERIES else (OTHER,) * len(labels)
