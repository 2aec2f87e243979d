import pytest

from consent.event import EventType, PolicyEvent, ReceivedEvent, RejectedEvent
from consent.policy import format_policy
from feed.errors import InvalidRequest, LogWriteFailed, PolicyConflict, PolicyRejected
from feed.intake.content import digest_directive
from feed.ports import IdempotencyKey, Submission
from feed.publish import REFUSALS
from tests.unit.feed.intake.desk import ANNA, NOW_MS, ORIGIN, WEB, Desk, approve, make_policy, opt_out, token_of


async def test_publish_policy_first_one_comes_into_force() -> None:
    desk = Desk()
    accepted = await desk.publisher.publish_policy(
        format_policy(make_policy()), "administrator", approvals=approve(make_policy())
    )
    received, policy = desk.events()
    assert isinstance(received, ReceivedEvent)
    assert isinstance(policy, PolicyEvent)
    assert (received.request_type, received.source) == (EventType.POLICY, "administrator")
    assert (policy.version, policy.replaces_version, accepted.seq) == (1, 0, 2)
    assert desk.log.policy is not None


async def test_publish_policy_next_version_takes_its_place() -> None:
    desk = await Desk().open()
    policy = make_policy(2)
    await desk.publisher.publish_policy(format_policy(policy), "administrator", approvals=approve(policy))
    assert desk.log.head.tenant.policy_version == 2


async def test_publish_policy_the_one_in_force_is_a_replay() -> None:
    desk = await Desk().open()
    again = await desk.publisher.publish_policy(format_policy(make_policy()), "administrator")
    assert (again.is_replay, again.seq, len(desk.log.entries)) == (True, 2, 2)


@pytest.mark.parametrize("document", [b"", b"{}", b"\xff", b'{"purposes":{"a":{"parents":["b"]}},"version":2}'])
async def test_publish_policy_invalid_document_is_refused_and_logged(document: bytes) -> None:
    desk = await Desk().open()
    with pytest.raises(PolicyRejected, match=r"^document: "):
        await desk.publisher.publish_policy(document, "administrator")
    assert desk.rejections() == ["POLICY_REJECTED"]


@pytest.mark.parametrize(
    "document",
    [format_policy(make_policy(3)), format_policy(make_policy(1, purposes={"marketing": {}}, regimes=[]))],
)
async def test_publish_policy_that_does_not_follow_is_refused_and_logged(document: bytes) -> None:
    desk = await Desk().open()
    with pytest.raises(PolicyConflict, match=r"^document: "):
        await desk.publisher.publish_policy(document, "administrator")
    assert desk.rejections() == ["POLICY_CONFLICT"]
    assert desk.log.head.tenant.policy_version == 1


async def test_publish_policy_that_loses_a_race_in_the_log_is_refused_and_logged() -> None:
    desk = await Desk().open()
    desk.log.failure = PolicyConflict("version 2 does not replace version 2")
    with pytest.raises(PolicyConflict):
        await desk.publisher.publish_policy(format_policy(make_policy(2)), "administrator")
    assert desk.rejections() == ["POLICY_CONFLICT"]


async def test_publish_policy_that_the_log_cannot_keep_is_no_refusal() -> None:
    desk = await Desk().open()
    desk.log.failure = LogWriteFailed("disk full")
    with pytest.raises(LogWriteFailed):
        await desk.publisher.publish_policy(format_policy(make_policy(2)), "administrator")
    assert desk.rejections() == []


async def test_publish_meets_a_refusal_that_only_a_newer_version_knows_as_an_invalid_request() -> None:
    desk = await Desk().open()
    request = opt_out()
    key = IdempotencyKey(WEB.name, request.idempotency_key, digest_directive(request, token_of(ANNA)))
    await desk.log.submit(Submission((RejectedEvent(origin=ORIGIN, rejected_at_ms=NOW_MS, rejection="TOO_NEW"),), key))
    with pytest.raises(InvalidRequest, match="refused as TOO_NEW"):
        await desk.recorder.record_directive(WEB, request)


def test_refusals_have_a_reason_each() -> None:
    reasons = [refusal.reason for refusal in REFUSALS]
    assert len(set(reasons)) == len(reasons)
