"""The connection to the feed: a new channel whenever the files of the certificate have changed."""

import asyncio
from typing import Final

import grpc

from hosting.certificates import OwnCertificate, TlsMaterial, Validity
from hosting.tls import channel_credentials_of

_CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The follower's own backoff paces the attempts: gRPC's, which no setting reaches, must not refuse the ones it makes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)
_CLOSE_SECONDS: Final = 2.0
# A stream lasts for as long as nothing goes wrong.
_UNTIL_ITS_CALLS_END_SECONDS: Final = 1e9


class FeedConnection:
    """Channels to one feed: calls begin on the newest, and end where they began.

    gRPC's channels keep the certificate that they were made with, and a handshake happens whenever gRPC connects anew. So a
    changed certificate needs another channel; the calls on the former one, the stream above all, are left alone.

    Args:
        target: gRPC target of the feed.
        certificate: For mutual TLS, or None for a Unix socket.
        max_message_bytes: Of what the feed sends.
    """

    def __init__(self, target: str, certificate: OwnCertificate | None, *, max_message_bytes: int) -> None:
        self._target = target
        self._options = (*_CHANNEL_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes))
        self._certificate = certificate
        self._material = certificate.current() if certificate is not None else None
        self._channel = self._open(self._material)
        self._former: set[asyncio.Task[None]] = set()
        self._streams: set[grpc.aio.Call] = set()

    @property
    def own_validity(self) -> Validity | None:
        """Whether the own certificate is valid now; None without TLS."""
        return self._certificate.validity if self._certificate is not None else None

    def channel(self) -> grpc.aio.Channel:
        """Return the channel for the next call, made anew if the files have changed."""
        if self._certificate is None or (material := self._certificate.current()) is self._material:
            return self._channel
        former, self._material, self._channel = self._channel, material, self._open(material)
        closing = asyncio.create_task(former.close(_UNTIL_ITS_CALLS_END_SECONDS))
        self._former.add(closing)
        closing.add_done_callback(self._former.discard)
        return self._channel

    def add_stream(self, call: grpc.aio.Call) -> None:
        """Name a call that does not end by itself, so that `close` ends it."""
        self._streams.add(call)
        call.add_done_callback(self._streams.discard)

    async def close(self) -> None:
        """End all calls."""
        for call in tuple(self._streams):
            call.cancel()
        # Former channels close once their calls have ended, which those that are not streams do soon.
        if self._former:
            await asyncio.wait(tuple(self._former), timeout=_CLOSE_SECONDS)
        for closing in tuple(self._former):
            closing.cancel()
        await self._channel.close()

    def _open(self, material: TlsMaterial | None) -> grpc.aio.Channel:
        if material is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        return grpc.aio.secure_channel(self._target, channel_credentials_of(material), options=self._options)
