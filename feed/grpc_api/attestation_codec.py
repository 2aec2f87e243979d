"""Signatures over single events, between the feed's types and the wire's."""

from collections.abc import Sequence

from consentry.event.v1 import event_pb2

from consent.eventlog.attestation import MAX_ATTESTATIONS, Attestation
from consent.eventlog.errors import MalformedAttestation
from feed.errors import InvalidRequest


def encode_attestation(attestation: Attestation) -> event_pb2.Attestation:
    """A signature as it travels."""
    return event_pb2.Attestation(
        key_name=attestation.key_name,
        key_id=attestation.key_id,
        signed_at_unix_seconds=attestation.signed_at_unix_seconds,
        signature=attestation.signature,
        evidence_digest=attestation.evidence_digest,
        batch_index=attestation.batch_index,
        batch_size=attestation.batch_size,
        audit_path=attestation.audit_path,
    )


def decode_approvals(messages: Sequence[event_pb2.Attestation]) -> tuple[Attestation, ...]:
    """The approvals of a request.

    Raises:
        InvalidRequest: One has another form, or there are too many.
    """
    if len(messages) > MAX_ATTESTATIONS:
        raise InvalidRequest(f"approvals: there are more than {MAX_ATTESTATIONS}")
    try:
        return tuple(_decode_approval(message) for message in messages)
    except MalformedAttestation as error:
        raise InvalidRequest(f"approvals: {error}") from None


def _decode_approval(message: event_pb2.Attestation) -> Attestation:
    # An approver signs for one thing only, so there is no batch.
    return Attestation(
        key_name=message.key_name,
        key_id=message.key_id,
        signed_at_unix_seconds=message.signed_at_unix_seconds,
        signature=message.signature,
    )
