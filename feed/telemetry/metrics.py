"""What the feed counts while it works. What can be asked for is not counted here but read (`feed.readings`)."""

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from consent.event import FIRST_INFORMATIVE_TYPE, EventType
from feed.ports import Accepted, StoredEntry
from feed.telemetry import families
from hosting.call_context import CURRENT_SPAN
from hosting.metrics import Counter, Histogram

ACCEPT_BOUNDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
BATCH_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)

_TYPE_NAMES: Final = {each.value: each.name for each in EventType}


class LogMeter:
    """Counts what the log takes and what is refused.

    Attributes:
        last_change_seq: Of the newest entry that changes answers: sidecars acknowledge those, and no others.
    """

    def __init__(self) -> None:
        self.last_change_seq = 0
        self._submissions = Counter(families.SUBMISSIONS)
        self._durations = Histogram(families.ACCEPT_DURATION, ACCEPT_BOUNDS)
        self._batches = Histogram(families.BATCH_ENTRIES, BATCH_BOUNDS)
        self._entries = Counter(families.ENTRIES)
        self._refused = Counter(families.REFUSED_CALLS)

    @property
    def instruments(self) -> tuple[Counter | Histogram, ...]:
        """What a registry shows."""
        return self._submissions, self._durations, self._batches, self._entries, self._refused

    def note_accepted(self, accepted: Accepted, started: float) -> None:
        """A request that came at `started` (`time.perf_counter`) is in the log."""
        outcome = "replayed" if accepted.is_replay else "rejected" if accepted.rejection else "accepted"
        self._submissions.add((outcome,))
        self._durations.observe(perf_counter() - started, (), CURRENT_SPAN.get())

    def note_refused(self) -> None:
        """A request was refused."""
        self._submissions.add(("refused",))

    def note_batch(self, entries: Sequence[StoredEntry]) -> None:
        """These were committed together."""
        self.last_change_seq = newest_change(entries) or self.last_change_seq
        for entry in entries:
            self._entries.add((_TYPE_NAMES.get(entry.type_byte, f"0x{entry.type_byte:02X}"),))
        self._batches.observe(len(entries))

    def count_refusal(self, reason: str) -> None:
        """Count a call that got an error of this stable name."""
        self._refused.add((reason,))


def newest_change(entries: Sequence[StoredEntry]) -> int:
    """Seq of the last of these entries that changes answers, 0 where there is none."""
    return next((entry.seq for entry in reversed(entries) if entry.type_byte < FIRST_INFORMATIVE_TYPE), 0)
