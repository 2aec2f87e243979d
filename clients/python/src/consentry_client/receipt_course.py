"""The course of asking for a receipt, without I/O; both intake clients run it."""

import uuid
from dataclasses import dataclass

from consentry.intake.v1 import intake_pb2

from consentry_client.answers import decode_message
from consentry_client.errors import IntakeError
from consentry_client.exchange import GET_RECEIPT
from consentry_client.failure import UNREADABLE, Failure
from consentry_client.intake_course import IntakeCourse, IntakeSettings, call_repeatedly

_ID_BYTES = 16
_SEQ_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a request is in the log, as the feed handed it out: `verification.verify_receipt` checks it.

    Attributes:
        receipt_bytes: The receipt. It holds the person's token, so it is for the requester.
        seq: Place of the entry in the log.
        request_id: Reference of the request.
    """

    receipt_bytes: bytes
    seq: int
    request_id: uuid.UUID


def fetch_receipt(
    settings: IntakeSettings, seq: int | None, idempotency_key: str | None, timeout_seconds: float | None
) -> IntakeCourse[Receipt]:
    """Asks for the receipt of one request.

    Raises:
        IntakeError: There is none.
        ValueError: Not exactly one of seq and key is given, or the seq is out of its range.
    """
    if (seq is None) == (idempotency_key is None):
        raise ValueError("a receipt is asked for by seq or by idempotency_key")
    if seq is not None and not 0 < seq <= _SEQ_MAX:
        raise ValueError(f"seq must be from 1 to {_SEQ_MAX}")
    request = intake_pb2.GetReceiptRequest()
    if seq is not None:
        request.seq = seq
    if idempotency_key is not None:
        request.idempotency_key = idempotency_key
    return _fetch(settings, request.SerializeToString(), timeout_seconds)


def _fetch(settings: IntakeSettings, request_bytes: bytes, timeout_seconds: float | None) -> IntakeCourse[Receipt]:
    outcome, _ = yield from call_repeatedly(settings, GET_RECEIPT, request_bytes, timeout_seconds)
    answer = decode_message(intake_pb2.GetReceiptResponse.FromString, outcome)
    if not isinstance(answer, Failure) and (not answer.receipt or len(answer.request_id) != _ID_BYTES):
        answer = UNREADABLE
    if isinstance(answer, Failure):
        raise IntakeError(answer.error_reason or answer.reason, "there is no receipt", answer.error)
    return Receipt(answer.receipt, answer.seq, uuid.UUID(bytes=answer.request_id))
