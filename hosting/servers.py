"""gRPC servers that come back.

In grpc.aio a call whose method is not UTF-8 ends the whole server, and with it every later call, while the program looks well: one flipped
byte, or one hostile peer, would silence a feed or a sidecar for good. So the task that accepts calls is watched, and the server replaced
where it ends by itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc

from hosting.errors import HostingError

_LOGGER: Final = logging.getLogger(__name__)
_ACCEPTING: Final = "_server_main_loop"
_RETRY_SECONDS: Final = 0.1
_END_SECONDS: Final = 1.0


class KeptServer:
    """A server, and each one that has to take its place.

    Args:
        make: Builds and binds a server, not yet started; called anew for each.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make = make
        self._server: grpc.aio.Server | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Start accepting calls.

        Raises:
            HostingError: It cannot be bound.
        """
        # Kept before it is started: what is bound must be stopped, whatever happens next.
        server = self._server = self._make()
        before = asyncio.all_tasks()
        await server.start()
        accepting = [task for task in asyncio.all_tasks() - before if _accepts_calls(task)]
        if not accepting:
            _LOGGER.error("this version of grpc cannot be watched: a server that ends by itself will not come back")
        for task in accepting:
            task.add_done_callback(self._on_end)

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and return when those under way have ended or the time is over."""
        self._is_stopping = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        if self._server is not None:
            await self._server.stop(grace_seconds)

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        if self._is_stopping or task.cancelled():
            return
        # The text of the error could hold anything that a peer has sent.
        error = type(task.exception()).__name__
        _LOGGER.error(
            "a malformed call has ended a server; another takes its place", extra={"fields": {"error": error}}
        )
        self._replacing = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        if self._server is not None:
            # What ended it is raised again by whoever stops it.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._server.stop(0), _END_SECONDS)
            self._server = None
        while True:
            try:
                return await self.start()
            except HostingError as error:
                _LOGGER.warning("cannot listen again yet: %s", error, extra={"fields": {"reason": error.reason}})
                await asyncio.sleep(_RETRY_SECONDS)


def _accepts_calls(task: asyncio.Task[Any]) -> bool:
    return str(getattr(task.get_coro(), "__qualname__", "")).endswith(_ACCEPTING)
