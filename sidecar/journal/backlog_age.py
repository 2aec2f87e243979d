"""Since when the oldest decision waits that is not shipped, without a note for each decision."""

from collections import deque
from typing import Final

MARK_PERIOD_MS: Final = 1_000
MAX_MARKS: Final = 4_096


class BacklogAge:
    """Remembers how many decisions there were at which time, about once a second; safe for one writer and readers in other threads."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque()

    def mark(self, now_ms: int, recorded: int) -> None:
        """Note that by now this many decisions are recorded."""
        marks = self._marks
        if marks and (recorded == marks[-1][1] or now_ms - marks[-1][0] < MARK_PERIOD_MS):
            return
        if len(marks) >= MAX_MARKS:
            # Hours of an outage: every second mark goes, the oldest stays.
            self._marks = marks = deque(list(marks)[::2])
        marks.append((now_ms, recorded))

    def age_ms(self, now_ms: int, shipped: int, recorded: int) -> int:
        """Age of the oldest decision beyond the first `shipped` ones; 0 where there is none."""
        if shipped >= recorded:
            return 0
        marks = self._marks
        while len(marks) > 1 and marks[0][1] <= shipped:
            # Everything that this mark counts has left; what waits came after it.
            marks.popleft()
        return max(0, now_ms - marks[0][0]) if marks else 0
