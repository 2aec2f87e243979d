"""SubjectService: what concerns people's tokens as such, on the administration's socket."""

from typing import Any

import grpc
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from consent.key_epoch import current_epoch
from consent.vocabulary.subject import Tokeniser
from feed.erasure import Eraser
from feed.grpc_api.decoding import decode_message
from feed.grpc_api.intake_codec import MAX_MESSAGE_BYTES, read_subject
from feed.intake.subjects import require_token, resolve_subject
from feed.ports import Log
from feed.sequencer import KeyEpochs

SERVICE_NAME = "consentry.intake.v1.SubjectService"

_Context = grpc.aio.ServicerContext[Any, Any]


class SubjectService:
    """Methods of the SubjectService. Who may reach its socket may call them.

    Args:
        log: What is in force.
        key_epochs: Begins key epochs.
        eraser: Erases people.
        tokeniser: Makes tokens of epoch 0.
        origin: Name of the log.
        source: Name of the listener's source, for the entries of the log.
    """

    def __init__(
        self, log: Log, key_epochs: KeyEpochs, eraser: Eraser, tokeniser: Tokeniser, *, origin: str, source: str
    ) -> None:
        self._log = log
        self._key_epochs = key_epochs
        self._eraser = eraser
        self._tokeniser = tokeniser
        self._origin = origin
        self._source = source

    async def GetKeyEpoch(self, message_bytes: bytes, context: _Context) -> bytes:
        """The key epoch that the log is in."""
        decode_message(intake_pb2.GetKeyEpochRequest, message_bytes, MAX_MESSAGE_BYTES)
        return intake_pb2.GetKeyEpochResponse(epoch=current_epoch(self._log.head.tenant)).SerializeToString()

    async def BeginKeyEpoch(self, message_bytes: bytes, context: _Context) -> bytes:
        """Begin the next key epoch; returns once it is in the log."""
        request = decode_message(intake_pb2.BeginKeyEpochRequest, message_bytes, MAX_MESSAGE_BYTES)
        begun = await self._key_epochs.begin(request.epoch)
        response = intake_pb2.BeginKeyEpochResponse(
            token=event_pb2.ConsistencyToken(origin=self._origin, seq=begun.seq),
            epoch=begun.epoch,
            subject_count=begun.subject_count,
        )
        return response.SerializeToString()

    async def EraseSubject(self, message_bytes: bytes, context: _Context) -> bytes:
        """Erase a person; returns once it is in the log and no copy is left."""
        request = decode_message(intake_pb2.EraseSubjectRequest, message_bytes, MAX_MESSAGE_BYTES)
        subject = read_subject(request.identifier)
        token = require_token(resolve_subject(subject, "identifier", self._tokeniser))
        erased = await self._eraser.erase(token, self._source)
        response = intake_pb2.EraseSubjectResponse(
            request_id=erased.request_id,
            token=event_pb2.ConsistencyToken(origin=self._origin, seq=erased.seq),
            token_count=erased.token_count,
            erased_count=erased.erased_count,
            kept_count=erased.kept_count,
        )
        return response.SerializeToString()


def subject_handler(service: SubjectService) -> grpc.GenericRpcHandler:
    """The service's methods for `server.add_generic_rpc_handlers`; messages are not decoded before the service gets them."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(getattr(service, name))
        for name in ("GetKeyEpoch", "BeginKeyEpoch", "EraseSubject")
    }
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)
