"""When the high-water mark is written: after commits, not after every one."""

import asyncio
import logging

from hosting.clock import Clock
from sidecar.cache.high_water import HighWaterFile, Mark
from sidecar.cache.manifest import Manifest
from sidecar.cache.opening import mark_of

MARK_INTERVAL_MS = 1_000
"""The mark is this much behind at most: an older file that is younger than that is not told from a crash."""

_log = logging.getLogger(__name__)


class MarkKeeper:
    """Keeps the high-water mark behind the file: never ahead, or a crash would look like a rollback.

    Args:
        file: The mark's file, None where there is none.
        clock: For the interval.
    """

    def __init__(self, file: HighWaterFile | None, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: Mark | None = None
        self._tried_ms = 0
        self._is_failing = False

    async def keep(self, manifest: Manifest, *, at_once: bool = False) -> None:
        """Write the mark of a manifest that is durable, unless it was written a moment ago.

        Args:
            manifest: What the file holds.
            at_once: Whether to write it in any case.
        """
        file, mark = self._file, mark_of(manifest)
        async with self._lock:
            if file is None or (self._kept is not None and mark <= self._kept):
                return
            now_ms = self._clock.boot_ms()
            if not at_once and now_ms - self._tried_ms < MARK_INTERVAL_MS:
                return
            self._tried_ms = now_ms
            try:
                await asyncio.to_thread(file.write, mark)
            except OSError as error:
                # Said once, not with every attempt.
                if not self._is_failing:
                    _log.warning("the cache's high-water mark cannot be written: %s", error.strerror)
                self._is_failing = True
                return
            self._kept, self._is_failing = mark, False

    async def rewrap(self, manifest: Manifest) -> None:
        """Write the mark of a durable manifest under the newest KEK, unless it is; where that fails, the next call tries again."""
        async with self._lock:
            if self._file is None or self._file.is_key_current:
                return
            self._kept = None
        await self.keep(manifest, at_once=True)

    def due_in_ms(self, manifest: Manifest) -> list[int]:
        """Milliseconds until the mark has to be written, nothing where it need not."""
        if self._file is None or self._kept == mark_of(manifest):
            return []
        return [max(1, self._tried_ms + MARK_INTERVAL_MS - self._clock.boot_ms())]
