"""Uses of privileges, and refusals of them, on their way into the log (ADMIN).

A use is logged by itself. Refusals are gathered, so that a flood of refused calls cannot flood the log: those that are alike become one
entry with a count, and only so many kinds of them are told apart.
"""

import asyncio
import logging
from typing import Final, NamedTuple

from consent.event import AdminEvent
from feed.errors import FeedError
from feed.ports import Log, Submission
from feed.sequencer import FEED_SOURCE
from hosting.clock import Clock

MAX_KINDS: Final = 64
"""Gathered entries that one period may add to the log, beside one of each role for all others."""
OTHERS: Final = "(others)"
"""Stands for action, actor and outcome of what came when there were so many kinds already."""

_LOGGER: Final = logging.getLogger(__name__)


class Use(NamedTuple):
    """What is told of a call.

    Attributes:
        action: `<service>/<method>`.
        role: Of the listener.
        actor: The name in the caller's certificate, or the listener's.
        outcome: `OK`, or the stable reason of a refusal or failure.
        detail: What it was about, in words that name no person.
    """

    action: str
    role: str
    actor: str
    outcome: str = "OK"
    detail: str = ""


class _Gathered(NamedTuple):
    first_at_ms: int
    times: int


class AdminLog:
    """Logs uses and refusals.

    Args:
        log: Where ADMIN is logged.
        clock: The time.
        origin: Name of the log.
        period_seconds: How long what is gathered may wait.
    """

    def __init__(self, log: Log, clock: Clock, origin: str, period_seconds: float = 60.0) -> None:
        self._log = log
        self._clock = clock
        self._origin = origin
        self._period_seconds = period_seconds
        self._gathered: dict[Use, _Gathered] = {}
        self._flushing: asyncio.Task[None] | None = None

    async def record(self, use: Use) -> None:
        """Log a use; returns once it is durable.

        Raises:
            FeedError: What `Log.submit` raises.
        """
        await self._log.submit(Submission((self._make_event(use, _Gathered(self._clock.now_ms(), 1)),)))

    async def record_or_gather(self, use: Use) -> None:
        """Log a use now, or as soon as the log takes it: for what has happened already and cannot be refused any more."""
        try:
            await self.record(use)
        except FeedError as error:
            fields = {"action": use.action, "reason": error.reason}
            _LOGGER.warning("the use of a privilege cannot be logged yet", extra={"fields": fields})
            self.gather(use)

    def gather(self, use: Use) -> None:
        """Count a use or refusal; those that are alike are logged together when the period is over."""
        self._add(use, _Gathered(self._clock.now_ms(), 1))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._wait_and_flush())

    async def flush(self) -> None:
        """Log what was gathered; what cannot be logged now stays, counted on, for the next time."""
        taken, self._gathered = self._gathered, {}
        if not taken:
            return
        try:
            await self._log.submit(Submission(tuple(self._make_event(*item) for item in taken.items())))
        except FeedError as error:
            _LOGGER.warning("refusals cannot be logged yet", extra={"fields": {"reason": error.reason}})
            for item in taken.items():
                self._add(*item)

    async def close(self) -> None:
        """Log what was gathered, and stop."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait([self._flushing])
        await self.flush()
        if self._gathered:
            count = sum(gathered.times for gathered in self._gathered.values())
            _LOGGER.error("stopped with refusals that the log did not take", extra={"fields": {"count": count}})

    def _add(self, use: Use, more: _Gathered) -> None:
        if use not in self._gathered and len(self._gathered) >= MAX_KINDS:
            use = Use(OTHERS, use.role, OTHERS, OTHERS)
        before = self._gathered.get(use, _Gathered(more.first_at_ms, 0))
        self._gathered[use] = _Gathered(min(before.first_at_ms, more.first_at_ms), before.times + more.times)

    async def _wait_and_flush(self) -> None:
        try:
            while self._gathered:
                await asyncio.sleep(self._period_seconds)
                await self.flush()
        finally:
            # The next refusal starts a task of its own, whatever ended this one.
            self._flushing = None

    def _make_event(self, use: Use, gathered: _Gathered) -> AdminEvent:
        return AdminEvent(
            origin=self._origin,
            source=FEED_SOURCE,
            occurred_at_ms=gathered.first_at_ms,
            action=use.action,
            role=use.role,
            actor=use.actor,
            outcome=use.outcome,
            count=gathered.times,
            detail=use.detail,
        )
