"""An OTLP receiver that takes every export and looks at none: what remains is the sender's cost."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
#: An `ExportTraceServiceResponse` in which nothing was rejected.
_TAKEN = b""


def serve(port: int) -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(2))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: _TAKEN
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
