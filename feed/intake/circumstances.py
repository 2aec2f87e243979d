"""What facts and restrictions of processing must be."""

import re

from consent.event import FactEvent, RestrictionEvent
from consent.vocabulary.directive import SUBJECT_PROOF, AgeBand, Proof
from feed.errors import InvalidRequest
from feed.intake.occurrence import settle_occurrence
from feed.intake.requests import RecordFact, RecordRestriction
from feed.intake.sources import Source, verify_every_purpose_right, verify_proof_right, verify_subject_right
from feed.intake.subjects import ResolvedSubject, require_token
from feed.publish import Arrival

MAX_JURISDICTIONS = 64

_PROOFS = frozenset(Proof)
_AGE_BANDS = frozenset(AgeBand)
_JURISDICTION = re.compile(r"[A-Z0-9]{1,16}(-[A-Z0-9]{1,16}){0,3}")


def make_fact(
    request: RecordFact, resolved: ResolvedSubject, source: Source, arrival: Arrival, key_epoch: int
) -> FactEvent:
    """The event of a fact; the arguments are those of `feed.intake.directives.make_directive`.

    Raises:
        InvalidRequest, InvalidIdentifier, SourceNotPermitted: The text names the field.
    """
    # 1. From proof 2 on a fact takes the place of what was known, so it must be the source's to prove.
    _verify_proof(request.proof)
    verify_proof_right(source, request.proof, "proof")
    if request.has_unknown_fields and request.proof >= SUBJECT_PROOF:
        raise InvalidRequest("a proven fact must not hold fields that are not known here")
    # 2. About whom.
    verify_subject_right(source, request.subject, "identifier")
    token = require_token(resolved)
    # 3. What.
    if request.age_band not in _AGE_BANDS:
        raise InvalidRequest("age_band is not known")
    if len(request.jurisdictions) > MAX_JURISDICTIONS or not all(map(_JURISDICTION.fullmatch, request.jurisdictions)):
        raise InvalidRequest(f"jurisdictions holds at most {MAX_JURISDICTIONS} codes such as EU, DE or US-CA")
    if request.age_band == AgeBand.UNSPECIFIED and not request.jurisdictions:
        raise InvalidRequest("neither age_band nor jurisdictions says anything")
    return FactEvent(
        **arrival.stamp(key_epoch),
        token=token,
        age_band=request.age_band,
        proof=request.proof,
        occurred_at_ms=settle_occurrence(request.occurred_at_ms, arrival.received_at_ms, "occurred_at_ms").at_ms,
        jurisdictions=tuple(sorted(set(request.jurisdictions))),
    )


def make_restriction(
    request: RecordRestriction, resolved: ResolvedSubject, source: Source, arrival: Arrival, key_epoch: int
) -> RestrictionEvent:
    """The event of a restriction, or of its end, which needs the subject's proof.

    Raises:
        InvalidRequest, InvalidIdentifier, SourceNotPermitted: The text names the field.
    """
    _verify_proof(request.proof)
    if not request.restricted:
        if request.proof < SUBJECT_PROOF:
            raise InvalidRequest(f"proof: the end of a restriction needs at least {int(SUBJECT_PROOF)} (double opt-in)")
        verify_proof_right(source, request.proof, "proof")
        # A restriction holds for every purpose, and so does its end.
        verify_every_purpose_right(source, "restricted")
        if request.has_unknown_fields:
            raise InvalidRequest("the end of a restriction must not hold fields that are not known here")
    verify_subject_right(source, request.subject, "identifier")
    return RestrictionEvent(
        **arrival.stamp(key_epoch),
        token=require_token(resolved),
        restricted=request.restricted,
        proof=min(request.proof, source.proof_limit),
        occurred_at_ms=settle_occurrence(request.occurred_at_ms, arrival.received_at_ms, "occurred_at_ms").at_ms,
    )


def _verify_proof(proof: int) -> None:
    if proof not in _PROOFS:
        raise InvalidRequest("proof is missing or not known")
