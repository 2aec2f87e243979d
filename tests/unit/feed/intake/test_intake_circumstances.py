from dataclasses import replace
from typing import Any

import pytest

from consent.errors import InvalidIdentifier
from consent.event import EventType, FactEvent, RestrictionEvent
from consent.vocabulary.directive import AgeBand, Proof
from feed.errors import InvalidRequest, SourceNotPermitted
from feed.intake.circumstances import make_fact, make_restriction
from feed.intake.requests import RecordFact, RecordRestriction, Subject
from feed.intake.sources import Source
from feed.intake.subjects import resolve_subject
from feed.publish import Arrival
from tests.unit.feed.intake.desk import ANNA, CALL_CENTRE, HOUR_MS, NOW_MS, ORIGIN, TOKENISER, WEB

ARRIVAL = Arrival(EventType.FACT, ORIGIN, "web", bytes(16), NOW_MS)
FACT = RecordFact(
    idempotency_key="k", subject=ANNA, age_band=AgeBand.TEEN, jurisdictions=("US-CA", "DE", "DE"), proof=Proof.LINK
)
RESTRICTION = RecordRestriction(idempotency_key="k", subject=ANNA, restricted=True, proof=Proof.NONE)
LIFTING = replace(RESTRICTION, restricted=False, proof=Proof.DOUBLE_OPT_IN)


def state(request: RecordFact, source: Source = WEB) -> FactEvent:
    return make_fact(request, resolve_subject(request.subject, "identifier", TOKENISER), source, ARRIVAL, 0)


def restrict(request: RecordRestriction, source: Source = WEB) -> RestrictionEvent:
    return make_restriction(request, resolve_subject(request.subject, "identifier", TOKENISER), source, ARRIVAL, 0)


def test_fact_becomes_an_event_with_sorted_jurisdictions() -> None:
    event = state(replace(FACT, occurred_at_ms=NOW_MS + HOUR_MS))
    assert (event.age_band, event.jurisdictions, event.proof) == (AgeBand.TEEN, ("DE", "US-CA"), 1)
    assert event.occurred_at_ms == NOW_MS


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"age_band": 4}, "^age_band"),
        ({"proof": -1}, "^proof"),
        ({"jurisdictions": ("de",)}, "^jurisdictions"),
        ({"jurisdictions": ("DE\n",)}, "^jurisdictions"),
        ({"jurisdictions": tuple(f"X{number}" for number in range(65))}, "^jurisdictions"),
        ({"age_band": 0, "jurisdictions": ()}, "says anything"),
        ({"proof": 2, "has_unknown_fields": True}, "not known here"),
    ],
)
def test_fact_that_breaks_the_contract_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        state(replace(FACT, **changes))


def test_fact_with_more_proof_than_the_source_has_is_refused() -> None:
    with pytest.raises(SourceNotPermitted, match=r"^proof"):
        state(replace(FACT, proof=Proof.DOUBLE_OPT_IN), CALL_CENTRE)


def test_fact_about_nobody_is_refused() -> None:
    with pytest.raises(InvalidIdentifier, match=r"^identifier\.value"):
        state(replace(FACT, subject=Subject("email", "")))


def test_restriction_needs_no_proof_and_is_recorded_with_what_the_source_can_know() -> None:
    event = restrict(replace(RESTRICTION, proof=Proof.AUTHENTICATED, has_unknown_fields=True), CALL_CENTRE)
    assert (event.restricted, event.proof) == (True, Proof.LINK)


def test_restriction_is_lifted_with_proof() -> None:
    assert restrict(LIFTING).restricted is False


@pytest.mark.parametrize("proof", [-1, Proof.NONE, Proof.LINK, 4])
def test_restriction_is_not_lifted_without_proof(proof: int) -> None:
    with pytest.raises(InvalidRequest, match=r"^proof"):
        restrict(replace(LIFTING, proof=proof))


def test_restriction_is_not_lifted_by_a_source_that_cannot_prove_it() -> None:
    with pytest.raises(SourceNotPermitted, match=r"^proof"):
        restrict(LIFTING, CALL_CENTRE)


def test_restriction_is_not_lifted_by_a_message_with_unknown_fields() -> None:
    with pytest.raises(InvalidRequest, match="not known here"):
        restrict(replace(LIFTING, has_unknown_fields=True))


def test_restriction_of_a_namespace_that_is_not_the_source_s_is_refused() -> None:
    with pytest.raises(SourceNotPermitted, match=r"^identifier\.namespace"):
        restrict(replace(RESTRICTION, subject=Subject("user", "7")), CALL_CENTRE)


def test_restriction_is_set_by_any_source_and_lifted_by_one_of_every_purpose_alone() -> None:
    source = replace(WEB, purposes={"marketing"})
    assert restrict(RESTRICTION, source).restricted
    with pytest.raises(SourceNotPermitted, match=r"^restricted.*every purpose"):
        restrict(LIFTING, source)
