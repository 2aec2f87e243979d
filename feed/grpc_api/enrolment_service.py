"""EnrolmentService: who may enrol, on the administration socket."""

from typing import Any

import grpc
from consentry.feed.v1 import enrolment_pb2, enrolment_pb2_grpc

from feed.enrolment import EnrolmentDesk
from feed.errors import InvalidRequest
from feed.grpc_api.peers import verify_sidecar_id

SERVICE_NAME = "consentry.feed.v1.EnrolmentService"

_Context = grpc.aio.ServicerContext[Any, Any]


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Implements `consentry.feed.v1.EnrolmentService`. Who may reach its socket may call it.

    Args:
        desk: Where enrolments are.
        source: Name of the listener's source, for the entries of the log.
    """

    def __init__(self, desk: EnrolmentDesk, source: str) -> None:
        self._desk = desk
        self._source = source

    async def IssueEnrolmentToken(
        self, request: enrolment_pb2.IssueEnrolmentTokenRequest, context: _Context
    ) -> enrolment_pb2.IssueEnrolmentTokenResponse:
        """Make a token."""
        verify_sidecar_id(request.sidecar_id)
        if request.valid_seconds < 1:
            raise InvalidRequest("valid_seconds: must be at least 1")
        token, expires_at_ms = self._desk.issue_token(request.sidecar_id, request.valid_seconds * 1000)
        return enrolment_pb2.IssueEnrolmentTokenResponse(enrolment_token=token, expires_at_ms=expires_at_ms)

    async def ListPendingEnrolments(
        self, request: enrolment_pb2.ListPendingEnrolmentsRequest, context: _Context
    ) -> enrolment_pb2.ListPendingEnrolmentsResponse:
        """Those that wait for approval."""
        pending = [
            enrolment_pb2.PendingEnrolment(
                sidecar_id=asked.sidecar_id,
                public_key=asked.public_key,
                key_id=asked.key_id,
                asked_at_ms=asked.asked_at_ms,
            )
            for asked in self._desk.pending
        ]
        return enrolment_pb2.ListPendingEnrolmentsResponse(pending=pending)

    async def ApproveEnrolment(
        self, request: enrolment_pb2.ApproveEnrolmentRequest, context: _Context
    ) -> enrolment_pb2.ApproveEnrolmentResponse:
        """Enrol one that waits."""
        seq = await self._desk.approve(request.sidecar_id, request.key_id, self._source)
        return enrolment_pb2.ApproveEnrolmentResponse(seq=seq)

    async def RetireSidecar(
        self, request: enrolment_pb2.RetireSidecarRequest, context: _Context
    ) -> enrolment_pb2.RetireSidecarResponse:
        """Retire one that is enrolled."""
        seq = await self._desk.retire(request.sidecar_id, self._source)
        return enrolment_pb2.RetireSidecarResponse(seq=seq)


def add_enrolment_service(servicer: EnrolmentServicer, server: grpc.aio.Server) -> None:
    """Serve it on a server that is not started yet."""
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(servicer, server)
