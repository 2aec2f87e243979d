from dataclasses import replace

import pytest

from consent.errors import InvalidIdentifier
from consent.event import EventType, LinkEvent, UnlinkEvent
from consent.vocabulary.directive import Proof
from feed.errors import InvalidRequest, SourceNotPermitted
from feed.intake.links import make_link, make_unlink
from feed.intake.requests import RecordLink, RecordUnlink, Subject
from feed.intake.sources import Source
from feed.intake.subjects import resolve_subject
from feed.publish import Arrival
from tests.unit.feed.intake.desk import ANNA, BEN, CALL_CENTRE, NOW_MS, ORIGIN, TOKENISER, WEB, link, token_of, unlink

ARRIVAL = Arrival(EventType.LINK, ORIGIN, "web", bytes(16), NOW_MS)


def make(request: RecordLink, source: Source = WEB) -> LinkEvent:
    left, right = (resolve_subject(end, name, TOKENISER) for end, name in _ends(request))
    return make_link(request, left, right, source, ARRIVAL, 0)


def undo(request: RecordUnlink, source: Source = WEB) -> UnlinkEvent:
    left, right = (resolve_subject(end, name, TOKENISER) for end, name in _ends(request))
    return make_unlink(request, left, right, source, ARRIVAL, 0)


def _ends(request: RecordLink | RecordUnlink) -> tuple[tuple[Subject, str], tuple[Subject, str]]:
    return (request.left, "left"), (request.right, "right")


def test_link_becomes_an_event_about_both_tokens() -> None:
    event = make(link(proof=Proof.AUTHENTICATED))
    assert (event.left, event.right, event.proof) == (token_of(ANNA), token_of(BEN), 3)
    assert event.occurred_at_ms == NOW_MS


def test_unlink_needs_no_proof() -> None:
    event = undo(unlink(), CALL_CENTRE)
    assert (event.left, event.right) == (token_of(ANNA), token_of(BEN))


@pytest.mark.parametrize("proof", [-1, 4])
def test_link_with_an_unknown_proof_is_refused(proof: int) -> None:
    with pytest.raises(InvalidRequest, match=r"^proof"):
        make(link(proof=proof))


def test_link_with_more_proof_than_the_source_has_is_refused() -> None:
    with pytest.raises(SourceNotPermitted, match=r"^proof"):
        make(link(proof=Proof.DOUBLE_OPT_IN), CALL_CENTRE)


def test_link_that_carries_grants_with_unknown_fields_is_refused_and_a_weaker_one_counts() -> None:
    faulty = {"left": ANNA, "right": BEN, "has_unknown_fields": True}
    with pytest.raises(InvalidRequest, match="not known here"):
        make(RecordLink(idempotency_key="k", proof=Proof.DOUBLE_OPT_IN, **faulty))  # type: ignore[arg-type]
    assert make(RecordLink(idempotency_key="k", proof=Proof.LINK, **faulty)).proof == 1  # type: ignore[arg-type]


def test_link_of_an_identifier_with_itself_is_refused() -> None:
    same = Subject("email", " ANNA@example.com ")
    with pytest.raises(InvalidRequest, match="same identifier"):
        make(link(right=same))
    with pytest.raises(InvalidRequest, match="same identifier"):
        undo(unlink(right=same))


def test_link_names_the_end_that_is_wrong() -> None:
    with pytest.raises(InvalidIdentifier, match=r"^right\.value"):
        make(link(right=Subject("email", "nobody")))
    with pytest.raises(SourceNotPermitted, match=r"^right\.namespace"):
        undo(unlink(right=Subject("phone", "+4930123456")), CALL_CENTRE)


def test_link_that_carries_grants_needs_a_source_of_every_purpose() -> None:
    source = replace(WEB, purposes={"marketing", "newsletter"})
    with pytest.raises(SourceNotPermitted, match=r"^proof.*every purpose"):
        make(link(proof=Proof.DOUBLE_OPT_IN), source)
    assert make(link(proof=Proof.LINK), source).proof == 1
