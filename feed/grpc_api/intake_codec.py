"""Intake messages into requests, and what became of them into answers: wire types end here.

Codes of proofs and assurances on the wire are one above the domain's, so that 0 states nothing; all others are the same.
"""

from collections.abc import Iterable
from functools import partial
from typing import TypeAlias

from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from consent.errors import ConsentError
from feed.errors import FeedError, InvalidRequest
from feed.grpc_api.decoding import decode_message, has_unknown_fields
from feed.intake.content import verify_key
from feed.intake.receipts import IssuedReceipt
from feed.intake.requests import (
    RecordDirective,
    RecordFact,
    RecordLink,
    RecordRestriction,
    RecordUnlink,
    Subject,
)
from feed.ports import Accepted

MAX_MESSAGE_BYTES = 64 * 1024
MAX_STREAM_MESSAGE_BYTES = 1024 * 1024
MAX_STREAM_MESSAGE_RECORDS = 500

StreamedRecord: TypeAlias = RecordDirective | InvalidRequest
"""A record of a stream's message, or why it cannot be read."""

_RECORDS_FIELD = intake_pb2.RecordDirectivesRequest.RECORDS_FIELD_NUMBER
_LENGTH_DELIMITED = 2


def parse_directive_request(message_bytes: bytes) -> RecordDirective:
    """Read a RecordDirectiveRequest; raises InvalidRequest where it cannot be decoded."""
    return _read_directive(decode_message(intake_pb2.RecordDirectiveRequest, message_bytes, MAX_MESSAGE_BYTES))


def parse_streamed_requests(message_bytes: bytes) -> list[StreamedRecord]:
    """Read a RecordDirectivesRequest.

    Returns:
        Its records in their order; in place of one that cannot be decoded, or is longer than a message of its own may be, the error.

    Raises:
        InvalidRequest: The message is longer than `MAX_STREAM_MESSAGE_BYTES`, is none, or has no record or more than
            `MAX_STREAM_MESSAGE_RECORDS`.
    """
    if len(message_bytes) > MAX_STREAM_MESSAGE_BYTES:
        raise InvalidRequest(f"RecordDirectivesRequest has more than {MAX_STREAM_MESSAGE_BYTES} bytes")
    # Taken apart here, and not decoded as a whole, so that a record that cannot be decoded does not take the others with it.
    records, is_newer = _split_records(message_bytes)
    if not records:
        raise InvalidRequest("records: there is none")
    if len(records) > MAX_STREAM_MESSAGE_RECORDS:
        raise InvalidRequest(f"records: there are more than {MAX_STREAM_MESSAGE_RECORDS}")
    return [_read_record(record_bytes, is_newer=is_newer) for record_bytes in records]


def _split_records(message_bytes: bytes) -> tuple[list[bytes], bool]:
    """The bytes of each record, and whether there is anything else beside them."""
    try:
        # A message without fields of its own shows every field as it came.
        fields = UnknownFieldSet(Empty.FromString(message_bytes))
    except DecodeError:
        fields = None
    if fields is None:
        raise InvalidRequest("RecordDirectivesRequest cannot be decoded")
    found = (fields[index] for index in range(len(fields)))
    records = [
        field.data for field in found if field.field_number == _RECORDS_FIELD and field.wire_type == _LENGTH_DELIMITED
    ]
    return records, len(records) < len(fields)


def _read_record(record_bytes: bytes, *, is_newer: bool) -> StreamedRecord:
    try:
        message = decode_message(intake_pb2.RecordDirectiveRequest, record_bytes, MAX_MESSAGE_BYTES)
    except InvalidRequest as error:
        return error
    return _read_directive(message, is_newer=is_newer)


def _read_directive(message: intake_pb2.RecordDirectiveRequest, *, is_newer: bool = False) -> RecordDirective:
    """The request; `is_newer` says that what the message came in has fields that this version does not know."""
    directive = message.directive
    is_grant = directive.kind == event_pb2.DIRECTIVE_KIND_GRANT
    return RecordDirective(
        idempotency_key=message.idempotency_key,
        subject=read_subject(directive.identifier),
        purpose=directive.purpose,
        kind=directive.kind,
        proof=directive.proof - 1,
        assurance=directive.assurance - 1,
        occurred_at_ms=directive.occurred_at_ms,
        without_zone=directive.occurred_at_without_zone,
        expires_at_ms=directive.expires_at_ms if directive.HasField("expires_at_ms") else None,
        subtree=directive.subtree,
        notice_version=directive.notice_version,
        recipient=directive.recipient,
        explicit=directive.explicit,
        granted_by=directive.granted_by,
        evidence_digest=message.evidence_digest,
        # Only what could relax needs to be understood as a whole.
        has_unknown_fields=is_grant and (is_newer or has_unknown_fields(message, directive, directive.identifier)),
    )


