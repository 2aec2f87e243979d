"""Vouches, as the source, for what relaxes: with the source's own key, and with the digest of what the source keeps as proof."""

from collections.abc import Sequence
from typing import NamedTuple

from consent.authority import needs_attestation, needs_evidence
from consent.event import Event, format_event
from consent.eventlog.attestation import Attestation, attest
from consent.eventlog.merkle import HASH_BYTES
from feed.errors import InvalidRequest, SourceNotPermitted
from feed.intake.sources import Source


class Statement(NamedTuple):
    """What a source says.

    Attributes:
        event: As it will be logged.
        evidence_digest: 32 bytes over the source's proof, or empty.
    """

    event: Event
    evidence_digest: bytes = b""


def verify_can_attest(source: Source, statement: Statement) -> None:
    """Refuse what relaxes and cannot be vouched for.

    Raises:
        InvalidRequest: The digest is missing or has the wrong length; the text names the field.
        SourceNotPermitted: The source has no key.
    """
    event, digest = statement
    if len(digest) not in (0, HASH_BYTES):
        raise InvalidRequest(f"evidence_digest: must be empty or {HASH_BYTES} bytes")
    if not needs_attestation(event):
        return
    if source.signing_key is None:
        raise SourceNotPermitted("the source has no signing key, so it can restrict and not relax")
    if needs_evidence(event) and not digest:
        raise InvalidRequest("evidence_digest: is required from proof 2 (double opt-in) on for what relaxes")


def attest_statements(
    source: Source, statements: Sequence[Statement], origin: str, now_ms: int
) -> list[tuple[Attestation, ...]]:
    """Sign for all that relaxes, once.

    Args:
        source: Who says it; it has a key if any statement relaxes (`verify_can_attest`).
        statements: Of one message, at most `consent.eventlog.attestation.MAX_BATCH_EVENTS`.
        origin: Name of the log.
        now_ms: Unix ms.

    Returns:
        For each statement its attestation, or none where it needs none.
    """
    relaxing = [statement for statement in statements if needs_attestation(statement.event)]
    if not relaxing or source.signing_key is None:
        return [()] * len(statements)
    signed = iter(
        attest(
            [(format_event(event), evidence_digest) for event, evidence_digest in relaxing],
            origin,
            source.signing_key,
            now_ms // 1000,
        )
    )
    return [(next(signed),) if needs_attestation(statement.event) else () for statement in statements]
