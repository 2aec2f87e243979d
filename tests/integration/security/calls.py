"""Every RPC of every service, called with bytes, and what became of the call."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from consentry.audit.v1 import journal_pb2
from consentry.decision.v1 import decision_pb2
from consentry.feed.v1 import audit_pb2, enrolment_pb2, feed_pb2
from consentry.intake.v1 import backup_pb2, intake_pb2
from google.protobuf.message_factory import GetMessageClass

from hosting.grpc_errors import REASON_KEY

CALL_SECONDS = 20.0
FEED_FILES = (
    feed_pb2.DESCRIPTOR,
    audit_pb2.DESCRIPTOR,
    enrolment_pb2.DESCRIPTOR,
    intake_pb2.DESCRIPTOR,
    backup_pb2.DESCRIPTOR,
)
SIDECAR_FILES = (decision_pb2.DESCRIPTOR, journal_pb2.DESCRIPTOR)
SERVED = "SERVED"
_OF_THE_MESSAGE = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
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


async def list_outcomes(
    target: str, credentials: grpc.ChannelCredentials | None, rpcs: Iterable[Rpc]
) -> dict[str, str]:
    """What becomes of each call, by its name: `SERVED`, or the status and reason with which the caller was turned away.

    In a thread, with blocking gRPC: the other one loses the status of a call that ended before its message was sent.
    """
    return await asyncio.to_thread(_call_all, target, credentials, list(rpcs))


def _call_all(target: str, credentials: grpc.ChannelCredentials | None, rpcs: list[Rpc]) -> dict[str, str]:
    opened = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    with opened as channel:
        return {rpc.name: _outcome_of(channel, rpc) for rpc in rpcs}


def _outcome_of(channel: grpc.Channel, rpc: Rpc) -> str:
    """What the method itself says of the message (mostly that it is incomplete) shows that the caller got as far as that."""
    # To the server, a stream of one message is a single request.
    method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{rpc.name}")
    call: Any = method(rpc.message_bytes, timeout=CALL_SECONDS)
    try:
        next(call, None)
    except grpc.RpcError:
        if call.code() not in _OF_THE_MESSAGE:
            reasons = [str(value) for key, value in call.trailing_metadata() or () if key == REASON_KEY]
            return " ".join([call.code().name, *reasons])
    finally:
        call.cancel()
    return SERVED
