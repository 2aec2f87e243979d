"""The management port: whether the program lives, is ready and has started, and its metrics, over HTTP in the program's event loop."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from hosting.addresses import Address, TcpAddress, UnixAddress, format_address
from hosting.certificates import OwnCertificate, TlsMaterial
from hosting.clock import Clock, SystemClock
from hosting.errors import SocketInUse
from hosting.metrics import Registry
from hosting.metrics.prometheus import render
from hosting.settings.server import ManagementSettings, TlsFiles
from hosting.sockets import SocketLease

Checks = Callable[[], Mapping[str, bool]]
"""Returns what readiness consists of, by name; all of it must hold."""

MAX_CONNECTIONS: Final = 64
CONNECTION_SECONDS: Final = 10.0
"""How long a connection lives, whatever it does: who sends or reads slowly holds nothing for long."""

_MAX_HEAD_BYTES: Final = 8192
_RENEW_SECONDS: Final = 30
_UNAVAILABLE: Final = 503
_LOGGER: Final = logging.getLogger(__name__)


class Management:
    """What the port shows, and the port itself, which opens only where it is set.

    Args:
        settings: Where it listens; None for nowhere.
        clock: For its certificate.

    Attributes:
        registry: The program's metrics.
        address: Where it listens, None before and where it does not.
        certificate: Its own, where it has one.
    """

    def __init__(self, settings: ManagementSettings | None = None, clock: Clock | None = None) -> None:
        self.registry = Registry()
        self.address: Address | None = None
        self.certificate: OwnCertificate | None = None
        self._settings = settings
        self._clock = clock or SystemClock()
        self._checks: Checks | None = None
        self._is_draining = False
        self._has_started = False
        self._context: ssl.SSLContext | None = None
        self._served: TlsMaterial | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._lease = ExitStack()

    def watch(self, checks: Checks) -> None:
        """Judge readiness by these from now on; before, nothing is ready."""
        self._checks = checks

    def drain(self) -> None:
        """Not ready any more, whatever comes."""
        self._is_draining = True

    def failing(self) -> list[str]:
        """Names of what keeps the program from being ready; empty where it is."""
        if self._is_draining:
            return ["draining"]
        if self._checks is None:
            return ["starting"]
        failing = [name for name, holds in self._checks().items() if not holds]
        self._has_started |= not failing
        return failing

    @property
    def has_started(self) -> bool:
        """Whether the program was ready once."""
        return self._has_started or not self.failing()

    async def start(self) -> None:
        """Listen, where that is set.

        Raises:
            SocketInUse, SocketPathError, DirectoryUnusable, TlsError: It cannot.
        """
        if self._settings is None:
            return
        tls, address = self._settings.tls, self._settings.parsed_address
        secured: dict[str, Any] = {}
        if tls is not None:
            self.certificate = OwnCertificate(
                tls.cert_file, tls.key_file, tls.ca_file, clock=self._clock, warning_days=tls.expiry_warning_days
            )
            self._served = self.certificate.current()
            self._context = context = _make_ssl_context(tls)
            secured["ssl_context_factory"] = lambda *_: context
        bound, self.address = self._bind(address)
        # What it says of hostile bytes would let anybody fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            make_app(self),
            http=cast("type[asyncio.Protocol]", partial(_Connection, dict[_Connection, None]())),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            timeout_graceful_shutdown=1,
            callback_notify=self._renew,
            timeout_notify=_RENEW_SECONDS,
            **secured,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        await self._server.wait_started(self._serving)
        _LOGGER.info("management port", extra={"fields": {"address": format_address(self.address)}})

    async def stop(self) -> None:
        """Listen no more; comes back within about a second."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
            self._server = None
        self._lease.close()

    def _bind(self, address: Address) -> tuple[socket.socket, Address]:
        if isinstance(address, UnixAddress):
            lease = self._lease.enter_context(SocketLease(address.path))
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            umask = os.umask(0o177)
            try:
                bound.bind(os.fspath(address.path))
            finally:
                os.umask(umask)
            lease.publish()
            return bound, address
        try:
            family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            bound = socket.create_server(place[:2], family=family)
        except OSError:
            raise SocketInUse(
                f"{format_address(address)}: cannot be bound; another server listens there, or it is not ours"
            ) from None
        return bound, TcpAddress(address.host, bound.getsockname()[1])

    async def _renew(self) -> None:
        """Take up a renewed certificate for the connections to come; the authorities stay those of the start."""
        if self.certificate is None or self._context is None or self._settings is None or self._settings.tls is None:
            return
        current, tls = await asyncio.to_thread(self.certificate.current), self._settings.tls
        if current is not self._served:
            # Where the files change just now, the next look takes what they hold then.
            with contextlib.suppress(OSError):
                self._context.load_cert_chain(tls.cert_file, tls.key_file)
                self._served = current


def make_app(management: Management) -> Starlette:
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


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
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


def _make_ssl_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert_file, tls.key_file)
    context.load_verify_locations(tls.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
