"""The error boundary in a real server: what each shape of a call lets out, to the caller and into the logs."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from hosting.addresses import TcpAddress, format_address
from hosting.grpc_errors import INCIDENT_KEY, REASON_KEY, ErrorBoundary
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener

SERVICE = "consentry.test.v1.TestService"
IDENTIFIER = "alice@person.example"
TIMEOUT_SECONDS = 10

Act = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


class GateError(Exception):
    reason = "GATE_FAILED"


class UnknownPurpose(GateError):
    reason = "UNKNOWN_PURPOSE"


class UnlistedError(Exception):
    reason = "UNLISTED"


class ForeignError(Exception):
    pass


STATUSES: dict[type[Exception], grpc.StatusCode] = {
    GateError: grpc.StatusCode.FAILED_PRECONDITION,
    UnknownPurpose: grpc.StatusCode.NOT_FOUND,
    ForeignError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True)
class Message:
    """Stands for a protobuf message; only ASCII can be sent."""

    text: str


def decode(message_bytes: bytes) -> Message:
    if message_bytes == b"refused":
        raise UnknownPurpose("purposes: not one of the policy's")
    return Message(message_bytes.decode("utf-8"))


def encode(message: Message) -> bytes:
    return message.text.encode("ascii")


class Handlers:
    """One handler of each shape; each answers once, then does what the test gave it, as the last statement."""

    def __init__(self, act: Act) -> None:
        self._act = act

    async def unary_unary(self, request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await self._act(context)

    async def stream_unary(self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async for _ in requests:
            pass
        return await self._act(context)

    async def unary_stream(self, request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        yield Message("first")
        yield await self._act(context)

    async def stream_stream(
        self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        async for _ in requests:
            yield Message("first")
        yield await self._act(context)

    async def unary_writer(self, request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.write(Message("first"))
        await context.write(await self._act(context))

    async def stream_writer(
        self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        async for _ in requests:
            await context.write(Message("first"))
        await context.write(await self._act(context))


SHAPES: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
    "unary_writer": grpc.unary_stream_rpc_method_handler,
    "stream_writer": grpc.stream_stream_rpc_method_handler,
}
every_shape = pytest.mark.parametrize("shape", SHAPES)


@asynccontextmanager
async def serving(
    act: Act, *, inner: tuple[grpc.aio.ServerInterceptor, ...] = (), boundary: ErrorBoundary | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    handlers = Handlers(act)
    methods = {shape: make(getattr(handlers, shape), decode, encode) for shape, make in SHAPES.items()}
    server = grpc.aio.server(interceptors=[boundary or ErrorBoundary(STATUSES), *inner], options=EXCLUSIVE_PORT_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    address = bind_listener(server, TcpAddress("127.0.0.1", 0))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(format_address(address)) as channel:
            yield channel
    finally:
        await server.stop(None)


def call(channel: Any, shape: str, request: bytes = b"hello") -> Any:
    path = f"/{SERVICE}/{shape}"
    if shape == "unary_unary":
        return channel.unary_unary(path)(request, timeout=TIMEOUT_SECONDS)
    if shape == "stream_unary":
        return channel.stream_unary(path)(iter([request]), timeout=TIMEOUT_SECONDS)
    if shape in ("unary_stream", "unary_writer"):
        return channel.unary_stream(path)(request, timeout=TIMEOUT_SECONDS)
    return channel.stream_stream(path)(iter([request]), timeout=TIMEOUT_SECONDS)


async def answers_of(channel: grpc.aio.Channel, shape: str, request: bytes = b"hello") -> list[bytes]:
    running = call(channel, shape, request)
    if shape in ("unary_unary", "stream_unary"):
        return [await running]
    return [answer async for answer in running]


async def failure_of(channel: grpc.aio.Channel, shape: str, request: bytes = b"hello") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await answers_of(channel, shape, request)
    return failure.value


def trailer(failure: grpc.aio.AioRpcError, key: str) -> str | bytes | None:
    trailers = failure.trailing_metadata()
    return None if trailers is None else trailers.get(key)


def raising(error: BaseException) -> Act:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        raise error

    return act


def everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    return caplog.text + "".join(repr(vars(record)) for record in caplog.records)


def incidents(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "hosting.grpc_errors"]


def verify_hidden(failure: grpc.aio.AioRpcError, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the caller nor any logger has seen the identifier."""
    assert IDENTIFIER not in repr((failure.details(), failure.debug_error_string(), failure.trailing_metadata()))
    assert IDENTIFIER not in everything_logged(caplog)


