import asyncio
from dataclasses import replace
from typing import Any

import pytest

from consent.errors import InvalidIdentifier
from consent.event import DirectiveEvent, EventType, ReceivedEvent, RejectedEvent
from consent.vocabulary.directive import Kind, Proof
from feed.errors import (
    ClusterTooLarge,
    IdempotencyKeyReused,
    InvalidDirective,
    InvalidRequest,
    LogWriteFailed,
    NoPolicy,
    PurposeUnknown,
    SourceNotPermitted,
)
from feed.intake.errors import RecordExists
from feed.intake.requests import RecordFact, RecordRestriction, Subject
from feed.sequencer.batch_builder import MAX_CLUSTER_MEMBERS
from tests.unit.feed.intake.desk import (
    ANNA,
    BEN,
    CALL_CENTRE,
    IMPORT,
    WEB,
    Desk,
    grant,
    link,
    make_policy,
    opt_out,
    token_of,
    unlink,
)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def desk() -> Desk:
    return await Desk().open()


async def test_recorder_accepted_directive_is_received_and_its_outcome_under_one_reference(desk: Desk) -> None:
    accepted = await desk.recorder.record_directive(WEB, opt_out(), TRACEPARENT)
    received, outcome = desk.events()[-2:]
    assert isinstance(received, ReceivedEvent)
    assert isinstance(outcome, DirectiveEvent)
    assert received.request_type == EventType.DIRECTIVE
    assert received.request_id == outcome.request_id == accepted.request_id != bytes(16)
    assert (received.source, outcome.source, outcome.token) == ("web", "web", token_of(ANNA))
    assert (accepted.seq, accepted.is_replay, accepted.rejection) == (len(desk.log.entries), False, "")
    assert {entry.traceparent for entry in desk.log.entries[-2:]} == {TRACEPARENT}


async def test_recorder_every_kind_of_request_reaches_the_log(desk: Desk) -> None:
    fact = RecordFact(idempotency_key="f", subject=ANNA, age_band=1, proof=Proof.NONE)
    restriction = RecordRestriction(idempotency_key="r", subject=ANNA, restricted=True, proof=Proof.NONE)
    await desk.recorder.record_link(WEB, link("l"))
    await desk.recorder.record_unlink(WEB, unlink("u"))
    await desk.recorder.record_fact(WEB, fact)
    await desk.recorder.record_restriction(WEB, restriction)
    received = [event.request_type for event in desk.events() if isinstance(event, ReceivedEvent)]
    outcomes = [event.TYPE for event in desk.events() if not isinstance(event, ReceivedEvent)]
    assert received == outcomes
    assert outcomes[1:] == [EventType.LINK, EventType.UNLINK, EventType.FACT, EventType.RESTRICTION]


async def test_recorder_repeated_request_gets_the_earlier_answer_and_changes_nothing(desk: Desk) -> None:
    first = await desk.recorder.record_directive(WEB, opt_out())
    size = len(desk.log.entries)
    desk.clock.advance(60_000)
    again = await desk.recorder.record_directive(WEB, opt_out())
    assert again == replace(first, is_replay=True)
    assert len(desk.log.entries) == size


async def test_recorder_same_key_of_another_source_is_another_request(desk: Desk) -> None:
    first = await desk.recorder.record_directive(WEB, opt_out())
    other = await desk.recorder.record_directive(CALL_CENTRE, opt_out())
    assert other.seq > first.seq


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": BEN},
        {"purpose": "newsletter"},
        {"kind": Kind.OBJECT},
        {"proof": Proof.LINK},
        {"assurance": 2},
        {"occurred_at_ms": 1_700_000_000_000},
        {"kind": Kind.GRANT, "granted_by": 1},
    ],
)
async def test_recorder_key_with_other_content_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    await desk.recorder.record_directive(WEB, opt_out())
    size = len(desk.log.entries)
    with pytest.raises(IdempotencyKeyReused):
        await desk.recorder.record_directive(WEB, opt_out(**changes))
    assert len(desk.log.entries) == size


async def test_recorder_refused_request_leaves_received_and_rejected_and_raises(desk: Desk) -> None:
    with pytest.raises(PurposeUnknown, match="not in the policy"):
        await desk.recorder.record_directive(WEB, opt_out(purpose="nonsense"))
    received, rejected = desk.events()[-2:]
    assert isinstance(received, ReceivedEvent)
    assert isinstance(rejected, RejectedEvent)
    assert rejected.rejection == "PURPOSE_UNKNOWN"
    assert received.request_id == rejected.request_id


