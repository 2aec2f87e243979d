"""`consentry.decision.v1.ConsentDecisionService` on bytes: decoding, so that what is malformed is answered, happens here."""

from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter

import grpc
from consentry.decision.v1 import decision_pb2

from consent.decide import RuleResult
from consent.decision_record import item_id
from hosting.call_context import CURRENT_SPAN
from hosting.clock import Clock
from hosting.tls import peer_identities
from sidecar.check import Answer, Caller, Checker, TraceContext, make_decision_id, parse_trace_context
from sidecar.errors import InvalidArgument, JournalUnavailable, MethodNotPermitted, SyncError
from sidecar.grpc_api import codec
from sidecar.ports import Cache, EntryProof, Feed, LogHead, SidecarStatus
from sidecar.sync.trusted_log import TrustedLog
from sidecar.telemetry.metrics import CHECK, CHECK_BATCH, CHECK_STREAM, EXPLAIN

SERVICE = "consentry.decision.v1.ConsentDecisionService"

Context = grpc.aio.ServicerContext[bytes, bytes]


class CallerDirectory:
    """Who is asking: the one caller of a Unix socket, or the one that the certificate names.

    Args:
        callers: By identity (URI or DNS name of a certificate); by None for the only caller of a Unix socket.
    """

    def __init__(self, callers: Mapping[str | None, Caller]) -> None:
        self._callers = callers
        self._only = callers.get(None)

    def identify(self, context: Context, method: str) -> Caller:
        """The caller of this call; raises MethodNotPermitted for an unknown one or a method that it may not call."""
        caller = self._only or self._by_certificate(context)
        if caller is None:
            raise MethodNotPermitted("no caller is configured for this certificate")
        if method not in caller.methods:
            raise MethodNotPermitted(f"this caller may not call {method}")
        return caller

    def _by_certificate(self, context: Context) -> Caller | None:
        identities = peer_identities(context.auth_context())
        return next((self._callers[identity] for identity in identities if identity in self._callers), None)


