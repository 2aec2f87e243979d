"""When the high-water mark is written: after commits, but not after every one."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Self

from feed.errors import HighWaterUnreadable
from feed.log_store.high_water import Mark, MarkFile
from feed.ports import FeedHead

MARK_INTERVAL_SECONDS: Final = 0.2
"""The mark is this much behind at most, unless it cannot be written."""

_LOGGER: Final = logging.getLogger(__name__)


class MarkKeeper:
    """Keeps the mark behind the log: never ahead of it, or a crash would look like a rollback. Made by `start` only.

    Args:
        file: Where the mark is.
        current_head: Returns what is committed.
        interval_seconds: Least time between two writes.
    """

    def __init__(
        self, file: MarkFile, current_head: Callable[[], FeedHead], interval_seconds: float = MARK_INTERVAL_SECONDS
    ) -> None:
        self._file = file
        self._current_head = current_head
        self._interval_seconds = interval_seconds
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._kept_size = 0
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Begin to keep it."""
        self._task = asyncio.create_task(self._run())
        return self

    def notice(self) -> None:
        """The log may have grown."""
        self._changed.set()

    async def close(self) -> None:
        """Write the last mark and stop."""
        self._closing.set()
        self._changed.set()
        if self._task is not None:
            await self._task
        await self._keep()

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._changed.wait()
            self._changed.clear()
            await self._keep()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval_seconds)

    async def _keep(self) -> None:
        head = self._current_head()
        if head.size <= self._kept_size:
            return
        try:
            await asyncio.to_thread(self._file.write, Mark(head.size, head.frontier.root_hash()))
        except HighWaterUnreadable as error:
            # The log is whole without it; only a rollback from here on would be found later. Said once, not each time.
            if not self._is_failing:
                _LOGGER.error("the high-water mark is behind the log: %s", error)
            self._is_failing = True
            # Tried again although nothing is logged meanwhile.
            self._changed.set()
            return
        self._kept_size, self._is_failing = head.size, False
