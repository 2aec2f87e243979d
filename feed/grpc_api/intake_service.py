"""IntakeService: what sources ask for, over gRPC; one service per source's own listener."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import grpc

from consent.errors import ConsentError
from consent.event import EventType
from feed.errors import FeedError, IdempotencyKeyReused, InvalidRequest
from feed.grpc_api import intake_codec as codec
from feed.grpc_api.ordered_answers import answer_in_order
from feed.grpc_api.status import status_of
from feed.grpc_api.trace_context import read_traceparent
from feed.intake.receipts import ReceiptIssuer
from feed.intake.recorder import Recorder
from feed.intake.sources import Source, verify_method
from feed.ports import Accepted
from feed.publish import REFUSALS
from feed.tracing import RequestSpan, Tracing
from hosting.errors import stable_reason

SERVICE_NAME = "consentry.intake.v1.IntakeService"
MAX_IN_FLIGHT = 1_000
"""Directives of one stream that may wait for the log: enough for the sequencer to log them in groups."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request")
_ANSWERED_IN_STREAM = (*REFUSALS, IdempotencyKeyReused)


class IntakeService:
    """Methods of the IntakeService for one source.

    Bytes come in and go out: a message that cannot be decoded is refused here, by the name of its field.

    Args:
        recorder: Takes requests in.
        source: Whose listener this is.
        receipts: Proves what was taken in.
        tracing: Makes the spans of calls.
    """

    def __init__(
        self, recorder: Recorder, source: Source, receipts: ReceiptIssuer, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or Tracing()
        self._recorder = recorder
        self._source = source
        self._receipts = receipts

    async def RecordDirective(self, message_bytes: bytes, context: _Context) -> bytes:
        """Record one directive."""
        request = codec.parse_directive_request(message_bytes)
        async with self._span("RecordDirective", EventType.DIRECTIVE, context) as span:
            accepted = await self._recorder.record_directive(self._source, request, span.traceparent)
            span.note_accepted(accepted)
        return codec.format_directive_answer(accepted, self._recorder.origin)

    async def RecordDirectives(self, messages: AsyncIterator[bytes], context: _Context) -> AsyncGenerator[bytes, None]:
        """Record many; a refused one is answered in its place."""
        verify_method(self._source, "RecordDirectives")
        async with (
            self._span("RecordDirectives", EventType.DIRECTIVE, context) as span,
            aclosing(_parse_all(messages)) as batches,
            aclosing(answer_in_order(batches, partial(self._answer_streamed, span), MAX_IN_FLIGHT, len)) as answers,
        ):
            async for answer_bytes in answers:
                yield answer_bytes

    async def RecordLink(self, message_bytes: bytes, context: _Context) -> bytes:
        """Record that two identifiers are one person."""
        request = codec.parse_link_request(message_bytes)
        async with self._span("RecordLink", EventType.LINK, context) as span:
            accepted = await self._recorder.record_link(self._source, request, span.traceparent)
            span.note_accepted(accepted)
        return codec.format_link_answer(accepted, self._recorder.origin)

    async def RecordUnlink(self, message_bytes: bytes, context: _Context) -> bytes:
        """Record that they are not, or no longer."""
        request = codec.parse_unlink_request(message_bytes)
        async with self._span("RecordUnlink", EventType.UNLINK, context) as span:
            accepted = await self._recorder.record_unlink(self._source, request, span.traceparent)
            span.note_accepted(accepted)
        return codec.format_unlink_answer(accepted, self._recorder.origin)

    async def RecordFact(self, message_bytes: bytes, context: _Context) -> bytes:
        """Record age band and jurisdictions."""
        request = codec.parse_fact_request(message_bytes)
        async with self._span("RecordFact", EventType.FACT, context) as span:
            accepted = await self._recorder.record_fact(self._source, request, span.traceparent)
            span.note_accepted(accepted)
        return codec.format_fact_answer(accepted, self._recorder.origin)

    async def RecordRestriction(self, message_bytes: bytes, context: _Context) -> bytes:
        """Record a restriction of processing, or its end."""
        request = codec.parse_restriction_request(message_bytes)
        async with self._span("RecordRestriction", EventType.RESTRICTION, context) as span:
            accepted = await self._recorder.record_restriction(self._source, request, span.traceparent)
            span.note_accepted(accepted)
        return codec.format_restriction_answer(accepted, self._recorder.origin)

    async def GetReceipt(self, message_bytes: bytes, _: _Context) -> bytes:
        """Prove that a request of this source is in the log."""
        named_by = codec.parse_receipt_request(message_bytes)
        if isinstance(named_by, int):
            issued = await self._receipts.issue(self._source, named_by)
        else:
            issued = await self._receipts.issue_by_key(self._source, named_by)
        return codec.format_receipt_answer(issued)

    @asynccontextmanager
    async def _span(self, method: str, event_type: EventType, context: _Context) -> AsyncGenerator[RequestSpan, None]:
        name = f"{SERVICE_NAME}/{method}"
        span = self._tracing.begin_request(name, self._source.name, event_type, read_traceparent(context))
        try:
            yield span
        except Exception as error:
            span.end(status_of(error).name, stable_reason(error))
            raise
        except BaseException:
            # The caller has gone away.
            span.end(grpc.StatusCode.CANCELLED.name)
            raise
        span.end(grpc.StatusCode.OK.name)

    async def _answer_streamed(self, span: RequestSpan, batch: Sequence[codec.StreamedRecord]) -> bytes:
        requests = [request for request in batch if not isinstance(request, InvalidRequest)]
        traced = span.admit(len(requests))
        concluded = iter(await self._recorder.record_directives(self._source, requests, span.traceparent, traced))
        outcomes: list[Accepted | FeedError | ConsentError] = []
        for request in batch:
            outcome = request if isinstance(request, InvalidRequest) else next(concluded)
            if not isinstance(outcome, (Accepted, *_ANSWERED_IN_STREAM)):
                raise outcome
            outcomes.append(outcome)
        span.note_records(len(batch), sum(not isinstance(outcome, Accepted) for outcome in outcomes))
        return codec.format_streamed_answers(outcomes, self._recorder.origin)


async def _parse_all(messages: AsyncIterator[bytes]) -> AsyncGenerator[list[codec.StreamedRecord], None]:
    async for message_bytes in messages:
        yield codec.parse_streamed_requests(message_bytes)


def intake_handler(service: IntakeService) -> grpc.GenericRpcHandler:
    """The service's methods for `server.add_generic_rpc_handlers`; messages are not decoded before the service gets them."""
    unary = ("RecordDirective", "RecordLink", "RecordUnlink", "RecordFact", "RecordRestriction", "GetReceipt")
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(getattr(service, name)) for name in unary
    }
    handlers["RecordDirectives"] = grpc.stream_stream_rpc_method_handler(service.RecordDirectives)
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)