async def test_recorder_refused_request_that_comes_again_is_refused_again_and_logged_once(desk: Desk) -> None:
    for _ in range(2):
        with pytest.raises(InvalidIdentifier):
            await desk.recorder.record_directive(WEB, opt_out(subject=Subject("email", "nobody")))
    assert desk.rejections() == ["INVALID_IDENTIFIER"]


async def test_recorder_earlier_refusal_stands_although_the_request_would_be_refused_otherwise_now(desk: Desk) -> None:
    mute = replace(WEB, methods=frozenset())
    request = opt_out(subject=Subject("email", "nobody"))
    with pytest.raises(InvalidIdentifier):
        await desk.recorder.record_directive(WEB, request)
    with pytest.raises(InvalidIdentifier, match="was refused before"):
        await desk.recorder.record_directive(mute, request)
    assert desk.rejections() == ["INVALID_IDENTIFIER"]


async def test_recorder_refusal_for_an_unknown_purpose_does_not_use_the_key_up(desk: Desk) -> None:
    for _ in range(2):
        with pytest.raises(PurposeUnknown, match="not in the policy"):
            await desk.recorder.record_directive(WEB, opt_out(purpose="surveys"))
    assert desk.rejections() == ["PURPOSE_UNKNOWN"]
    purposes: dict[str, Any] = {"marketing": {}, "newsletter": {}, "analytics": {}, "old": {}, "surveys": {}}
    former = {"newsletter": {"former_parents": [{"name": "marketing", "dropped_in_version": 2}]}}
    await desk.open(make_policy(2, purposes=purposes | former, regimes=[]))
    first = await desk.recorder.record_directive(WEB, opt_out(purpose="surveys"))
    assert (first.is_replay, first.rejection) == (False, "")
    assert await desk.recorder.record_directive(WEB, opt_out(purpose="surveys")) == replace(first, is_replay=True)


async def test_recorder_refusal_for_want_of_a_right_does_not_use_the_key_up(desk: Desk) -> None:
    weak = replace(WEB, max_proof=0)
    for _ in range(2):
        with pytest.raises(SourceNotPermitted, match="above what the source may assert"):
            await desk.recorder.record_directive(weak, grant())
    assert desk.rejections() == ["SOURCE_NOT_PERMITTED"]
    first = await desk.recorder.record_directive(WEB, grant())
    assert await desk.recorder.record_directive(weak, grant()) == replace(first, is_replay=True)


async def test_recorder_earlier_acceptance_stands_although_the_request_would_be_refused_now(desk: Desk) -> None:
    first = await desk.recorder.record_directive(WEB, opt_out(purpose="newsletter"))
    purposes = {"marketing": {}, "newsletter": {"parents": ["marketing"], "retired": True}, "analytics": {}, "old": {}}
    await desk.open(make_policy(2, purposes=purposes, regimes=[]))
    assert await desk.recorder.record_directive(WEB, opt_out(purpose="newsletter")) == replace(first, is_replay=True)
    assert desk.rejections() == []


async def test_recorder_refusal_for_want_of_a_policy_does_not_use_the_key_up() -> None:
    desk = Desk()
    for _ in range(2):
        with pytest.raises(NoPolicy):
            await desk.recorder.record_directive(WEB, opt_out())
    assert desk.rejections() == ["NO_POLICY"]
    await desk.open()
    assert not (await desk.recorder.record_directive(WEB, opt_out())).is_replay


@pytest.mark.parametrize("key", ["", "k" * 129, "a\nb", "a\x00"])
async def test_recorder_bad_idempotency_key_leaves_nothing(desk: Desk, key: str) -> None:
    size = len(desk.log.entries)
    for call in (
        desk.recorder.record_directive(WEB, opt_out(key)),
        desk.recorder.record_link(WEB, link(key)),
        desk.recorder.record_unlink(WEB, unlink(key)),
        desk.recorder.record_fact(WEB, RecordFact(idempotency_key=key, subject=ANNA)),
        desk.recorder.record_restriction(WEB, RecordRestriction(idempotency_key=key, subject=ANNA, restricted=True)),
    ):
        with pytest.raises(InvalidRequest, match=r"^idempotency_key"):
            await call
    assert len(desk.log.entries) == size


async def test_recorder_call_beyond_the_rights_of_the_source_is_refused_and_logged(desk: Desk) -> None:
    mute = replace(WEB, methods=frozenset())
    for call in (
        desk.recorder.record_directive(mute, opt_out("d")),
        desk.recorder.record_link(mute, link("l")),
        desk.recorder.record_unlink(mute, unlink("u")),
        desk.recorder.record_fact(mute, RecordFact(idempotency_key="f", subject=ANNA)),
        desk.recorder.record_restriction(mute, RecordRestriction(idempotency_key="r", subject=ANNA, restricted=True)),
    ):
        with pytest.raises(SourceNotPermitted, match="may not call"):
            await call
    assert desk.rejections() == ["SOURCE_NOT_PERMITTED"] * 5