@every_shape
async def test_boundary_successful_call_passes_unchanged(shape: str) -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        context.set_trailing_metadata((("x-size", "7"),))
        return Message("last")

    async with serving(act) as channel:
        answers = await answers_of(channel, shape)

    assert answers == ([b"last"] if shape.endswith("_unary") else [b"first", b"last"])


@every_shape
async def test_boundary_our_error_becomes_its_status_with_reason_and_text(shape: str) -> None:
    async with serving(raising(UnknownPurpose("purposes[0]: unknown"))) as channel:
        failure = await failure_of(channel, shape)

    assert failure.code() is grpc.StatusCode.NOT_FOUND
    assert failure.details() == "UNKNOWN_PURPOSE: purposes[0]: unknown"
    assert trailer(failure, REASON_KEY) == "UNKNOWN_PURPOSE"
    assert trailer(failure, INCIDENT_KEY) is None


@every_shape
@pytest.mark.parametrize("error", [ValueError(IDENTIFIER), KeyError(IDENTIFIER), OSError(2, IDENTIFIER)])
async def test_boundary_unknown_error_reaches_neither_caller_nor_log(
    shape: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(raising(error)) as channel:
        failure = await failure_of(channel, shape)

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INTERNAL
    incident = trailer(failure, INCIDENT_KEY)
    assert failure.details() == f"INTERNAL: unexpected error, incident {incident!s}"
    assert re.fullmatch("[0-9a-f]{32}", str(incident))
    assert trailer(failure, REASON_KEY) == "INTERNAL"


async def test_boundary_unknown_error_is_logged_under_its_incident_with_frames(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(raising(ValueError(IDENTIFIER))) as channel:
        failure = await failure_of(channel, "unary_unary")

    (record,) = incidents(caplog)
    fields = vars(record)["fields"]
    assert fields["incident"] == trailer(failure, INCIDENT_KEY)
    assert fields["method"] == f"/{SERVICE}/unary_unary"
    assert fields["exception"][0]["type"] == "builtins.ValueError"
    assert fields["exception"][0]["frames"][-1].endswith(" act")
    assert record.exc_info is None


async def test_boundary_undecodable_text_error_with_reason_attribute_is_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = UnicodeDecodeError("utf-8", IDENTIFIER.encode(), 0, 1, IDENTIFIER)
    error.reason = "LOOKS_LIKE_OURS_" + IDENTIFIER

    async with serving(raising(error)) as channel:
        failure = await failure_of(channel, "unary_unary")

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INTERNAL


async def test_boundary_error_is_answered_by_its_nearest_listed_class() -> None:
    class Nearer(UnknownPurpose):
        pass

    async with serving(raising(Nearer("purpose: unknown"))) as channel:
        nearest = await failure_of(channel, "unary_unary")
    async with serving(raising(GateError("broken"))) as channel:
        root = await failure_of(channel, "unary_unary")

    assert nearest.code() is grpc.StatusCode.NOT_FOUND
    assert root.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_boundary_foreign_listed_error_gives_its_status_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(raising(ForeignError(IDENTIFIER))) as channel:
        failure = await failure_of(channel, "unary_unary")

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.details() == "RESOURCE_EXHAUSTED"


async def test_boundary_our_error_that_no_table_lists_is_an_incident() -> None:
    async with serving(raising(UnlistedError("journal: closed"))) as channel:
        failure = await failure_of(channel, "unary_unary")

    assert failure.code() is grpc.StatusCode.INTERNAL
    assert "journal" not in (failure.details() or "")


@every_shape
async def test_boundary_error_in_a_task_group_is_answered_as_itself(shape: str) -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raising(UnknownPurpose("purposes[0]: unknown"))(context))  # type: ignore[arg-type]

    async with serving(act) as channel:
        failure = await failure_of(channel, shape)

    assert failure.code() is grpc.StatusCode.NOT_FOUND


async def test_boundary_several_errors_in_a_task_group_are_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    group = ExceptionGroup(IDENTIFIER, [UnknownPurpose("purpose: unknown"), ValueError(IDENTIFIER)])

    async with serving(raising(group)) as channel:
        failure = await failure_of(channel, "unary_unary")

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INTERNAL


@every_shape
async def test_boundary_abort_passes_as_it_is(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "on purpose")

    async with serving(act) as channel:
        failure = await failure_of(channel, shape)

    assert (failure.code(), failure.details()) == (grpc.StatusCode.ABORTED, "on purpose")
    assert not incidents(caplog)


async def test_boundary_abort_in_a_task_group_passes_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def abort(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "on purpose")

    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(abort(context))

    async with serving(act) as channel:
        failure = await failure_of(channel, "unary_unary")

    assert (failure.code(), failure.details()) == (grpc.StatusCode.ABORTED, "on purpose")
    assert not incidents(caplog)


@every_shape
async def test_boundary_trailers_of_the_handler_are_kept(shape: str) -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        context.set_trailing_metadata((("x-size", "7"),))
        raise UnknownPurpose("purpose: unknown")

    async with serving(act) as channel:
        failure = await failure_of(channel, shape)

    assert trailer(failure, "x-size") == "7"
    assert trailer(failure, REASON_KEY) == "UNKNOWN_PURPOSE"


@every_shape
async def test_boundary_call_that_the_client_cancels_is_cancelled_and_no_incident(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(act) as channel:
        running = call(channel, shape)
        if not shape.endswith("_unary"):
            await running.read()
        await asyncio.wait_for(started.wait(), TIMEOUT_SECONDS)
        running.cancel()
        await asyncio.wait_for(cancelled.wait(), TIMEOUT_SECONDS)

    assert not incidents(caplog)


@every_shape
async def test_boundary_undecodable_request_is_an_invalid_argument(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(raising(AssertionError("never reached"))) as channel:
        failure = await failure_of(channel, shape, b"\xff" + IDENTIFIER.encode())

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.details() == "MALFORMED_MESSAGE: the message cannot be decoded"


@every_shape
async def test_boundary_decoder_that_raises_our_error_is_answered_by_the_table(shape: str) -> None:
    async with serving(raising(AssertionError("never reached"))) as channel:
        failure = await failure_of(channel, shape, b"refused")

    assert failure.code() is grpc.StatusCode.NOT_FOUND
    assert failure.details() == "UNKNOWN_PURPOSE: purposes: not one of the policy's"


@every_shape
@pytest.mark.parametrize("response", [Message(IDENTIFIER + "ä"), None, 7])
async def test_boundary_response_that_cannot_be_encoded_is_an_incident(
    shape: str, response: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return response

    async with serving(act) as channel:
        failure = await failure_of(channel, shape)

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INTERNAL


async def test_boundary_status_set_without_a_response_is_sent() -> None:
    async def act(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("there")

    async with serving(act) as channel:
        failure = await failure_of(channel, "unary_unary")

    assert (failure.code(), failure.details()) == (grpc.StatusCode.ALREADY_EXISTS, "there")


async def test_boundary_endless_or_unencodable_text_of_an_error_is_cut_to_what_a_trailer_takes() -> None:
    async with serving(raising(UnknownPurpose("\udc80" + "ä" * 100_000))) as channel:
        failure = await failure_of(channel, "unary_unary")

    assert failure.code() is grpc.StatusCode.NOT_FOUND
    assert len(failure.details() or "") == 1024


class FailingInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        raise self._error


@every_shape
async def test_boundary_failing_inner_interceptor_is_covered(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    failing = FailingInterceptor(ValueError(IDENTIFIER))

    async with serving(raising(AssertionError("never reached")), inner=(failing,)) as channel:
        failure = await failure_of(channel, shape)

    verify_hidden(failure, caplog)
    assert failure.code() is grpc.StatusCode.INTERNAL


async def test_boundary_inner_interceptor_may_refuse_with_our_error() -> None:
    failing = FailingInterceptor(UnknownPurpose("purpose: unknown"))

    async with serving(raising(AssertionError("never reached")), inner=(failing,)) as channel:
        failure = await failure_of(channel, "unary_unary")

    assert failure.code() is grpc.StatusCode.NOT_FOUND


async def test_boundary_unknown_method_stays_unimplemented() -> None:
    async with serving(raising(AssertionError("never reached"))) as channel:
        missing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Missing")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await missing(b"", timeout=TIMEOUT_SECONDS)

    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
