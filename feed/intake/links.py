"""What a link and its end must be."""

from consent.event import LinkEvent, UnlinkEvent
from consent.vocabulary.directive import SUBJECT_PROOF, Proof
from feed.errors import InvalidRequest
from feed.intake.occurrence import settle_occurrence
from feed.intake.requests import RecordLink, RecordUnlink
from feed.intake.sources import Source, verify_every_purpose_right, verify_proof_right, verify_subject_right
from feed.intake.subjects import ResolvedSubject, require_token
from feed.publish import Arrival

_PROOFS = frozenset(Proof)


def make_link(
    request: RecordLink, left: ResolvedSubject, right: ResolvedSubject, source: Source, arrival: Arrival, key_epoch: int
) -> LinkEvent:
    """The event of a link; the arguments are those of `feed.intake.directives.make_directive`.

    Raises:
        InvalidRequest, InvalidIdentifier, SourceNotPermitted: The text names the field.
    """
    # 1. Proof decides whether grants will cross the link.
    if request.proof not in _PROOFS:
        raise InvalidRequest("proof is missing or not known")
    verify_proof_right(source, request.proof, "proof")
    if request.has_unknown_fields and request.proof >= SUBJECT_PROOF:
        raise InvalidRequest("a link that carries grants must not hold fields that are not known here")
    if request.proof >= SUBJECT_PROOF:
        # Whatever was granted on either side will hold on both.
        verify_every_purpose_right(source, "proof")
    # 2. Both ends.
    left_token, right_token = _require_ends(request, left, right, source)
    occurred = settle_occurrence(request.occurred_at_ms, arrival.received_at_ms, "occurred_at_ms")
    return LinkEvent(
        **arrival.stamp(key_epoch),
        left=left_token,
        right=right_token,
        proof=request.proof,
        occurred_at_ms=occurred.at_ms,
    )


def make_unlink(
    request: RecordUnlink,
    left: ResolvedSubject,
    right: ResolvedSubject,
    source: Source,
    arrival: Arrival,
    key_epoch: int,
) -> UnlinkEvent:
    """The event of an unlink. It needs no proof: each side keeps the denials of both.

    Raises:
        InvalidRequest, InvalidIdentifier, SourceNotPermitted: The text names the field.
    """
    left_token, right_token = _require_ends(request, left, right, source)
    occurred = settle_occurrence(request.occurred_at_ms, arrival.received_at_ms, "occurred_at_ms")
    return UnlinkEvent(**arrival.stamp(key_epoch), left=left_token, right=right_token, occurred_at_ms=occurred.at_ms)


def _require_ends(
    request: RecordLink | RecordUnlink, left: ResolvedSubject, right: ResolvedSubject, source: Source
) -> tuple[bytes, bytes]:
    verify_subject_right(source, request.left, "left")
    verify_subject_right(source, request.right, "right")
    left_token, right_token = require_token(left), require_token(right)
    if left_token == right_token:
        raise InvalidRequest("left and right are the same identifier")
    return left_token, right_token
