"""BackupService: safekeeping of the log, on the administration socket."""

from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any

import grpc
from consentry.intake.v1 import backup_pb2

from feed.backup.losses import LossGuard
from feed.grpc_api.decoding import decode_message
from feed.grpc_api.intake_codec import MAX_MESSAGE_BYTES
from feed.ports import FeedHead

SERVICE_NAME = "consentry.intake.v1.BackupService"
MAX_CHUNK_BYTES = 1024 * 1024
"""Below what a client takes in one message."""

_Context = grpc.aio.ServicerContext[Any, Any]


class BackupService:
    """Methods of the BackupService. Who may reach its socket may call them; what it sends is sealed under the feed's key.

    Args:
        current_head: Returns what is committed.
        write: Makes the pieces of a backup of the log at a head, each with the entries written so far.
        losses: Stops the intake.

    Attributes:
        written_at: `time.perf_counter` when the last backup had been sent as a whole, None before the first.
    """

    def __init__(
        self,
        current_head: Callable[[], FeedHead],
        write: Callable[[FeedHead], AsyncIterator[tuple[bytes, int]]],
        losses: LossGuard,
    ) -> None:
        self._current_head = current_head
        self._write = write
        self._losses = losses
        self.written_at: float | None = None

    async def BackUpLog(self, message_bytes: bytes, context: _Context) -> AsyncIterator[bytes]:
        """The log as it stands."""
        decode_message(backup_pb2.BackUpLogRequest, message_bytes, MAX_MESSAGE_BYTES)
        head = self._current_head()
        async for piece, written in self._write(head):
            for start in range(0, len(piece), MAX_CHUNK_BYTES):
                chunk = piece[start : start + MAX_CHUNK_BYTES]
                response = backup_pb2.BackUpLogResponse(chunk=chunk, written_entries=written, log_size=head.size)
                yield response.SerializeToString()
        self.written_at = perf_counter()

    async def ResumeIntake(self, message_bytes: bytes, context: _Context) -> bytes:
        """Open the intake by an operator's word."""
        decode_message(backup_pb2.ResumeIntakeRequest, message_bytes, MAX_MESSAGE_BYTES)
        was_stopped = self._losses.loss is not None
        await self._losses.resume()
        return backup_pb2.ResumeIntakeResponse(was_stopped=was_stopped).SerializeToString()


def backup_handler(service: BackupService) -> grpc.GenericRpcHandler:
    """The service's methods for `server.add_generic_rpc_handlers`; messages are not decoded before the service gets them."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "BackUpLog": grpc.unary_stream_rpc_method_handler(service.BackUpLog),
        "ResumeIntake": grpc.unary_unary_rpc_method_handler(service.ResumeIntake),
    }
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)
