"""Every RPC of every service, called with bytes, and what became of the call."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from consentry.decision.v1 import decision_pb2
from consentry.feed.v1 import feed_pb2
from consentry.intake.v1 import intake_pb2
from google.protobuf.message_factory import GetMessageClass

from hosting.grpc_errors import REASON_KEY

CALL_SECONDS = 20.0
FEED_FILES = (feed_pb2.DESCRIPTOR, intake_pb2.DESCRIPTOR)
SIDECAR_FILES = (decision_pb2.DESCRIPTOR,)
SERVED = "SERVED"
_OF_THE_MESSAGE = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


@dataclass(frozen=True)
class Rpc:
    """One RPC, and a message that it can be called with."""

    name: str
    message_bytes: bytes

    def __str__(self) -> str:
        return self.name


def list_rpcs(files: tuple[Any, ...], sidecar_id: str) -> Iterator[Rpc]:
    """Every RPC that the contracts have; a message that names a sidecar names this one."""
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                message: Any = GetMessageClass(method.input_type)()
                if "hello" in method.input_type.fields_by_name:
                    message.hello.sidecar_id = sidecar_id
                elif "sidecar_id" in method.input_type.fields_by_name:
                    message.sidecar_id = sidecar_id
                yield Rpc(f"{service.full_name}/{method.name}", message.SerializeToString())


async def outcome_of(channel: grpc.aio.Channel, rpc: Rpc) -> str:
    """`SERVED`, or the status and reason with which the caller was turned away.

    What the method itself says of the message (mostly that it is incomplete) shows that the caller got as far as that.
    """
    # To the server, a stream of one message is a single request.
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{rpc.name}")
    call = method(timeout=CALL_SECONDS)
    try:
        await call.write(rpc.message_bytes)
        await call.done_writing()
        if await call.read() is not grpc.aio.EOF:
            return SERVED
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # Turned away before the message was sent; the status says why.
        pass
    else:
        await call.code()
    finally:
        call.cancel()
    code, metadata = await call.code(), await call.trailing_metadata()
    if code in _OF_THE_MESSAGE:
        return SERVED
    return " ".join([code.name, *(str(value) for key, value in metadata or () if key == REASON_KEY)])
