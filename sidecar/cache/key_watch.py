"""Takes up newer key-encryption keys while the sidecar runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sidecar.errors import CacheError, KeyServiceError

_log = logging.getLogger(__name__)


async def watch_keys(rewrap: Callable[[], Awaitable[None]], check_seconds: float) -> None:
    """Keep the data key wrapped under the newest key-encryption key, until cancelled.

    Args:
        rewrap: Looks for a newer key and wraps anew under it.
        check_seconds: Between two looks, so that a failure is repaired by the next one.
    """
    while True:
        await asyncio.sleep(check_seconds)
        try:
            await rewrap()
        except (CacheError, KeyServiceError) as error:
            _log.warning("the cache's key is not wrapped under the newest key yet: %s", error)


def report_failure(task: asyncio.Task[None]) -> None:
    """Say that a task of the cache, which should run until cancelled, ended by itself."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical(
            "a task of the cache ended by a bug: it is no longer merged, or its key no longer rotated",
            exc_info=task.exception(),
        )
