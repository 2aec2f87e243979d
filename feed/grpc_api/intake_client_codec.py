"""Requests into intake messages, and answers into receipts, for the feed's own programs; the opposite of `intake_codec`."""

from collections.abc import Iterable
from dataclasses import dataclass

from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from feed.intake.imports.run import Outcome
from feed.intake.requests import RecordDirective, RecordFact, RecordLink, RecordRestriction, RecordUnlink, Subject


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request is in the log.

    Attributes:
        request_id: 16 bytes, the reference of the request.
        origin: Name of the log.
        seq: Its entry.
        accepted_at_ms: Unix ms.
        is_replay: The idempotency key was known: this is the earlier answer.
    """

    request_id: bytes
    origin: str
    seq: int
    accepted_at_ms: int
    is_replay: bool


def format_directive_request(request: RecordDirective) -> bytes:
    """Bytes of a RecordDirectiveRequest."""
    return _make_directive(request).SerializeToString()


def format_streamed_requests(requests: Iterable[RecordDirective]) -> bytes:
    """Bytes of a RecordDirectivesRequest."""
    message = intake_pb2.RecordDirectivesRequest(records=[_make_directive(request) for request in requests])
    return message.SerializeToString()


# The generated enums are open: a code that is not known here travels as it is, which their type stubs do not say.
def _make_directive(request: RecordDirective) -> intake_pb2.RecordDirectiveRequest:
    directive = intake_pb2.Directive(
        identifier=_make_identifier(request.subject),
        purpose=request.purpose,
        kind=request.kind,  # type: ignore[arg-type]
        occurred_at_ms=request.occurred_at_ms,
        proof=request.proof + 1,  # type: ignore[arg-type]
        assurance=request.assurance + 1,  # type: ignore[arg-type]
        expires_at_ms=request.expires_at_ms,
        subtree=request.subtree,
        notice_version=request.notice_version,
        recipient=request.recipient,
        explicit=request.explicit,
        granted_by=request.granted_by,  # type: ignore[arg-type]
        occurred_at_without_zone=request.without_zone,
    )
    return intake_pb2.RecordDirectiveRequest(
        idempotency_key=request.idempotency_key, directive=directive, evidence_digest=request.evidence_digest
    )


def format_link_request(request: RecordLink) -> bytes:
    """Bytes of a RecordLinkRequest."""
    message = intake_pb2.RecordLinkRequest(
        idempotency_key=request.idempotency_key,
        left=_make_identifier(request.left),
        right=_make_identifier(request.right),
        proof=request.proof + 1,  # type: ignore[arg-type]
        occurred_at_ms=request.occurred_at_ms,
        evidence_digest=request.evidence_digest,
    )
    return message.SerializeToString()


def format_unlink_request(request: RecordUnlink) -> bytes:
    """Bytes of a RecordUnlinkRequest."""
    message = intake_pb2.RecordUnlinkRequest(
        idempotency_key=request.idempotency_key,
        left=_make_identifier(request.left),
        right=_make_identifier(request.right),
        occurred_at_ms=request.occurred_at_ms,
    )
    return message.SerializeToString()


def format_fact_request(request: RecordFact) -> bytes:
    """Bytes of a RecordFactRequest."""
    message = intake_pb2.RecordFactRequest(
        idempotency_key=request.idempotency_key,
        identifier=_make_identifier(request.subject),
        age_band=request.age_band,  # type: ignore[arg-type]
        jurisdictions=request.jurisdictions,
        proof=request.proof + 1,  # type: ignore[arg-type]
        occurred_at_ms=request.occurred_at_ms,
        evidence_digest=request.evidence_digest,
    )
    return message.SerializeToString()


def format_restriction_request(request: RecordRestriction) -> bytes:
    """Bytes of a RecordRestrictionRequest."""
    message = intake_pb2.RecordRestrictionRequest(
        idempotency_key=request.idempotency_key,
        identifier=_make_identifier(request.subject),
        restricted=request.restricted,
        proof=request.proof + 1,  # type: ignore[arg-type]
        occurred_at_ms=request.occurred_at_ms,
        evidence_digest=request.evidence_digest,
    )
    return message.SerializeToString()


def _make_identifier(subject: Subject) -> event_pb2.Identifier:
    return event_pb2.Identifier(
        namespace=subject.namespace, value=subject.value, token=subject.token, key_epoch=subject.key_epoch
    )


def parse_receipt(response_bytes: bytes) -> Receipt:
    """Read the response to a request of any kind: the fields of all of them are those of RecordDirectiveResponse."""
    response = intake_pb2.RecordDirectiveResponse.FromString(response_bytes)
    return Receipt(
        request_id=response.request_id,
        origin=response.token.origin,
        seq=response.token.seq,
        accepted_at_ms=response.accepted_at_ms,
        is_replay=response.replayed,
    )


def parse_outcomes(response_bytes: bytes) -> list[Outcome]:
    """Read a RecordDirectivesResponse."""
    response = intake_pb2.RecordDirectivesResponse.FromString(response_bytes)
    return [Outcome(outcome.error_reason, outcome.record.replayed) for outcome in response.outcomes]
