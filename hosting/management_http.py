"""What the management port speaks: HTTP by Starlette and uvicorn, small and bounded."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from hosting.metrics import Registry
from hosting.metrics.prometheus import render

MAX_CONNECTIONS: Final = 64
CONNECTION_SECONDS: Final = 10.0
"""How long a connection lives, whatever it does: who sends or reads slowly holds nothing for long."""

_MAX_HEAD_BYTES: Final = 8192
_RENEW_SECONDS: Final = 30
_UNAVAILABLE: Final = 503


class Shown(Protocol):
    """What the port shows; `hosting.management.Management` is it."""

    registry: Registry

    @property
    def has_started(self) -> bool:
        """Whether the program was ready once."""
        ...

    def failing(self) -> list[str]:
        """Names of what keeps the program from being ready."""
        ...


def make_server(
    management: Shown, context: ssl.SSLContext | None, renew: Callable[[], Awaitable[None]]
) -> "ManagementServer":
    """A server for what a port shows, not yet started.

    Args:
        management: What it shows.
        context: For TLS; None for plain HTTP.
        renew: Called now and then, to take up a renewed certificate.
    """
    secured: dict[str, Any] = {} if context is None else {"ssl_context_factory": lambda *_: context}
    # What it says of hostile bytes would let anybody fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        make_app(management),
        http=cast("type[asyncio.Protocol]", partial(_Connection, dict[_Connection, None]())),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        timeout_graceful_shutdown=1,
        callback_notify=renew,
        timeout_notify=_RENEW_SECONDS,
        **secured,
    )
    return ManagementServer(config)


def make_app(management: Shown) -> Starlette:
    """The application, for any ASGI server."""

    async def livez(_: Request) -> Response:
        # That it is answered shows that the event loop runs, which every check needs.
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        failing = management.failing()
        status = {"status": "not ready" if failing else "ready", "failing": failing}
        return JSONResponse(status, _UNAVAILABLE if failing else 200)

    async def startupz(_: Request) -> Response:
        if management.has_started:
            return JSONResponse({"status": "started"})
        return JSONResponse({"status": "starting", "failing": management.failing()}, _UNAVAILABLE)

    async def metrics(request: Request) -> Response:
        text, content_type = render(management.registry.collect(), request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    endpoints = {"/livez": livez, "/readyz": readyz, "/startupz": startupz, "/metrics": metrics}
    return Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()])


class ManagementServer(uvicorn.Server):
    """A uvicorn server inside a program that has signals and sockets of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell who waits for it."""
        await super().startup(sockets)
        self._has_started.set()

    async def wait_started(self, serving: "asyncio.Task[None]") -> None:
        """Until it listens; raises what ended it before that."""
        started = asyncio.ensure_future(self._has_started.wait())
        await asyncio.wait([started, serving], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if serving.done():
            serving.result()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to the program."""
        yield


class _Connection(H11Protocol):
    """A connection that ends after `CONNECTION_SECONDS`; where there are too many, the oldest makes way for the newest.

    So nobody who holds connections open can keep a probe from its answer.

    Args:
        open_connections: All of the port, in the order in which they came.
        given: What uvicorn passes.
    """

    def __init__(self, open_connections: "dict[_Connection, None]", **given: Any) -> None:
        super().__init__(**given)
        self._open_connections = open_connections
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it in."""
        super().connection_made(transport)
        self._end = asyncio.get_running_loop().call_later(CONNECTION_SECONDS, transport.abort)
        self._open_connections[self] = None
        if len(self._open_connections) > MAX_CONNECTIONS:
            oldest = next(iter(self._open_connections))
            del self._open_connections[oldest]
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        if self._end is not None:
            self._end.cancel()
        self._open_connections.pop(self, None)
        super().connection_lost(exc)
