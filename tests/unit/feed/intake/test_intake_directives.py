from dataclasses import replace
from typing import Any

import pytest

from consent.errors import InvalidIdentifier
from consent.event import DirectiveEvent, DirectiveFlag, EventType
from consent.state import Cluster, Member
from consent.vocabulary.directive import ANY, Assurance, Directive, GrantedBy, Kind, Proof
from feed.errors import FeedError, InvalidDirective, NoPolicy, PurposeUnknown, SourceNotPermitted
from feed.intake.directives import make_directive, verify_first_record
from feed.intake.errors import RecordExists
from feed.intake.occurrence import EARLIEST_MS, LATEST_MS
from feed.intake.requests import RecordDirective, Subject
from feed.intake.sources import Source
from feed.intake.subjects import resolve_subject
from feed.publish import Arrival
from tests.unit.feed.intake.desk import (
    ANNA,
    CALL_CENTRE,
    HOUR_MS,
    IMPORT,
    NOW_MS,
    ORIGIN,
    TOKENISER,
    WEB,
    grant,
    make_policy,
    opt_out,
    token_of,
)

POLICY = make_policy()
ARRIVAL = Arrival(EventType.DIRECTIVE, ORIGIN, "web", bytes(range(16)), NOW_MS)


def make(request: RecordDirective, source: Source = WEB) -> DirectiveEvent:
    subject = resolve_subject(request.subject, "directive.identifier", TOKENISER)
    return make_directive(request, subject, source, POLICY, ARRIVAL, TOKENISER.epoch)


def test_directive_opt_out_becomes_an_event_about_the_token() -> None:
    event = make(opt_out(occurred_at_ms=NOW_MS - HOUR_MS))
    assert event == DirectiveEvent(
        origin=ORIGIN,
        request_id=ARRIVAL.request_id,
        source="web",
        token=token_of(ANNA),
        kind=Kind.OPT_OUT,
        occurred_at_ms=NOW_MS - HOUR_MS,
        purpose="marketing",
        proof=Proof.NONE,
        assurance=Assurance.CONTACT_POINT,
    )


def test_directive_grant_keeps_everything_that_the_source_said() -> None:
    event = make(
        grant(
            subtree=True,
            explicit=True,
            granted_by=GrantedBy.GUARDIAN,
            notice_version=7,
            recipient="partner.example",
            expires_at_ms=NOW_MS + HOUR_MS,
        )
    )
    assert (event.subtree, event.explicit, event.granted_by, event.notice_version) == (True, True, 2, 7)
    assert (event.recipient, event.expires_at_ms, event.proof) == ("partner.example", NOW_MS + HOUR_MS, 2)


def test_directive_without_a_time_is_of_now() -> None:
    event = make(opt_out())
    assert (event.occurred_at_ms, event.flags) == (NOW_MS, DirectiveFlag.NONE)


def test_directive_of_the_future_is_of_now_and_flagged() -> None:
    event = make(opt_out(occurred_at_ms=NOW_MS + 1))
    assert (event.occurred_at_ms, event.flags) == (NOW_MS, DirectiveFlag.TIME_CLAMPED)


def test_directive_with_a_time_without_zone_is_flagged() -> None:
    event = make(opt_out(occurred_at_ms=NOW_MS - 1, without_zone=True))
    assert event.flags == DirectiveFlag.TIME_WITHOUT_ZONE


def test_directive_without_a_time_has_no_zone_to_be_without() -> None:
    assert make(opt_out(without_zone=True)).flags == DirectiveFlag.NONE


@pytest.mark.parametrize("recipient", ["", ANY])
def test_directive_for_nobody_in_particular_is_for_everybody(recipient: str) -> None:
    assert make(opt_out(recipient=recipient)).recipient == make(grant(recipient=recipient)).recipient == ANY


def test_directive_of_an_import_is_flagged_and_proves_nothing() -> None:
    event = make(opt_out(proof=Proof.AUTHENTICATED), IMPORT)
    assert (event.flags, event.proof) == (DirectiveFlag.IMPORTED, Proof.NONE)


def test_directive_about_every_purpose_is_known_without_being_in_the_policy() -> None:
    assert make(opt_out(purpose=ANY)).purpose == ANY


def test_directive_by_token_is_about_that_token() -> None:
    source = replace(WEB, may_use_tokens=True)
    assert make(opt_out(subject=Subject(token=b"t" * 16)), source).token == b"t" * 16


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": 0}, "kind"),
        ({"kind": 7}, "kind"),
        ({"proof": -1}, "proof"),
        ({"proof": 4}, "proof"),
        ({"assurance": -1}, "assurance"),
        ({"assurance": 3}, "assurance"),
        ({"occurred_at_ms": EARLIEST_MS - 1}, "occurred_at_ms"),
        ({"occurred_at_ms": -1}, "occurred_at_ms"),
        ({"occurred_at_ms": 1_767_225_600}, "occurred_at_ms"),
        ({"expires_at_ms": NOW_MS + HOUR_MS}, "expires_at_ms"),
        ({"subtree": True}, "subtree"),
        ({"notice_version": 1}, "notice_version"),
        ({"recipient": "partner.example"}, "recipient"),
        ({"explicit": True}, "explicit"),
        ({"granted_by": GrantedBy.GUARDIAN}, "granted_by"),
    ],
)
def test_directive_denial_that_breaks_the_contract_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDirective, match=rf"^directive\.{field}\b"):
        make(opt_out(**changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"granted_by": 0}, "granted_by"),
        ({"granted_by": 3}, "granted_by"),
        ({"expires_at_ms": NOW_MS}, "expires_at_ms"),
        ({"expires_at_ms": 0}, "expires_at_ms"),
        ({"expires_at_ms": LATEST_MS + 1}, "expires_at_ms"),
        ({"recipient": "x" * 129}, "recipient"),
        ({"recipient": "a\nb"}, "recipient"),
    ],
)
def test_directive_grant_that_breaks_the_contract_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDirective, match=rf"^directive\.{field}\b"):
        make(grant(**changes))


