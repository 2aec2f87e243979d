"""A process that fills a cache with a log that its number of entries decides, until somebody kills it.

Run as `python -m tests.fakes.cache_process FOLDER`; writes one line with the log size after each batch that may be acknowledged.
"""

import asyncio
import sys
from pathlib import Path

from consent.event import Event
from tests.fakes.cache_place import CachePlace
from tests.fakes.log_builder import START_MS, LogBuilder

BATCH = 3
MERGE_AFTER_ENTRIES = 40


def nth_event(log: LogBuilder, number: int) -> Event:
    """The event of a number: mostly directives of a few people, now and then a link or its end."""
    if number % 11 == 10:
        return log.link(f"p{number % 50}", f"p{(number * 7) % 50}")
    if number % 23 == 22:
        return log.unlink(f"p{(number - 12) % 50}", f"p{((number - 12) * 7) % 50}")
    return log.directive(
        f"p{number % 50}", purpose=f"purpose-{number % 3}", kind=1 + number % 6, occurred_at_ms=START_MS + number
    )


def grow(log: LogBuilder, size: int) -> None:
    """Add entries until the log has this size."""
    log.append(*(nth_event(log, number) for number in range(log.size, size)))


async def run(root: Path) -> None:
    log, place = LogBuilder(), CachePlace(root)
    cache = await place.open(merge_after_entries=MERGE_AFTER_ENTRIES)
    grow(log, cache.head.size)
    while True:
        await cache.apply(log.batch(*(nth_event(log, log.size + offset) for offset in range(BATCH))))
        place.clock.advance(400)
        sys.stdout.write(f"{log.size}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
