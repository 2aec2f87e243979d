"""Carries steps out with blocking gRPC. This is the boundary to another process: nothing that gRPC raises gets past it."""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import grpc

from consentry_client.decision import Reason
from consentry_client.endpoint import CHANNEL_OPTIONS, LOST_CONNECTION, Endpoint
from consentry_client.exchange import Call, Metadata, Outcome
from consentry_client.failure import UNREADABLE, Failure, classify_status
from consentry_client.refusal import read_error_reason

# Quoted, because gRPC's classes are generic for the type checker only.
_UnaryMethod: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
_StreamMethod: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, bytes]"

_LOG = logging.getLogger("consentry_client")
_UNUSABLE = Failure(Reason.CLIENT_UNUSABLE)


class SyncTransport:
    """One channel, opened by the first call, for any number of threads of one process."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._process_id = 0
        self._is_closed = False
        self._unary: dict[tuple[grpc.Channel, str], _UnaryMethod] = {}

    def invoke(self, call: Call) -> Outcome:
        """Makes a unary call."""
        try:
            method = self._find_method(call.method)
            if method is None:
                return _UNUSABLE
            return method(
                call.request_bytes,
                timeout=call.timeout_seconds,
                metadata=call.metadata,
                wait_for_ready=call.wait_for_ready,
            )
        except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, there is no decision
            return self.read_failure(error)

    def open_stream(self, method: str, metadata: Metadata, wait_for_ready: bool) -> "SyncStream | None":
        """Opens a stream; None where this client cannot be used."""
        try:
            channel = self._open_channel()
            if channel is None:
                return None
            return SyncStream(self, channel.stream_stream(method), metadata, wait_for_ready)
        except Exception as error:  # noqa: BLE001 - the process boundary, as above
            self.read_failure(error)
            return None

    def close(self) -> None:
        """Closes the channel; calls on their way end as failures."""
        with self._lock:
            self._is_closed = True
            channel, self._channel = self._channel, None
        if channel is not None and self._process_id == os.getpid():
            channel.close()

    def read_failure(self, error: Exception) -> Failure:
        """Returns the failure that an exception of gRPC stands for; its text stays here, as it may hold anything."""
        if self._is_closed:
            return _UNUSABLE
        if isinstance(error, grpc.RpcError):
            call = cast(grpc.Call, error)
            if call.code() in LOST_CONNECTION:
                self._renew_certificate()
            return classify_status(call.code().name, read_error_reason(call.trailing_metadata()))
        _LOG.error("a call failed inside gRPC with %s", type(error).__name__)
        return Failure(Reason.CLIENT_ERROR)

    def _find_method(self, name: str) -> "_UnaryMethod | None":
        channel = self._open_channel()
        if channel is None:
            return None
        # By channel too: a thread that still has the former channel must not leave its method to the others.
        method = self._unary.get((channel, name))
        if method is None:
            method = self._unary[channel, name] = channel.unary_unary(name)
        return method

    def _renew_certificate(self) -> None:
        """Takes another channel for the next call if the certificate files have changed; calls under way keep theirs."""
        with self._lock:
            renewed = self.endpoint.renew()
            if renewed is not None:
                self.endpoint, self._channel = renewed, None
                self._unary.clear()

    def _open_channel(self) -> grpc.Channel | None:
        channel = self._channel
        if channel is None:
            with self._lock:
                if self._is_closed:
                    _LOG.error("a closed client was asked")
                    return None
                if self._channel is None:
                    self._channel = _make_channel(self.endpoint)
                    self._process_id = os.getpid()
                channel = self._channel
        if self._process_id != os.getpid():
            # gRPC's threads are not in the child of a fork: a call would hang there, deadline or not.
            _LOG.error("this client was first used before a fork; make one, or use it first, in the child")
            return None
        return channel


class SyncStream:
    """One bidirectional stream. Sending never blocks: a writer thread of gRPC takes from a queue."""

    def __init__(
        self,
        transport: SyncTransport,
        method: _StreamMethod,
        metadata: Metadata,
        wait_for_ready: bool,
    ) -> None:
        self._transport = transport
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # `iter` with a sentinel: the writer ends when None comes out of the queue.
        requests = cast(Iterator[bytes], iter(cast(Callable[[], bytes], self._outgoing.get), None))
        self._call: Any = method(requests, metadata=metadata, wait_for_ready=wait_for_ready)

    def send(self, message_bytes: bytes) -> None:
        """Queues a message."""
        self._outgoing.put(message_bytes)

    def receive(self, timeout_seconds: float) -> Outcome:
        """Waits for the next message."""
        is_late = threading.Event()
        watchdog = threading.Timer(timeout_seconds, self._give_up, (is_late,))
        watchdog.daemon = True
        try:
            # Inside, as there may be no thread left to start.
            watchdog.start()
            return cast(bytes, next(self._call))
        except StopIteration:
            return UNREADABLE
        except Exception as error:  # noqa: BLE001 - the process boundary, as in SyncTransport.invoke
            return classify_status("DEADLINE_EXCEEDED") if is_late.is_set() else self._transport.read_failure(error)
        finally:
            watchdog.cancel()

    def close(self) -> None:
        """Ends the stream and its writer."""
        self._outgoing.put(None)
        self._call.cancel()

    def _give_up(self, is_late: threading.Event) -> None:
        is_late.set()
        self._call.cancel()


def _make_channel(endpoint: Endpoint) -> grpc.Channel:
    credentials = endpoint.make_credentials()
    if credentials is None:
        return grpc.insecure_channel(endpoint.target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(endpoint.target, credentials, options=CHANNEL_OPTIONS)