def test_directive_grant_with_unknown_fields_is_refused_and_a_denial_counts() -> None:
    with pytest.raises(InvalidDirective, match="not known here"):
        make(grant(has_unknown_fields=True))
    assert make(opt_out(has_unknown_fields=True)).kind == Kind.OPT_OUT


@pytest.mark.parametrize("purpose", ["nonsense", "old", "", "Marketing"])
def test_directive_about_a_purpose_that_is_not_there_is_refused(purpose: str) -> None:
    with pytest.raises(PurposeUnknown, match=r"^directive\.purpose"):
        make(opt_out(purpose=purpose))


def test_directive_before_the_first_policy_is_refused() -> None:
    subject = resolve_subject(ANNA, "directive.identifier", TOKENISER)
    with pytest.raises(NoPolicy):
        make_directive(opt_out(), subject, WEB, None, ARRIVAL, 0)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (Subject(), "directive.identifier.namespace"),
        (Subject("email", " "), "directive.identifier.value is empty"),
        (Subject("email", "anna"), "directive.identifier.value is not an e-mail address"),
        (Subject("E-Mail", "anna@example.com"), "directive.identifier.namespace"),
    ],
)
def test_directive_about_nobody_is_refused_by_field(subject: Subject, text: str) -> None:
    with pytest.raises(InvalidIdentifier, match=text) as caught:
        make(opt_out(subject=subject))
    assert "anna" not in str(caught.value)


@pytest.mark.parametrize(
    "subject",
    [
        Subject(token=b"short"),
        Subject("email", "anna@example.com", b"t" * 16),
        # A source keeps its tokens over any number of epochs; a repeated request must be the same in all of them.
        Subject(token=b"t" * 16, key_epoch=1),
    ],
)
def test_directive_with_a_bad_token_is_refused(subject: Subject) -> None:
    with pytest.raises(InvalidIdentifier, match=r"directive\.identifier"):
        make(opt_out(subject=subject), replace(WEB, may_use_tokens=True))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (opt_out(subject=Subject("phone", "+4930123456")), "directive.identifier.namespace"),
        (opt_out(subject=Subject(token=b"t" * 16)), "directive.identifier.token"),
        (opt_out(purpose="analytics"), "directive.purpose"),
        (opt_out(purpose=ANY), "directive.purpose"),
        (grant(proof=Proof.DOUBLE_OPT_IN), "directive.proof"),
        (grant(proof=Proof.LINK, assurance=Assurance.ACCOUNT), "directive.assurance"),
    ],
)
def test_directive_beyond_the_rights_of_the_source_is_refused_by_field(request_: RecordDirective, text: str) -> None:
    with pytest.raises(SourceNotPermitted, match=text):
        make(request_, CALL_CENTRE)


def test_directive_grant_for_a_subtree_needs_the_right_to_every_purpose_below() -> None:
    request = grant(proof=Proof.LINK, subtree=True)
    with pytest.raises(SourceNotPermitted, match=r"^directive\.subtree"):
        make(request, replace(WEB, purposes={"marketing", "analytics"}))
    assert make(replace(request, subtree=False), replace(WEB, purposes={"marketing"})).subtree is False
    assert make(request, replace(WEB, purposes={"marketing", "newsletter"})).subtree is True
    assert make(request).subtree is True


def test_directive_denial_needs_no_proof_and_is_recorded_with_what_the_source_can_know() -> None:
    event = make(opt_out(proof=Proof.AUTHENTICATED, assurance=Assurance.ACCOUNT), CALL_CENTRE)
    assert (event.proof, event.assurance) == (Proof.LINK, Assurance.ACCOUNT)


def test_directive_imported_grant_with_proof_is_refused() -> None:
    with pytest.raises(SourceNotPermitted, match=r"directive\.proof"):
        make(grant(proof=Proof.LINK), IMPORT)


def known(kind: Kind, purpose: str, proof: int) -> Cluster:
    directive = Directive(seq=1, purpose=purpose, kind=kind, occurred_at_ms=NOW_MS, proof=proof, assurance=1)
    return Cluster((Member(token_of(ANNA), (directive,)),))


@pytest.mark.parametrize(
    "cluster",
    [known(Kind.OPT_OUT, "newsletter", 0), known(Kind.GRANT, "newsletter", 1), known(Kind.GRANT, "marketing", 0)],
)
def test_first_record_of_a_subject_with_a_record_is_refused(cluster: Cluster) -> None:
    with pytest.raises(RecordExists):
        verify_first_record(make(grant(proof=Proof.NONE), IMPORT), cluster)


@pytest.mark.parametrize("cluster", [None, known(Kind.GRANT, "newsletter", 0), Cluster((Member(token_of(ANNA)),))])
def test_first_record_of_a_subject_without_one_passes(cluster: Cluster | None) -> None:
    verify_first_record(make(grant(proof=Proof.NONE), IMPORT), cluster)


def test_directive_refusals_never_show_what_came_in() -> None:
    secret = "anna.private@example.com"
    faulty = [
        opt_out(purpose=secret),
        opt_out(subject=Subject(secret, secret)),
        opt_out(subject=Subject("email", f"{secret}@{secret}")),
        grant(recipient=secret * 9),
    ]
    for request in faulty:
        with pytest.raises((FeedError, InvalidIdentifier)) as caught:
            make(request)
        assert secret not in f"{caught.value!r} {request!r} {request.subject!r}"
