"""Who keeps a journal shows it: every enrolled sidecar must have a head logged now and then, or an alert says that it does not."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Self

from feed.alerts import Alert, AlertLog
from feed.enrolment import EnrolmentDesk
from feed.errors import FeedError
from feed.log_store.port import LogStore
from hosting.clock import Clock

LOOKS_PER_PERIOD: Final = 10

_LOGGER: Final = logging.getLogger(__name__)


class JournalWatch:
    """Raises `JOURNAL_SILENT` about a sidecar that logs no heads, once, and ends it when heads come again.

    Time counts from the last head, and from the feed's start where none came since: nobody can log heads with a feed that is away.

    Args:
        desk: Who is enrolled.
        store: Knows which alerts are not over.
        alerts: Where alerts go.
        connected_once: Returns the names of all sidecars that have ever connected.
        clock: The time.
        silent_seconds: How long a sidecar may log no head.
    """

    def __init__(
        self,
        desk: EnrolmentDesk,
        store: LogStore,
        alerts: AlertLog,
        connected_once: Callable[[], Collection[str]],
        clock: Clock,
        silent_seconds: float,
    ) -> None:
        self._desk = desk
        self._store = store
        self._alerts = alerts
        self._connected_once = connected_once
        self._clock = clock
        self._silent_seconds = silent_seconds
        # By boot time: setting the wall clock neither raises an alarm nor hides one.
        self._last_head: dict[str, int] = {}
        self._expected_since: dict[str, int] = {}
        self._silent: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Take up the alerts that the log says are not over; raises CorruptLog or LogStoreError."""
        self._silent = {
            alert.about for alert in await self._store.load_open_alerts() if alert.alert == Alert.JOURNAL_SILENT
        }

    def start(self) -> Self:
        """Look from now on."""
        self._task = asyncio.create_task(self._run())
        return self

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def note_head(self, sidecar_id: str) -> None:
        """A head of this sidecar was logged."""
        self._last_head[sidecar_id] = self._clock.boot_ms()

    def head_age_ms(self, sidecar_id: str) -> int | None:
        """Milliseconds since the last head was logged; None where none was since the feed's start."""
        last = self._last_head.get(sidecar_id)
        return None if last is None else max(0, self._clock.boot_ms() - last)

    def head_ages_seconds(self) -> dict[str, float]:
        """The same of every sidecar that has one, by name, in seconds."""
        now_ms = self._clock.boot_ms()
        return {sidecar_id: max(0, now_ms - last) / 1000 for sidecar_id, last in self._last_head.items()}

    def is_silent(self, sidecar_id: str) -> bool:
        """Whether an alert about this sidecar is not over."""
        return sidecar_id in self._silent

    async def look(self) -> None:
        """Raise and end alerts. One that cannot be logged now is tried again with the next look."""
        now_ms, connected = self._clock.boot_ms(), self._connected_once()
        expected = {name for name in {*connected, *self._silent} if self._desk.find(name) is not None}
        self._expected_since = {name: self._expected_since.get(name, now_ms) for name in expected}
        for name in sorted(expected | self._silent):
            since_ms = max(self._last_head.get(name, 0), self._expected_since.get(name, now_ms))
            is_silent = name in expected and now_ms - since_ms > 1000 * self._silent_seconds
            try:
                if is_silent and name not in self._silent:
                    await self._begin(name)
                elif name in self._silent and (name not in expected or name in self._last_head) and not is_silent:
                    await self._end(name, is_expected=name in expected)
            except FeedError as error:
                fields = {"sidecar_id": name, "reason": error.reason}
                _LOGGER.warning("an alert cannot be logged yet", extra={"fields": fields})

    async def _begin(self, sidecar_id: str) -> None:
        detail = f"no head for {self._silent_seconds:g} s"
        await self._alerts.record(Alert.JOURNAL_SILENT, sidecar_id, detail=detail)
        self._silent.add(sidecar_id)
        fields = {"sidecar_id": sidecar_id, "silent_seconds": self._silent_seconds}
        _LOGGER.error("a sidecar logs no heads of its journal", extra={"fields": fields})

    async def _end(self, sidecar_id: str, *, is_expected: bool) -> None:
        detail = "heads come again" if is_expected else "not enrolled any more"
        await self._alerts.record(Alert.JOURNAL_SILENT, sidecar_id, is_over=True, detail=detail)
        self._silent.discard(sidecar_id)
        _LOGGER.warning("an alert is over: %s", detail, extra={"fields": {"sidecar_id": sidecar_id}})

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._silent_seconds / LOOKS_PER_PERIOD)
            await self.look()
