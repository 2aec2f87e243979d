"""What the sidecar counts while it works. What can be asked for is not counted here but read (`sidecar.readings`)."""

from collections.abc import Collection, Sequence
from time import perf_counter
from typing import Final

from consent.decide import Decision
from hosting.call_context import CURRENT_SPAN
from hosting.metrics import Counter, Histogram, Labels
from sidecar.telemetry import families

SEVERAL: Final = "(several)"
UNKNOWN: Final = "(unknown)"

CHECK: Final = ("Check",)
CHECK_BATCH: Final = ("CheckBatch",)
CHECK_STREAM: Final = ("CheckStream",)
EXPLAIN: Final = ("Explain",)

CHECK_BOUNDS: Final = (
    0.00005, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0
)  # fmt: skip
"""Seconds; fine where answers are, so that quantiles mean something."""
APPLY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


class CheckMeter:
    """Counts checks. `count` and `observe` are on the check path and cost well under a microsecond together."""

    def __init__(self) -> None:
        self._decisions = Counter(families.DECISIONS)
        self._durations = Histogram(families.CHECK_DURATION, CHECK_BOUNDS)
        self._refused = Counter(families.REFUSED_CALLS)

    @property
    def instruments(self) -> tuple[Counter | Histogram, ...]:
        """What a registry shows."""
        return self._decisions, self._durations, self._refused

    def count(self, purposes: Sequence[str], known: Collection[str], decisions: Sequence[Decision]) -> None:
        """Count the answers of a group.

        Args:
            purposes: As asked.
            known: Those of the policy: a caller that mixes up its fields may send an identifier in the place of a purpose.
            decisions: The answers.
        """
        purpose = SEVERAL
        if len(purposes) < 2:
            purpose = purposes[0] if purposes and purposes[0] in known else UNKNOWN
        values = self._decisions.values
        for decision in decisions:
            labels = (decision[0], decision[1], purpose)
            try:
                values[labels] += 1
            except KeyError:
                self._decisions.add(labels)

    def observe(self, method: Labels, started: float) -> None:
        """Count how long a call of `CHECK` or one of its neighbours took that began at `started` (`time.perf_counter`)."""
        self._durations.observe(perf_counter() - started, method, CURRENT_SPAN.get())

    def count_refusal(self, reason: str) -> None:
        """Count a call that got an error of this stable name."""
        self._refused.add((reason,))


class SyncMeter:
    """Counts what comes from the feed.

    Attributes:
        last_frame: `time.perf_counter` when something that verified came last, None before.
    """

    def __init__(self) -> None:
        self._errors = Counter(families.SYNC_ERRORS)
        self._durations = Histogram(families.APPLY_DURATION, APPLY_BOUNDS)
        self._entries = Counter(families.APPLIED_ENTRIES)
        self.last_frame: float | None = None

    @property
    def instruments(self) -> tuple[Counter | Histogram, ...]:
        """What a registry shows."""
        return self._errors, self._durations, self._entries

    def note_frame(self) -> None:
        """Something came and verified."""
        self.last_frame = perf_counter()

    def note_batch(self, entries: int, started: float) -> None:
        """A batch is in force; its verified entries were there at `started` (`time.perf_counter`)."""
        self._entries.add(amount=entries)
        self._durations.observe(perf_counter() - started)

    def count_error(self, reason: str) -> None:
        """Following was interrupted, for this stable name."""
        self._errors.add((reason,))