class DecisionService:
    """The five RPCs.

    Args:
        checker: Answers.
        callers: Who asks on this listener.
        cache: What is held, for proofs.
        trusted: Verifies the proofs that the feed sends.
        feed: Where they come from.
        clock: The time.
        report: What GetStatus says.
        origin: Name of the log held.

    Attributes:
        meter: Counts calls.
    """

    def __init__(
        self,
        checker: Checker,
        callers: CallerDirectory,
        cache: Cache,
        trusted: TrustedLog,
        feed: Feed,
        clock: Clock,
        report: Callable[[], SidecarStatus],
        origin: str,
    ) -> None:
        self.meter = checker.meter
        self._checker = checker
        self._callers = callers
        self._cache = cache
        self._trusted = trusted
        self._feed = feed
        self._clock = clock
        self._report = report
        self._origin = origin

    async def Check(self, request_bytes: bytes, context: Context) -> bytes:
        """One subject."""
        started = perf_counter()
        caller = self._callers.identify(context, "Check")
        request = codec.decode(decision_pb2.CheckRequest, request_bytes)
        answer = await self._answer(request, caller, context)
        response_bytes = codec.write_check(answer, caller).SerializeToString()
        self._checker.count_answered(1)
        self.meter.observe(CHECK, started)
        return response_bytes

    async def _answer(
        self,
        request: decision_pb2.CheckRequest,
        caller: Caller,
        context: Context,
        rules: list[RuleResult] | None = None,
    ) -> Answer:
        question = codec.read_question(request.purposes, request.context, request.consistency, self._origin)
        subject = codec.read_subject(request.subject, "subject")
        if question.wait_ms:
            await self._checker.wait_for(question, context.time_remaining())
        call_id = make_decision_id(self._clock.now_ms())
        trace = _enter_trace(context, call_id)
        return await self._checker.check(caller, question, (subject,), call_id, trace, rules)

    async def CheckBatch(self, request_bytes: bytes, context: Context) -> bytes:
        """Many subjects."""
        started = perf_counter()
        caller = self._callers.identify(context, "CheckBatch")
        batch = codec.decode(decision_pb2.CheckBatchRequest, request_bytes)
        response = await self._answer_batch(batch, caller, context)
        response_bytes = response.SerializeToString()
        self._checker.count_answered(len(response.effects))
        self.meter.observe(CHECK_BATCH, started)
        return response_bytes

    async def _answer_batch(
        self, batch: decision_pb2.CheckBatchRequest, caller: Caller, context: Context
    ) -> decision_pb2.CheckBatchResponse:
        groups = codec.read_batch(batch, self._origin)
        if groups[0][0].wait_ms:
            await self._checker.wait_for(groups[0][0], context.time_remaining())
        call_id = make_decision_id(self._clock.now_ms())
        trace = _enter_trace(context, call_id)
        answers: list[Answer] = []
        first = 0
        for question, subjects in groups:
            if subjects:
                answers.append(await self._checker.check(caller, question, subjects, item_id(call_id, first), trace))
                first += len(subjects)
        return codec.write_batch(answers, caller)

    async def CheckStream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Many batches; one that cannot be answered does not end the stream."""
        caller = self._callers.identify(context, "CheckStream")
        async for request_bytes in requests:
            started = perf_counter()
            request = codec.decode(decision_pb2.CheckStreamRequest, request_bytes)
            response = decision_pb2.CheckStreamResponse(correlation=request.correlation)
            try:
                response.batch.CopyFrom(await self._answer_batch(request.batch, caller, context))
            except (InvalidArgument, JournalUnavailable) as error:
                response.error_reason, response.error_message = error.reason, str(error)
                self.meter.count_refusal(error.reason)
            else:
                self.meter.observe(CHECK_STREAM, started)
            response_bytes = response.SerializeToString()
            self._checker.count_answered(len(response.batch.effects))
            yield response_bytes

    async def Explain(self, request_bytes: bytes, context: Context) -> bytes:
        """One subject, with the rules tried and the proof of the deciding event."""
        started = perf_counter()
        caller = self._callers.identify(context, "Explain")
        request = codec.decode(decision_pb2.ExplainRequest, request_bytes)
        rules: list[RuleResult] = []
        answer = await self._answer(request.check, caller, context, rules)
        check = codec.write_check(answer, caller)
        head = self._cache.head
        proof = await self._fetch_proof(check.deciding_seq, head) if check.deciding_seq else None
        response_bytes = codec.write_explanation(check, rules, proof, head).SerializeToString()
        self._checker.count_answered(1)
        self.meter.observe(EXPLAIN, started)
        return response_bytes

    async def _fetch_proof(self, seq: int, head: LogHead) -> EntryProof | None:
        """The proof, verified against the log held; None where the feed is away or proves nothing."""
        try:
            proof = await self._feed.fetch_entry_proof(seq, head.size)
            self._trusted.verify_entry_proof(seq, proof, head)
        except SyncError:
            return None
        return proof

    async def GetStatus(self, request_bytes: bytes, context: Context) -> bytes:
        """What the sidecar holds."""
        self._callers.identify(context, "GetStatus")
        codec.decode(decision_pb2.GetStatusRequest, request_bytes)
        return codec.write_status(self._report()).SerializeToString()


def _enter_trace(context: Context, call_id: bytes) -> TraceContext:
    """The caller's trace; log lines and exemplars of the call name it, and the call's own span, from now on."""
    trace = _trace_context(context)
    CURRENT_SPAN.set((trace.trace_id, call_id[8:]))
    return trace


def _trace_context(context: Context) -> TraceContext:
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            return parse_trace_context(value if isinstance(value, str) else None)
    return parse_trace_context(None)


def decision_handler(service: DecisionService) -> grpc.GenericRpcHandler:
    """The service as gRPC wants it: no (de)serialisers, the methods work on bytes."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Check": grpc.unary_unary_rpc_method_handler(service.Check),
        "CheckBatch": grpc.unary_unary_rpc_method_handler(service.CheckBatch),
        "CheckStream": grpc.stream_stream_rpc_method_handler(service.CheckStream),
        "Explain": grpc.unary_unary_rpc_method_handler(service.Explain),
        "GetStatus": grpc.unary_unary_rpc_method_handler(service.GetStatus),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
