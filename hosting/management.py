"""The management port: whether the program lives, is ready and has started, and its metrics, over HTTP in the program's event loop."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from hosting.addresses import Address, TcpAddress, UnixAddress, format_address
from hosting.certificates import OwnCertificate, TlsMaterial
from hosting.clock import Clock, SystemClock
from hosting.errors import SocketInUse
from hosting.metrics import Registry
from hosting.settings.server import ManagementSettings, TlsFiles
from hosting.sockets import SocketLease

if TYPE_CHECKING:
    from hosting.management_http import ManagementServer

Checks = Callable[[], Mapping[str, bool]]
"""Returns what readiness consists of, by name; all of it must hold."""

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
        self._server: ManagementServer | None = None
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
        # Megabytes that a program without the port need not carry.
        from hosting.management_http import make_server

        tls = self._settings.tls
        if tls is not None:
            self.certificate = OwnCertificate(
                tls.cert_file, tls.key_file, tls.ca_file, clock=self._clock, warning_days=tls.expiry_warning_days
            )
            self._served = self.certificate.current()
            self._context = _make_ssl_context(tls)
        bound, self.address = self._bind(self._settings.parsed_address)
        self._server = make_server(self, self._context, self._renew)
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


def _make_ssl_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert_file, tls.key_file)
    context.load_verify_locations(tls.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
