"""One gRPC server per listener."""

from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hosting.grpc_errors import ErrorBoundary
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS
from sidecar.grpc_api.codec import MAX_MESSAGE_BYTES
from sidecar.grpc_api.decision_service import SERVICE
from sidecar.grpc_api.status import STATUSES

# Above our own limit, so that what is a little too large is answered with the name of the limit and not by the library.
_OPTIONS = (
    *EXCLUSIVE_PORT_OPTIONS,
    ("grpc.max_receive_message_length", 2 * MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 1000),
)


MAX_CONCURRENT_CALLS = 2_000
"""Of one listener; one more is answered RESOURCE_EXHAUSTED, which every client takes for a deny."""


class Health:
    """`grpc.health.v1` for all listeners: serving only with verified data."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()

    async def set_ready(self, *, is_ready: bool) -> None:
        """Say whether checks can be answered from verified data."""
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self.servicer.set(service, serving if is_ready else not_serving)

    async def drain(self) -> None:
        """Not serving any more, whatever comes."""
        await self.servicer.enter_graceful_shutdown()


def build_server(
    handlers: Sequence[grpc.GenericRpcHandler],
    health_of: Health,
    *,
    reflect: bool,
    on_refusal: Callable[[str], None] = lambda _: None,
) -> grpc.aio.Server:
    """A server for these services, not yet bound or started; `on_refusal` is called with the reason of each refused call."""
    server = grpc.aio.server(
        interceptors=(ErrorBoundary(STATUSES, on_refusal),),
        options=_OPTIONS,
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    server.add_generic_rpc_handlers(handlers)
    health_pb2_grpc.add_HealthServicer_to_server(health_of.servicer, server)
    if reflect:
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return server
