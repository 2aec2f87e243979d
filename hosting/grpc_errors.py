"""The error boundary of a gRPC server: what a caller may learn of a failure.

Plain ``grpc.aio`` sends the text of an unhandled exception to the caller, and that text may quote personal data. So
this interceptor is a privacy control. Put it first in the server's list: what runs inside of it may raise freely,
what runs outside is not covered.
"""

import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never, TypeAlias

import grpc

from hosting.call_context import CURRENT_SPAN, TRACEPARENT, enter_span
from hosting.errors import MalformedMessage, stable_reason
from hosting.logs import describe_exception

REASON_KEY: Final = "consentry-reason"
INCIDENT_KEY: Final = "consentry-incident"

_LOGGER: Final = logging.getLogger(__name__)
# Trailers above 8 KiB are refused by the peer, and every byte of the text may become three.
_MAX_DETAILS_CHARACTERS: Final = 1024
# More methods than any server has; a generic handler that answers to every name must not fill the memory.
_MAX_METHODS: Final = 1024

_Behaviour = Callable[[Any, Any], Any]
_Codec = Callable[[Any], Any]
if TYPE_CHECKING:
    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    # Generic in the stubs only.
    _Handler = grpc.RpcMethodHandler


class _Refusal(NamedTuple):
    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str], ...]

    @property
    def reason(self) -> str:
        return self.metadata[0][1]


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Turns every exception of a handler into a status that holds nothing personal, for all four shapes of a call.

    * An error of ours (``hosting.errors.stable_reason``) that the table names: its status, with
      ``REASON: text`` as details and the reason in the trailer ``consentry-reason``.
    * A foreign error that the table names: its status and the status's name, never the error's text.
    * A message that cannot be decoded: INVALID_ARGUMENT, unless the decoder raised an error of ours.
    * Anything else, a response that cannot be encoded included: INTERNAL with a fixed text and an incident id, under
      which the log has the exceptions' types and frames.
    * Cancellation and ``context.abort`` pass.

    Handlers must be coroutines or async generators; a generator must ``yield`` its responses, not ``context.write``
    them.

    Args:
        statuses: Status for each class of errors; the nearest class in the error's method resolution order counts.
        on_refusal: Called with the reason of each refusal, a stable name.

    Raises:
        ValueError: A status in the table is OK.
    """

    def __init__(
        self, statuses: Mapping[type[Exception], grpc.StatusCode], on_refusal: Callable[[str], None] = lambda _: None
    ) -> None:
        if grpc.StatusCode.OK in statuses.values():
            raise ValueError("an error cannot be answered with the status OK")
        malformed: dict[type, grpc.StatusCode] = {MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT}
        self._statuses = malformed | dict(statuses)
        self._on_refusal = on_refusal
        self._guarded: dict[str, tuple[_Handler, _Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler with the boundary around it, made once for each method."""
        method = handler_call_details.method
        try:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            known = self._guarded.get(method)
            if known is not None and known[0] is handler:
                return known[1]
            guarded = self._guard(method, handler)
        except Exception as error:  # noqa: BLE001 - the boundary itself
            return _refusing_handler(self._refusal_for(error, "an interceptor"))
        if len(self._guarded) < _MAX_METHODS:
            self._guarded[method] = (handler, guarded)
        return guarded

    def _guard(self, method: str, handler: _Handler) -> _Handler:
        name, make = _SHAPES[handler.request_streaming, handler.response_streaming]
        behaviour: _Behaviour = getattr(handler, name)
        decode = None if handler.request_deserializer is None else _decoder(handler.request_deserializer)
        encode = handler.response_serializer
        # A single request is decoded, and a response encoded, inside the guarded call, where a failure can be
        # answered. A stream's requests are decoded where the handler reads them, which is inside too.
        in_call, in_stream = (None, decode) if handler.request_streaming else (decode, None)
        if handler.response_streaming and inspect.isasyncgenfunction(behaviour):
            return make(self._guard_generator(method, behaviour, in_call, encode), in_stream)
        if not inspect.iscoroutinefunction(behaviour):
            raise TypeError("a handler is a coroutine or an async generator")
        if handler.response_streaming:
            return make(self._guard_writer(method, behaviour, in_call), in_stream, encode)
        return make(self._guard_unary(method, behaviour, in_call, encode), in_stream)

    def _guard_unary(
        self, method: str, behaviour: _Behaviour, decode: _Codec | None, encode: _Codec | None
    ) -> _Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            try:
                response = await behaviour(request if decode is None else decode(request), context)
                return _encode_response(response, encode, context)
            except Exception as error:  # noqa: BLE001 - the boundary itself
                refusal = self._refusal_for(error, method, context)
            # Outside of the except block, or the abort would carry the error as its context into other logs.
            return await _refuse(context, refusal)

        return call

    def _guard_generator(
        self, method: str, behaviour: _Behaviour, decode: _Codec | None, encode: _Codec | None
    ) -> _Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                async with aclosing(behaviour(request if decode is None else decode(request), context)) as responses:
                    async for response in responses:
                        yield response if encode is None else encode(response)
                return
            except Exception as error:  # noqa: BLE001 - the boundary itself
                refusal = self._refusal_for(error, method, context)
            await _refuse(context, refusal)

        return call

    def _guard_writer(self, method: str, behaviour: _Behaviour, decode: _Codec | None) -> _Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            try:
                await behaviour(request if decode is None else decode(request), context)
                return
            except Exception as error:  # noqa: BLE001 - the boundary itself
                refusal = self._refusal_for(error, method, context)
            await _refuse(context, refusal)

        return call

    def _refusal_for(
        self, error: Exception, place: str, context: grpc.aio.ServicerContext[Any, Any] | None = None
    ) -> _Refusal:
        """Return what to answer; raise what gRPC itself must see, such as an abort or a vanished client."""
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, grpc.aio.BaseError) and not isinstance(cause, grpc.aio.UsageError):
            raise cause
        refusal = self._make_refusal(cause, place, context)
        self._on_refusal(refusal.reason)
        return refusal

    def _make_refusal(
        self, cause: BaseException, place: str, context: grpc.aio.ServicerContext[Any, Any] | None
    ) -> _Refusal:
        code = self._status_of(cause)
        if code is None:
            if context is not None and CURRENT_SPAN.get() is None:
                # It failed before the handler had read whose trace it belongs to.
                _enter_callers_span(context)
            return _report_incident(cause, place)
        reason = stable_reason(cause)
        if reason is None:
            return _Refusal(code, code.name, ((REASON_KEY, code.name),))
        text = f"{reason}: {cause}"[:_MAX_DETAILS_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
        return _Refusal(code, text, ((REASON_KEY, reason),))

    def _status_of(self, error: BaseException) -> grpc.StatusCode | None:
        return next((self._statuses[cls] for cls in type(error).__mro__ if cls in self._statuses), None)


_SHAPES: Final[dict[tuple[bool, bool], tuple[str, Callable[..., _Handler]]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def _decoder(decode: _Codec) -> _Codec:
    def decode_message(message_bytes: bytes) -> Any:
        try:
            return decode(message_bytes)
        except Exception as error:
            if stable_reason(error) is not None:
                raise
        raise MalformedMessage("the message cannot be decoded")

    return decode_message


def _encode_response(response: Any, encode: _Codec | None, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    if response is None and context.code() not in (None, grpc.StatusCode.OK):
        # The handler has set an error by set_code; gRPC sends that and no message.
        return b""
    response_bytes = response if encode is None else encode(response)
    if not isinstance(response_bytes, bytes):
        raise TypeError("the handler returned no response that can be sent")
    return response_bytes


def _enter_callers_span(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT and isinstance(value, str):
            enter_span(value)


def _report_incident(error: BaseException, place: str) -> _Refusal:
    incident = uuid.uuid4().hex
    # Neither the arguments nor exc_info hold the exception: a handler of the application's could print its text.
    fields = {"incident": incident, "method": place, "exception": describe_exception(error)}
    _LOGGER.error("unexpected %s in %s, incident %s", type(error).__name__, place, incident, extra={"fields": fields})
    details = f"INTERNAL: unexpected error, incident {incident}"
    return _Refusal(grpc.StatusCode.INTERNAL, details, ((REASON_KEY, "INTERNAL"), (INCIDENT_KEY, incident)))


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], refusal: _Refusal) -> Never:
    trailers = (*context.trailing_metadata(), *refusal.metadata)
    await context.abort(refusal.code, refusal.details, trailers)


def _refusing_handler(refusal: _Refusal) -> _Handler:
    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await _refuse(context, refusal)

    # Of all shapes this one can answer before it has read anything, and a client of any shape understands it.
    return grpc.stream_stream_rpc_method_handler(refuse)
