"""Alerts as entries of the log: an auditor finds there what somebody was told to look at, and when it was over."""

from enum import StrEnum

from consent.event import AlertEvent
from feed.ports import Log, Submission
from feed.sequencer import FEED_SOURCE
from hosting.clock import Clock


class Alert(StrEnum):
    """What the feed raises alerts about; the names stand in the log and do not change."""

    JOURNAL_SILENT = "JOURNAL_SILENT"
    JOURNAL_FORKED = "JOURNAL_FORKED"


class AlertLog:
    """Logs alerts.

    Args:
        log: Where they go.
        clock: The time.
        origin: Name of the log.
    """

    def __init__(self, log: Log, clock: Clock, origin: str) -> None:
        self._log = log
        self._clock = clock
        self._origin = origin

    async def record(self, alert: Alert, about: str, *, is_over: bool = False, detail: str = "") -> int:
        """Log that an alert began or is over; returns the entry's seq.

        Args:
            alert: Which one.
            about: Name of the sidecar or source that it is about.
            is_over: It is over.
            detail: Figures in words, nothing about any person.

        Raises:
            FeedError: What `Log.submit` raises.
        """
        event = AlertEvent(
            origin=self._origin,
            source=FEED_SOURCE,
            raised_at_ms=self._clock.now_ms(),
            alert=alert,
            about=about,
            is_over=is_over,
            detail=detail,
        )
        return (await self._log.submit(Submission((event,)))).seq
