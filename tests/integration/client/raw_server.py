"""A gRPC server that says whatever bytes a test wants, to see what a client makes of them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

Answer = Callable[[bytes], bytes]


class RawServer(grpc.GenericRpcHandler):
    """Answers every unary method, and each message of a stream, with `answer(request)`.

    Attributes:
        answer: What to say; may raise.
        is_hanging: While set, nobody gets an answer.
        requests: Everything that came in.
        metadata: Metadata of the last call.
    """

    def __init__(self, socket_path: Path) -> None:
        self.answer: Answer = lambda _: b""
        self.is_hanging = False
        self.requests: list[bytes] = []
        self.metadata: dict[str, str | bytes] = {}
        self.address = f"unix://{socket_path}"
        self._release = threading.Event()
        self._executor = ThreadPoolExecutor(8)
        self._server = grpc.server(self._executor, handlers=[self])
        self._server.add_insecure_port(f"unix:{socket_path}")

    def service(self, call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        self.metadata = dict(call_details.invocation_metadata)
        if call_details.method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release.set()
        self._server.stop(0).wait()
        self._executor.shutdown()

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append(request)
        if self.is_hanging:
            self._release.wait()
        return self.answer(request)

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            answer = self._unary(request, context)
            if not answer:
                return
            yield answer
