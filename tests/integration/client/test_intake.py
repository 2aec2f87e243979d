"""People's requests over a real socket, with both clients."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from consentry.intake.v1 import intake_pb2
from consentry_client import ConsistencyToken, DirectiveKind, IntakeError, Proof, Reason, email, user
from consentry_client.testing import FakeIntake, FakeSidecar

from tests.integration.client.asker import Asker, Sender
from tests.integration.client.raw_server import RawServer

SECRET = "ada@example.com"
ADA = email(SECRET)
EVIDENCE = bytes(range(32))


async def test_opt_out_accepted_is_in_force_for_whoever_demands_its_token(
    asker: Asker, sender: Sender, sidecar: FakeSidecar
) -> None:
    sidecar.allow(ADA, "marketing")
    accepted = await sender.opt_out(ADA)
    decision = await asker.check(ADA, "marketing", min_token=accepted.token, wait_seconds=1)
    assert decision.reason is Reason.OPT_OUT
    assert accepted.token == ConsistencyToken("fake.example/log", 1)
    assert accepted.accepted_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert not accepted.replayed


async def test_opt_out_sent_twice_with_one_key_is_recorded_once(sender: Sender, intake: FakeIntake) -> None:
    first = await sender.opt_out(ADA, "marketing", idempotency_key="k")
    second = await sender.opt_out(ADA, "marketing", idempotency_key="k")
    assert second.replayed
    assert second.request_id == first.request_id
    assert len(intake.recorded) == 1


async def test_opt_out_sent_with_the_key_of_another_is_refused(sender: Sender) -> None:
    await sender.opt_out(ADA, "marketing", idempotency_key="k")
    with pytest.raises(IntakeError) as caught:
        await sender.opt_out(ADA, "analytics", idempotency_key="k")
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert not caught.value.outcome_unknown


@pytest.mark.parametrize("lost", [1, 3])
async def test_opt_out_whose_answer_was_lost_is_repeated_and_recorded_once(
    sender: Sender, intake: FakeIntake, lost: int
) -> None:
    intake.lose_answers(lost)
    accepted = await sender.opt_out(ADA)
    assert accepted.replayed
    assert len(intake.recorded) == 1
    assert intake.calls == lost + 1


async def test_opt_out_without_feed_raises_and_names_its_key(
    make_sender: Callable[..., Sender], socket_path: Path
) -> None:
    sender = make_sender(f"unix://{socket_path}", attempts_max=3)
    with pytest.raises(IntakeError) as caught:
        await sender.opt_out(ADA, idempotency_key="k")
    assert (caught.value.reason, caught.value.error) == ("CLIENT_UNAVAILABLE", "UNAVAILABLE")
    assert caught.value.idempotency_key == "k"
    assert caught.value.outcome_unknown
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
async def test_opt_out_refused_raises_the_feeds_reason_unrepeated(
    sender: Sender, intake: FakeIntake, code: grpc.StatusCode
) -> None:
    intake.fail_with(code, "IDENTIFIER_INVALID")
    with pytest.raises(IntakeError) as caught:
        await sender.opt_out(ADA)
    assert (caught.value.reason, caught.value.error) == ("IDENTIFIER_INVALID", code.name)
    assert intake.calls == 1


@pytest.mark.parametrize("answer", [b"\xff\xff\xff", b""], ids=["garbage", "empty"])
async def test_opt_out_with_unreadable_answer_raises(
    make_sender: Callable[..., Sender], raw: RawServer, answer: bytes
) -> None:
    raw.answer = lambda _: answer
    with pytest.raises(IntakeError) as caught:
        await make_sender(raw.address).opt_out(ADA)
    assert caught.value.reason == "CLIENT_ANSWER_UNREADABLE"
    assert len(raw.requests) == 1


async def test_opt_out_with_feed_that_hangs_raises_at_the_deadline(
    make_sender: Callable[..., Sender], raw: RawServer
) -> None:
    raw.is_hanging = True
    with pytest.raises(IntakeError) as caught:
        await make_sender(raw.address).opt_out(ADA, timeout_seconds=0.05)
    assert caught.value.reason == "CLIENT_DEADLINE_EXCEEDED"
    assert caught.value.outcome_unknown


async def test_grant_allows_what_it_names(asker: Asker, sender: Sender) -> None:
    await sender.grant(ADA, "marketing", proof=Proof.DOUBLE_OPT_IN, evidence=EVIDENCE)
    assert await asker.check(ADA, "marketing")


async def test_record_and_link_reach_the_log_in_order(sender: Sender, intake: FakeIntake) -> None:
    await sender.record(DirectiveKind.OBJECT, ADA, "profiling", proof=Proof.LINK)
    await sender.link(ADA, user("17"), Proof.AUTHENTICATED, evidence=EVIDENCE)
    assert [type(one.request) for one in intake.recorded] == [
        intake_pb2.RecordDirectiveRequest,
        intake_pb2.RecordLinkRequest,
    ]


async def test_opt_out_with_closed_client_raises(sender: Sender) -> None:
    await sender.close()
    with pytest.raises(IntakeError) as caught:
        await sender.opt_out(ADA)
    assert caught.value.reason == "CLIENT_UNUSABLE"
