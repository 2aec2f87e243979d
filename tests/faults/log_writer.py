"""A process that records requests as fast as it can and says of each when it was accepted; made to be killed.

`python -m tests.faults.log_writer DIRECTORY RUN [kept]`: one line `NAME SEQ` for every accepted request, after `ready`. With `kept` it
is a log with archive and high-water mark.
"""

import asyncio
import os
import sys
from pathlib import Path

from feed.ports import Submission
from tests.fakes.feed_log import make_link, make_request, open_log
from tests.fakes.kept_log import KeptLog, LogFolder

IN_FLIGHT = 20


def make_numbered(run: str, number: int) -> tuple[str, Submission]:
    """The request of a number, the same each time: every fifth also links two people."""
    name = f"{run}-{number}"
    request = make_request(name)
    if number % 5:
        return name, request
    events = (*request.events, make_link(name, f"{run}-{number + 1}"))
    return name, Submission(events, request.idempotency)


async def write(directory: Path, run: str, *, is_kept: bool) -> None:
    numbers = iter(range(1_000_000))

    async with LogFolder(directory).run() if is_kept else open_log(directory) as log:
        if isinstance(log, KeptLog):
            log.mark.start()
            log.sequencer.watch(log.mark.notice)
        os.write(1, b"ready\n")

        async def record() -> None:
            for number in numbers:
                name, submission = make_numbered(run, number)
                accepted = await log.sequencer.submit(submission)
                os.write(1, f"{name} {accepted.seq}\n".encode())

        await asyncio.gather(*(record() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2], is_kept="kept" in sys.argv[3:]))
