"""A grpc.aio server whose Check decodes, does nothing, and answers: what the framework costs by itself."""

import asyncio
import sys

import grpc
from consentry.decision.v1 import decision_pb2

SERVICE = "consentry.decision.v1.ConsentDecisionService"
_ANSWER = decision_pb2.CheckResponse(
    effect=decision_pb2.EFFECT_ALLOW,
    reason=decision_pb2.REASON_DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN,
    log_size=1000,
    policy_version=1,
    staleness_ms=500,
    valid_until_ms=1_767_225_600_000,
    decision_id=bytes(16),
)


async def answer(
    _request: decision_pb2.CheckRequest, _context: grpc.aio.ServicerContext[object, object]
) -> decision_pb2.CheckResponse:
    """Always the same."""
    return _ANSWER


async def serve(address: str) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=decision_pb2.CheckRequest.FromString,
        response_serializer=decision_pb2.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Check": handler})])
    server.add_insecure_port(address)
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
