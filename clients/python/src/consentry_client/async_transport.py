"""Carries steps out with asyncio gRPC. This is the boundary to another process: nothing that gRPC raises gets past it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TypeAlias, cast

import grpc
from grpc import aio

from consentry_client.decision import Reason
from consentry_client.endpoint import CHANNEL_OPTIONS, LOST_CONNECTION, Endpoint
from consentry_client.exchange import Call, Metadata, Outcome
from consentry_client.failure import UNREADABLE, Failure, classify_status
from consentry_client.refusal import read_error_reason

# Quoted, because gRPC's classes are generic for the type checker only.
_UnaryMethod: TypeAlias = "aio.UnaryUnaryMultiCallable[bytes, bytes]"
_StreamMethod: TypeAlias = "aio.StreamStreamMultiCallable[bytes, bytes]"

# gRPC's own words where it could not write to a stream that was cut; they take the place of the real status, which was
# UNAVAILABLE or will be seen when the batch is sent again.
_WRITE_FAILED = "Internal error from Core"

# Long enough for any call of a client.
_UNTIL_ITS_CALLS_END_SECONDS = 3600.0

_LOG = logging.getLogger("consentry_client")
_UNUSABLE = Failure(Reason.CLIENT_UNUSABLE)
# Worth repeating like UNAVAILABLE, yet no outage: a healthy sidecar cuts a stream on a message that is too large.
_CUT = Failure(Reason.CLIENT_ERROR, "UNAVAILABLE")


class AsyncTransport:
    """One channel, opened by the first call, for any number of tasks of one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._channel: aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._unary: dict[str, _UnaryMethod] = {}
        self._closing: set[asyncio.Future[None]] = set()

    async def invoke(self, call: Call) -> Outcome:
        """Makes a unary call."""
        try:
            method = self._find_method(call.method)
            if method is None:
                return _UNUSABLE
            return await method(
                call.request_bytes,
                timeout=call.timeout_seconds,
                metadata=call.metadata,
                wait_for_ready=call.wait_for_ready,
            )
        except asyncio.CancelledError:
            if is_task_cancelled():
                raise
            return self.read_failure(None)
        except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, there is no decision
            return self.read_failure(error)

    def open_stream(self, method: str, metadata: Metadata, wait_for_ready: bool) -> "AsyncStream | None":
        """Opens a stream; None where this client cannot be used."""
        try:
            channel = self._open_channel()
            if channel is None:
                return None
            return AsyncStream(self, channel.stream_stream(method), metadata, wait_for_ready)
        except Exception as error:  # noqa: BLE001 - the process boundary, as above
            self.read_failure(error)
            return None

    async def close(self) -> None:
        """Closes the channel; calls on their way end as failures."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if self._loop is not asyncio.get_running_loop():
            return
        for closing in tuple(self._closing):
            closing.cancel()
        if channel is not None:
            await channel.close()

    def read_failure(self, error: Exception | None) -> Failure:
        """Returns the failure that an exception of gRPC stands for; its text stays here, as it may hold anything."""
        if self._is_closed:
            return _UNUSABLE
        if isinstance(error, grpc.aio.AioRpcError):
            if error.code() in LOST_CONNECTION:
                self._renew_certificate()
            if error.details() == _WRITE_FAILED:
                return _CUT
            return classify_status(error.code().name, read_error_reason(error.trailing_metadata()))
        if error is None:
            return classify_status("CANCELLED")
        _LOG.error("a call failed inside gRPC with %s", type(error).__name__)
        return Failure(Reason.CLIENT_ERROR)

    def _find_method(self, name: str) -> "_UnaryMethod | None":
        channel = self._open_channel()
        if channel is None:
            return None
        method = self._unary.get(name)
        if method is None:
            method = self._unary[name] = channel.unary_unary(name)
        return method

    def _renew_certificate(self) -> None:
        """Takes another channel for the next call if the certificate files have changed; calls under way keep theirs."""
        renewed = self.endpoint.renew()
        if renewed is None:
            return
        self.endpoint, former, self._channel = renewed, self._channel, None
        self._unary.clear()
        if former is not None:
            closing = asyncio.ensure_future(former.close(_UNTIL_ITS_CALLS_END_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _open_channel(self) -> aio.Channel | None:
        if self._is_closed:
            _LOG.error("a closed client was asked")
            return None
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            self._channel = _make_channel(self.endpoint)
        if self._loop is not loop:
            _LOG.error("this client belongs to another event loop; make one in each")
            return None
        return self._channel


class AsyncStream:
    """One bidirectional stream. Sending never blocks: a task of gRPC takes from a queue.

    Were messages written in the caller's task, both sides could wait for the other to read.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        method: _StreamMethod,
        metadata: Metadata,
        wait_for_ready: bool,
    ) -> None:
        self._transport = transport
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._call = method(self._take_outgoing(), metadata=metadata, wait_for_ready=wait_for_ready)

    def send(self, message_bytes: bytes) -> None:
        """Queues a message."""
        self._outgoing.put_nowait(message_bytes)

    async def receive(self, timeout_seconds: float) -> Outcome:
        """Waits for the next message."""
        try:
            async with asyncio.timeout(timeout_seconds):
                message = await self._call.read()
        except TimeoutError:
            return classify_status("DEADLINE_EXCEEDED")
        except asyncio.CancelledError:
            if is_task_cancelled():
                raise
            return self._transport.read_failure(None)
        except Exception as error:  # noqa: BLE001 - the process boundary, as in AsyncTransport.invoke
            return self._transport.read_failure(error)
        return UNREADABLE if message is aio.EOF else cast(bytes, message)

    def close(self) -> None:
        """Ends the stream and its writer."""
        self._call.cancel()

    async def _take_outgoing(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._outgoing.get()


def is_task_cancelled() -> bool:
    """Tells whether the caller's own task is being cancelled.

    gRPC raises CancelledError also where only the call was, as when the client is closed meanwhile.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _make_channel(endpoint: Endpoint) -> aio.Channel:
    credentials = endpoint.make_credentials()
    if credentials is None:
        return aio.insecure_channel(endpoint.target, options=CHANNEL_OPTIONS)
    return aio.secure_channel(endpoint.target, credentials, options=CHANNEL_OPTIONS)