def parse_link_request(message_bytes: bytes) -> RecordLink:
    """Read a RecordLinkRequest; raises InvalidRequest where it cannot be decoded."""
    message = decode_message(intake_pb2.RecordLinkRequest, message_bytes, MAX_MESSAGE_BYTES)
    return RecordLink(
        idempotency_key=message.idempotency_key,
        left=read_subject(message.left),
        right=read_subject(message.right),
        proof=message.proof - 1,
        occurred_at_ms=message.occurred_at_ms,
        evidence_digest=message.evidence_digest,
        has_unknown_fields=has_unknown_fields(message, message.left, message.right),
    )


def parse_unlink_request(message_bytes: bytes) -> RecordUnlink:
    """Read a RecordUnlinkRequest; raises InvalidRequest where it cannot be decoded."""
    message = decode_message(intake_pb2.RecordUnlinkRequest, message_bytes, MAX_MESSAGE_BYTES)
    return RecordUnlink(
        idempotency_key=message.idempotency_key,
        left=read_subject(message.left),
        right=read_subject(message.right),
        occurred_at_ms=message.occurred_at_ms,
    )


def parse_fact_request(message_bytes: bytes) -> RecordFact:
    """Read a RecordFactRequest; raises InvalidRequest where it cannot be decoded."""
    message = decode_message(intake_pb2.RecordFactRequest, message_bytes, MAX_MESSAGE_BYTES)
    return RecordFact(
        idempotency_key=message.idempotency_key,
        subject=read_subject(message.identifier),
        age_band=message.age_band,
        jurisdictions=tuple(message.jurisdictions),
        proof=message.proof - 1,
        occurred_at_ms=message.occurred_at_ms,
        evidence_digest=message.evidence_digest,
        has_unknown_fields=has_unknown_fields(message, message.identifier),
    )


def parse_restriction_request(message_bytes: bytes) -> RecordRestriction:
    """Read a RecordRestrictionRequest; raises InvalidRequest where it cannot be decoded."""
    message = decode_message(intake_pb2.RecordRestrictionRequest, message_bytes, MAX_MESSAGE_BYTES)
    return RecordRestriction(
        idempotency_key=message.idempotency_key,
        subject=read_subject(message.identifier),
        restricted=message.restricted,
        proof=message.proof - 1,
        occurred_at_ms=message.occurred_at_ms,
        evidence_digest=message.evidence_digest,
        has_unknown_fields=has_unknown_fields(message, message.identifier),
    )


def parse_receipt_request(message_bytes: bytes) -> int | str:
    """Read a GetReceiptRequest: the seq or the idempotency key that it names.

    Raises:
        InvalidRequest: It cannot be decoded, or names neither.
    """
    message = decode_message(intake_pb2.GetReceiptRequest, message_bytes, MAX_MESSAGE_BYTES)
    match message.WhichOneof("request"):
        case "seq":
            return message.seq
        case "idempotency_key":
            verify_key(message.idempotency_key)
            return message.idempotency_key
        case _:
            raise InvalidRequest("request: needs seq or idempotency_key")


def format_receipt_answer(issued: IssuedReceipt) -> bytes:
    """Bytes of the GetReceiptResponse."""
    return intake_pb2.GetReceiptResponse(
        receipt=issued.receipt_bytes, seq=issued.seq, request_id=issued.request_id
    ).SerializeToString()


def read_subject(message: event_pb2.Identifier) -> Subject:
    """One way to name a person, unchecked."""
    return Subject(message.namespace, message.value, message.token, message.key_epoch)


_Response = (
    intake_pb2.RecordDirectiveResponse
    | intake_pb2.RecordLinkResponse
    | intake_pb2.RecordUnlinkResponse
    | intake_pb2.RecordFactResponse
    | intake_pb2.RecordRestrictionResponse
)


def _format_answer(response_class: type[_Response], accepted: Accepted, origin: str) -> bytes:
    """Bytes of the response to an accepted request; all kinds of requests get the same."""
    response = response_class(
        request_id=accepted.request_id,
        token=event_pb2.ConsistencyToken(origin=origin, seq=accepted.seq),
        accepted_at_ms=accepted.accepted_at_ms,
        replayed=accepted.is_replay,
    )
    return response.SerializeToString()


format_directive_answer = partial(_format_answer, intake_pb2.RecordDirectiveResponse)
format_link_answer = partial(_format_answer, intake_pb2.RecordLinkResponse)
format_unlink_answer = partial(_format_answer, intake_pb2.RecordUnlinkResponse)
format_fact_answer = partial(_format_answer, intake_pb2.RecordFactResponse)
format_restriction_answer = partial(_format_answer, intake_pb2.RecordRestrictionResponse)


def format_streamed_answers(outcomes: Iterable[Accepted | FeedError | ConsentError], origin: str) -> bytes:
    """Bytes of the RecordDirectivesResponse to a message: for each of its records where it is in the log, or its refusal."""
    response = intake_pb2.RecordDirectivesResponse()
    for outcome in outcomes:
        if isinstance(outcome, Accepted):
            record = response.outcomes.add().record
            record.request_id = outcome.request_id
            record.token.origin = origin
            record.token.seq = outcome.seq
            record.accepted_at_ms = outcome.accepted_at_ms
            record.replayed = outcome.is_replay
        else:
            response.outcomes.add(error_reason=outcome.reason, error_message=str(outcome))
    return response.SerializeToString()
