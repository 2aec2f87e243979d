"""What the error boundary does without a server; the rest is in the integration tests."""

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from hosting.grpc_errors import ErrorBoundary


async def answer(request: bytes, context: Any) -> bytes:
    return request


def details_of(method: str) -> grpc.HandlerCallDetails:
    return SimpleNamespace(method=method, invocation_metadata=())


async def test_boundary_handler_is_wrapped_once_for_each_method() -> None:
    boundary = ErrorBoundary({})
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(answer) for name in ("/a", "/b")}

    async def resolve(details: grpc.HandlerCallDetails) -> Any:
        return handlers[details.method]

    first = await boundary.intercept_service(resolve, details_of("/a"))

    assert first is not handlers["/a"]
    assert await boundary.intercept_service(resolve, details_of("/a")) is first
    assert await boundary.intercept_service(resolve, details_of("/b")) is not first


async def test_boundary_handler_that_was_replaced_is_wrapped_anew() -> None:
    boundary = ErrorBoundary({})

    async def resolve(details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer)

    first = await boundary.intercept_service(resolve, details_of("/a"))

    assert await boundary.intercept_service(resolve, details_of("/a")) is not first


async def test_boundary_handler_for_every_method_does_not_fill_the_memory() -> None:
    boundary = ErrorBoundary({})
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)

    async def resolve(details: grpc.HandlerCallDetails) -> Any:
        return handler

    for number in range(2_000):
        await boundary.intercept_service(resolve, details_of(f"/{number}"))

    assert len(boundary._guarded) <= 1_024


async def test_boundary_handler_that_is_not_asynchronous_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    def blocking(request: bytes, context: Any) -> bytes:
        return request

    async def resolve(details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(blocking)

    handler = await ErrorBoundary({}).intercept_service(resolve, details_of("/a"))

    assert handler is not None
    assert handler.response_streaming
    assert "unexpected TypeError" in caplog.text


def test_boundary_table_with_status_ok_is_refused() -> None:
    with pytest.raises(ValueError, match="status OK"):
        ErrorBoundary({ValueError: grpc.StatusCode.OK})
