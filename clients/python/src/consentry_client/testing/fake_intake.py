"""A feed's intake that takes what a test sends it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from consentry_client.exchange import RECORD_DIRECTIVE, RECORD_LINK
from consentry_client.testing.fake_server import FakeServer, Handlers, abort
from consentry_client.testing.fake_sidecar import FakeSidecar, read_identifier

_ORIGIN = "fake.example/log"
_ACCEPTED_AT_MS = 1_767_225_600_000

Request = intake_pb2.RecordDirectiveRequest | intake_pb2.RecordLinkRequest


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request that is in the fake's log.

    Attributes:
        request: As it came in.
        seq: Its place in the log.
        request_id: Its reference.
    """

    request: Request
    seq: int
    request_id: bytes


class FakeIntake(FakeServer):
    """Keeps requests in memory, each idempotency key once.

    Args:
        sidecar: Where directives come into force at once, so that a test can opt out and then check.

    Attributes:
        recorded: What is in the log, in order.
        calls: How often it was called, failed calls included.
    """

    def __init__(self, sidecar: FakeSidecar | None = None) -> None:
        super().__init__()
        self.recorded: list[RecordedRequest] = []
        self.calls = 0
        self._sidecar = sidecar
        self._by_key: dict[str, RecordedRequest] = {}
        self._answers_to_lose = 0

    def lose_answers(self, count: int) -> None:
        """Records the next `count` requests but answers UNAVAILABLE, like a connection that breaks too early."""
        self._answers_to_lose = count

    def _handlers(self) -> Handlers:
        unary = grpc.unary_unary_rpc_method_handler
        directive = unary(
            self._record(intake_pb2.RecordDirectiveResponse),
            intake_pb2.RecordDirectiveRequest.FromString,
            intake_pb2.RecordDirectiveResponse.SerializeToString,
        )
        link = unary(
            self._record(intake_pb2.RecordLinkResponse),
            intake_pb2.RecordLinkRequest.FromString,
            intake_pb2.RecordLinkResponse.SerializeToString,
        )
        _, service, directive_name = RECORD_DIRECTIVE.split("/")
        return {service: {directive_name: directive, RECORD_LINK.split("/")[2]: link}}

    def _record(self, answer_type: Callable[..., Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def record(request: Request, context: grpc.ServicerContext) -> Any:
            with self._lock:
                self.calls += 1
            self._fail_if_told(context)
            with self._lock:
                entry, is_known = self._append(request, context)
                loses = self._answers_to_lose > 0
                self._answers_to_lose -= loses
            if loses:
                abort(context, grpc.StatusCode.UNAVAILABLE)
            return answer_type(
                request_id=entry.request_id,
                token=event_pb2.ConsistencyToken(origin=_ORIGIN, seq=entry.seq),
                accepted_at_ms=_ACCEPTED_AT_MS,
                replayed=is_known,
            )

        return record

    def _append(self, request: Request, context: grpc.ServicerContext) -> tuple[RecordedRequest, bool]:
        known = self._by_key.get(request.idempotency_key)
        if known is not None:
            if known.request != request:
                abort(context, grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
            return known, True
        entry = RecordedRequest(request, len(self.recorded) + 1, uuid.uuid4().bytes)
        self.recorded.append(entry)
        self._by_key[request.idempotency_key] = entry
        if self._sidecar is not None:
            self._put_in_force(self._sidecar, entry)
        return entry, False

    def _put_in_force(self, sidecar: FakeSidecar, entry: RecordedRequest) -> None:
        sidecar.log_size = max(sidecar.log_size, entry.seq)
        if isinstance(entry.request, intake_pb2.RecordDirectiveRequest):
            directive = entry.request.directive
            grants = directive.kind == event_pb2.DIRECTIVE_KIND_GRANT
            program = sidecar.allow if grants else sidecar.deny
            program(read_identifier(directive.identifier), directive.purpose)