async def test_recorder_failure_of_the_log_is_no_refusal(desk: Desk) -> None:
    desk.log.failure = LogWriteFailed("disk full")
    size = len(desk.log.entries)
    with pytest.raises(LogWriteFailed):
        await desk.recorder.record_directive(WEB, opt_out())
    assert len(desk.log.entries) == size
    assert not (await desk.recorder.record_directive(WEB, opt_out())).is_replay


async def test_recorder_link_too_many_is_refused(desk: Desk) -> None:
    for number in range(MAX_CLUSTER_MEMBERS - 1):
        await desk.recorder.record_link(WEB, link(f"l{number}", right=Subject("user", f"u{number}")))
    with pytest.raises(ClusterTooLarge):
        await desk.recorder.record_link(WEB, link("one more"))
    assert desk.rejections() == ["CLUSTER_TOO_LARGE"]
    # Once there is room, the same request passes: its key is not used up.
    await desk.recorder.record_unlink(WEB, unlink("u", right=Subject("user", "u0")))
    assert not (await desk.recorder.record_link(WEB, link("one more"))).is_replay


async def test_recorder_size_that_only_the_log_can_see_is_a_refusal_too(desk: Desk) -> None:
    desk.log.failure = ClusterTooLarge("more than 10000 directives would be kept for one person")
    with pytest.raises(ClusterTooLarge, match="10000"):
        await desk.recorder.record_directive(WEB, grant())
    assert desk.rejections() == ["CLUSTER_TOO_LARGE"]


async def test_recorder_two_links_at_once_cannot_pass_the_limit_together(desk: Desk) -> None:
    for number in range(MAX_CLUSTER_MEMBERS - 2):
        await desk.recorder.record_link(WEB, link(f"l{number}", right=Subject("user", f"u{number}")))
    links = [desk.recorder.record_link(WEB, link(f"x{n}", right=Subject("user", f"x{n}"))) for n in range(4)]
    outcomes = await asyncio.gather(*links, return_exceptions=True)
    assert [isinstance(outcome, ClusterTooLarge) for outcome in outcomes] == [False, True, True, True]


async def test_recorder_import_grants_only_where_nothing_is_recorded(desk: Desk) -> None:
    await desk.recorder.record_directive(WEB, opt_out("denial", purpose="newsletter"))
    with pytest.raises(RecordExists):
        await desk.recorder.record_directive(IMPORT, grant("g", proof=Proof.NONE))
    assert desk.rejections() == ["RECORD_EXISTS"]
    assert (await desk.recorder.record_directive(IMPORT, grant("ben", BEN, proof=Proof.NONE))).seq > 0


async def test_recorder_import_of_a_grant_that_is_repeated_is_a_replay(desk: Desk) -> None:
    first = await desk.recorder.record_directive(IMPORT, grant("g", proof=Proof.NONE))
    assert await desk.recorder.record_directive(IMPORT, grant("g", proof=Proof.NONE)) == replace(first, is_replay=True)


async def test_recorder_import_meets_what_the_row_before_said_although_both_come_at_once(desk: Desk) -> None:
    denial = desk.recorder.record_directive(IMPORT, opt_out("row 1"))
    yes = desk.recorder.record_directive(IMPORT, grant("row 2", proof=Proof.NONE, purpose="newsletter"))
    outcomes = await asyncio.gather(denial, yes, return_exceptions=True)
    assert isinstance(outcomes[1], RecordExists)


async def test_recorder_import_goes_on_after_a_row_that_the_log_could_not_keep(desk: Desk) -> None:
    desk.log.failure = LogWriteFailed("disk full")
    denial = desk.recorder.record_directive(IMPORT, opt_out("row 1"))
    yes = desk.recorder.record_directive(IMPORT, grant("row 2", proof=Proof.NONE))
    outcomes = await asyncio.gather(denial, yes, return_exceptions=True)
    assert isinstance(outcomes[0], LogWriteFailed)
    assert not isinstance(outcomes[1], BaseException)


async def test_recorder_grant_that_is_refused_is_no_record(desk: Desk) -> None:
    with pytest.raises(InvalidDirective):
        await desk.recorder.record_directive(WEB, grant(granted_by=0))
    assert desk.log.clusters == {}
