"""Keeps the shipper running, a process of its own beside the sidecar's."""

import asyncio
import contextlib
import logging
import os
import sys
from typing import Final

from sidecar.errors import ShipperMisconfigured
from sidecar.sync.backoff import Backoff

PARENT_VARIABLE: Final = "CONSENTRY_SIDECAR_PARENT_PID"
"""Tells a shipper whose it is: it ends with its sidecar."""

_STOP_SECONDS: Final = 10.0
_EXIT_MISCONFIGURED: Final = 2

logger = logging.getLogger(__name__)


async def end_supervisors(tasks: list[asyncio.Task[None]]) -> None:
    """Stop the shipper, if it was started; raises what ended it before, if it was not asked to end."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def supervise_shipper(arguments: list[str]) -> None:
    """Keep a shipper running in a process of its own, so that exporting costs the check path nothing.

    Raises:
        ShipperMisconfigured: It refused its settings; started anew, it would refuse them again.
    """
    backoff = Backoff(0.5, 30)
    command = (sys.executable, "-m", "sidecar", *arguments)
    environ = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    while True:
        code: int | None = None
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec(*command, env=environ)
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await _stop_process(process)
                raise
        if code == _EXIT_MISCONFIGURED:
            raise ShipperMisconfigured("the shipper cannot start with these settings; its own message says why")
        logger.error("the shipper ended and is started anew", extra={"fields": {"exit_code": code}})
        await asyncio.sleep(backoff.next_seconds())


async def _stop_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
