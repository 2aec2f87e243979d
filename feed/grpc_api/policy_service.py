"""PolicyService: administration of the feed, on a socket of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from consent.policy import MAX_DOCUMENT_BYTES
from feed.backup.losses import Loss
from feed.grpc_api.decoding import decode_message
from feed.grpc_api.intake_codec import MAX_MESSAGE_BYTES
from feed.grpc_api.progress import SidecarProgress
from feed.grpc_api.trace_context import read_traceparent
from feed.ports import Log
from feed.publish import Publisher

SERVICE_NAME = "consentry.intake.v1.PolicyService"
MAX_POLICY_MESSAGE_BYTES = MAX_DOCUMENT_BYTES + 1024
"""A document of the largest size and its frame; the server's own limit must be above it."""

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class FeedIdentity:
    """What does not change while the feed runs.

    Attributes:
        tenant: Name of the tenant.
        origin: Name of the log.
        version: Version of the program.
    """

    tenant: str
    origin: str
    version: str


class PolicyService:
    """Methods of the PolicyService. Who may reach its socket may call them.

    Args:
        publisher: Where policies go.
        log: What is in force.
        source: Name of the listener's source, for the entries of the log.
        identity: Of the feed.
        progress: How far each sidecar has come.
        loss: Why nothing is logged, None while the intake is open.
    """

    def __init__(
        self,
        publisher: Publisher,
        log: Log,
        source: str,
        identity: FeedIdentity,
        progress: Callable[[], Sequence[SidecarProgress]],
        loss: Callable[[], Loss | None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self._log = log
        self._source = source
        self._identity = identity
        self._progress = progress
        self._loss = loss

    async def PublishPolicy(self, message_bytes: bytes, context: _Context) -> bytes:
        """Put a policy in force."""
        request = decode_message(intake_pb2.PublishPolicyRequest, message_bytes, MAX_POLICY_MESSAGE_BYTES)
        accepted = await self._publisher.publish_policy(request.document, self._source, read_traceparent(context))
        response = intake_pb2.PublishPolicyResponse(
            token=event_pb2.ConsistencyToken(origin=self._identity.origin, seq=accepted.seq),
            version=self._log.head.tenant.policy_version,
        )
        return response.SerializeToString()

    async def GetPolicy(self, message_bytes: bytes, context: _Context) -> bytes:
        """The policy in force."""
        decode_message(intake_pb2.GetPolicyRequest, message_bytes, MAX_MESSAGE_BYTES)
        tenant = self._log.head.tenant
        response = intake_pb2.GetPolicyResponse(document=tenant.document, version=tenant.policy_version)
        return response.SerializeToString()

    async def GetFeedStatus(self, message_bytes: bytes, context: _Context) -> bytes:
        """What the feed holds, and how far the sidecars have come."""
        decode_message(intake_pb2.GetFeedStatusRequest, message_bytes, MAX_MESSAGE_BYTES)
        head, sidecars = self._log.head, self._progress()
        response = intake_pb2.GetFeedStatusResponse(
            tenant=self._identity.tenant,
            log_origin=self._identity.origin,
            log_size=head.size,
            root_hash=head.frontier.root_hash(),
            policy_version=head.tenant.policy_version,
            connected_sidecars=sum(sidecar.connected for sidecar in sidecars),
            sidecars=[
                intake_pb2.SidecarProgress(
                    sidecar_id=sidecar.sidecar_id,
                    acknowledged_size=sidecar.acknowledged_size,
                    acknowledged_at_ms=sidecar.acknowledged_at_ms,
                    connected=sidecar.connected,
                    last_nack_reason=sidecar.last_nack_reason,
                )
                for sidecar in sidecars
            ],
            version=self._identity.version,
        )
        loss = self._loss()
        if loss is not None:
            stop = intake_pb2.IntakeStop(
                first_lost_seq=loss.first_seq, last_lost_seq=loss.last_seq, sidecar_id=loss.sidecar_id
            )
            response.intake_stop.CopyFrom(stop)
        return response.SerializeToString()


def policy_handler(service: PolicyService) -> grpc.GenericRpcHandler:
    """The service's methods for `server.add_generic_rpc_handlers`; messages are not decoded before the service gets them."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(getattr(service, name))
        for name in ("PublishPolicy", "GetPolicy", "GetFeedStatus")
    }
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)
