"""What both fakes have in common: a gRPC server on a Unix socket in a folder of its own."""

import asyncio
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

_THREADS = 16

# Quoted, because gRPC's class is generic for the type checker only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers: TypeAlias = "Mapping[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]]"


class FakeServer(ABC):
    """Runs between `start` and `stop`, or within `with` or `async with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directory: Path | None = None
        self._server: grpc.Server | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._failure: tuple[grpc.StatusCode, str] | None = None

    @property
    def address(self) -> str:
        """Address for a client; stays the same through `stop` and `start` within one `with`."""
        return f"unix://{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        """Path of the socket; the folder is made on first use."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="consentry-"))
        return self._directory / "fake.sock"

    def fail_with(self, code: grpc.StatusCode | None, reason: str = "") -> None:
        """Makes every call from now on fail.

        Args:
            code: The status; None: answer again.
            reason: Stable name that travels with it, as a real server sends one.
        """
        self._failure = None if code is None else (code, reason)

    def start(self) -> None:
        """Starts, or starts again after `stop`.

        Raises:
            RuntimeError: It runs already.
        """
        if self._server is not None:
            raise RuntimeError("the fake runs already")
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix=type(self).__name__)
        self._server = grpc.server(self._executor, options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(service, dict(handlers))
                for service, handlers in self._handlers().items()
            ]
        )
        self._server.add_insecure_port(f"unix:{self.socket_path}")
        self._server.start()

    def stop(self) -> None:
        """Stops at once, as a killed process would: calls on their way fail with UNAVAILABLE or CANCELLED."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait()
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Stopping waits for calls whose other end may live in this very loop.
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    @abstractmethod
    def _handlers(self) -> Handlers:
        """Returns the handlers of each service by method name."""

    def _fail_if_told(self, context: grpc.ServicerContext) -> None:
        if self._failure is not None:
            code, reason = self._failure
            abort(context, code, reason)


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str = "") -> None:
    """Ends a call with a status and, if there is one, its stable name."""
    if reason:
        context.set_trailing_metadata((("consentry-reason", reason),))
    context.abort(code, "told to fail")
