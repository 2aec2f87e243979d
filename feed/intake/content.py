"""What makes two requests the same: their keys, and digests over what they say."""

import hashlib
import json

from feed.errors import InvalidRequest
from feed.intake.requests import RecordDirective, RecordFact, RecordLink, RecordRestriction, RecordUnlink

MAX_KEY_CHARACTERS = 128

_write_json = json.JSONEncoder(separators=(",", ":")).encode


def verify_key(idempotency_key: str) -> None:
    """Refuse what cannot be an idempotency key: it has 1 to 128 printable characters.

    Raises:
        InvalidRequest: It is none.
    """
    if not 0 < len(idempotency_key) <= MAX_KEY_CHARACTERS or not idempotency_key.isprintable():
        raise InvalidRequest(f"idempotency_key must have 1 to {MAX_KEY_CHARACTERS} printable characters")


def digest_directive(request: RecordDirective, token: bytes) -> bytes:
    """32 bytes over what a directive says.

    Times are taken as stated: a request without one is the same request when it comes again later. Identifiers count only as tokens.
    """
    return _digest(
        "directive",
        token.hex(),
        request.purpose,
        request.kind,
        request.proof,
        request.assurance,
        request.occurred_at_ms,
        request.without_zone,
        request.expires_at_ms,
        request.subtree,
        request.notice_version,
        request.recipient,
        request.explicit,
        request.granted_by,
        *_evidence(request.evidence_digest),
    )


def digest_link(request: RecordLink, left: bytes, right: bytes) -> bytes:
    """32 bytes over what a link says."""
    return _digest(
        "link", left.hex(), right.hex(), request.proof, request.occurred_at_ms, *_evidence(request.evidence_digest)
    )


def digest_unlink(request: RecordUnlink, left: bytes, right: bytes) -> bytes:
    """32 bytes over what an unlink says."""
    return _digest("unlink", left.hex(), right.hex(), request.occurred_at_ms)


def digest_fact(request: RecordFact, token: bytes) -> bytes:
    """32 bytes over what a fact says."""
    jurisdictions = ",".join(request.jurisdictions)
    return _digest(
        "fact",
        token.hex(),
        request.age_band,
        jurisdictions,
        request.proof,
        request.occurred_at_ms,
        *_evidence(request.evidence_digest),
    )


def digest_restriction(request: RecordRestriction, token: bytes) -> bytes:
    """32 bytes over what a restriction says."""
    return _digest(
        "restriction",
        token.hex(),
        request.restricted,
        request.proof,
        request.occurred_at_ms,
        *_evidence(request.evidence_digest),
    )


def _evidence(evidence_digest: bytes) -> tuple[str, ...]:
    # Nothing at all where there is none: so did versions that knew no evidence.
    return (evidence_digest.hex(),) if evidence_digest else ()


def _digest(*parts: str | int | None) -> bytes:
    # One JSON text per list of texts, numbers, booleans and nulls: no two lists share one, and no version writes it otherwise.
    return hashlib.sha256(_write_json(parts).encode("ascii")).digest()
