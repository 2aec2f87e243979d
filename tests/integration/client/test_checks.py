"""Questions and answers over a real socket, with both clients."""

import asyncio
import inspect
import uuid
from collections.abc import Callable

import pytest
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from consentry_client import (
    AgeBand,
    AsyncClient,
    AsyncIntakeClient,
    Client,
    ConsentDenied,
    ConsistencyToken,
    Context,
    Effect,
    Identifier,
    IntakeClient,
    Reason,
    SyncState,
    email,
    phone,
    user,
)
from consentry_client.testing import FakeSidecar

from tests.integration.client.asker import Asker

ADA = email("ada@example.com")
BOB = email("bob@example.com")


async def test_check_of_allowed_subject_is_true(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    decision = await asker.check(ADA, "marketing")
    assert decision
    assert (decision.effect, decision.reason, decision.error) == (Effect.ALLOW, Reason.GRANTED, "")
    assert isinstance(decision.decision_id, uuid.UUID)
    assert (decision.log_size, decision.policy_version) == (1, 1)


async def test_check_of_unknown_subject_is_false(asker: Asker) -> None:
    decision = await asker.check(BOB, "marketing")
    assert not decision
    assert decision.reason is Reason.NO_CONSENT_SUBJECT_UNKNOWN
    assert not decision.failed


async def test_check_of_several_purposes_needs_all(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, ["marketing", "analytics"])
    assert (await asker.check(ADA, ["marketing", "analytics"])).allowed
    sidecar.deny(ADA, "analytics")
    assert (await asker.check(ADA, ["marketing", "analytics"])).reason is Reason.OPT_OUT


async def test_check_of_several_identifiers_sends_them_as_one_person(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    sidecar.deny(phone("+4930000000"), "marketing", Reason.GLOBAL_OPT_OUT)
    assert (await asker.check([ADA, phone("+4930000000")], "marketing")).reason is Reason.GLOBAL_OPT_OUT
    assert sidecar.calls[0].subjects == ((ADA, phone("+4930000000")),)


async def test_check_by_token_sends_the_token(asker: Asker, sidecar: FakeSidecar) -> None:
    token = Identifier.of_token(bytes(range(16)))
    sidecar.allow(token, "marketing")
    assert await asker.check(token, "marketing")


@pytest.mark.parametrize("subject", [[], email(""), email("ada\ud800@example.com"), [ADA, email("\udcff")]], ids=repr)
async def test_check_of_subject_that_is_none_is_answered_as_invalid(
    asker: Asker, sidecar: FakeSidecar, subject: Identifier | list[Identifier]
) -> None:
    sidecar.allow(ADA, "marketing")
    assert (await asker.check(subject, "marketing")).reason is Reason.INVALID_REQUEST
    assert len(sidecar.calls) == 1


async def test_check_without_purpose_is_answered_as_invalid(asker: Asker, sidecar: FakeSidecar) -> None:
    assert (await asker.check(ADA, [])).reason is Reason.INVALID_REQUEST
    assert len(sidecar.calls) == 1


async def test_check_sends_the_context_with_the_default_in_it(
    make_asker: Callable[..., Asker], sidecar: FakeSidecar
) -> None:
    asker = make_asker(sidecar.address, default_context=Context("EU", recipient="shop"))
    await asker.check(ADA, "marketing", context=Context("DE", AgeBand.TEEN, sec_gpc=True, data_categories=["health"]))
    assert sidecar.calls[0].context == decision_pb2.Context(
        jurisdictions=["EU", "DE"],
        age_band=event_pb2.AGE_BAND_TEEN,
        sec_gpc=True,
        recipient="shop",
        data_categories=["health"],
    )


async def test_check_with_token_demands_it_and_waits(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    token = ConsistencyToken("log", 5)
    decision = await asker.check(ADA, "marketing", min_token=token, wait_seconds=1.5)
    assert decision.reason is Reason.NOT_YET_CONSISTENT
    assert sidecar.calls[0].consistency == decision_pb2.Consistency(
        min=event_pb2.ConsistencyToken(origin="log", seq=5), wait_ms=1500
    )
    sidecar.log_size = 5
    assert await asker.check(ADA, "marketing", min_token=token)


async def test_check_many_keeps_order_across_batches(make_asker: Callable[..., Asker], sidecar: FakeSidecar) -> None:
    subjects = [user(str(number)) for number in range(25)]
    for subject in subjects[::3]:
        sidecar.allow(subject, "marketing")
    decisions = await make_asker(sidecar.address, batch_items=10).check_many(subjects, "marketing")
    assert [bool(decision) for decision in decisions] == [number % 3 == 0 for number in range(25)]
    assert [len(call.subjects) for call in sidecar.calls] == [10, 10, 5]
    assert len({decision.decision_id for decision in decisions}) == 25


async def test_check_many_of_nobody_asks_nothing(asker: Asker, sidecar: FakeSidecar) -> None:
    assert await asker.check_many([], "marketing") == []
    assert sidecar.calls == []


async def test_check_many_with_one_broken_identifier_spoils_no_other(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow([ADA, BOB], "marketing")
    decisions = await asker.check_many([ADA, email("\ud800"), [BOB, ADA]], "marketing")
    assert [decision.reason for decision in decisions] == [Reason.GRANTED, Reason.INVALID_REQUEST, Reason.GRANTED]


async def test_require_of_allowed_subject_returns_the_decision(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    assert (await asker.require(ADA, "marketing")).allowed


async def test_require_of_denied_subject_raises_with_the_decision(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.deny(ADA, "marketing")
    with pytest.raises(ConsentDenied) as caught:
        await asker.require(ADA, "marketing")
    assert caught.value.decision.reason is Reason.OPT_OUT
    assert "ada" not in str(caught.value)


async def test_explain_tells_rules_with_the_answer(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    explanation = await asker.explain(ADA, "marketing")
    assert explanation
    assert explanation.rules[0].fired
    assert explanation.proof_unavailable
    assert explanation.deciding_event is None


async def test_status_tells_what_the_sidecar_holds(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.log_size = 17
    status = await asker.status()
    assert (status.sidecar_id, status.log_size, status.sync_state) == ("fake", 17, SyncState.IN_SYNC)
    assert status.staleness_ms == 0


async def test_check_by_many_callers_at_once_answers_each_its_own(asker: Asker, sidecar: FakeSidecar) -> None:
    for number in range(0, 60, 2):
        sidecar.allow(user(str(number)), "marketing")
    decisions = await asyncio.gather(*(asker.check(user(str(number)), "marketing") for number in range(60)))
    assert [bool(decision) for decision in decisions] == [number % 2 == 0 for number in range(60)]


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (IntakeClient, AsyncIntakeClient)])
def test_clients_of_both_kinds_have_the_same_methods(one: type, other: type) -> None:
    def describe(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert describe(one) == describe(other)


def test_client_in_a_with_block_is_closed_behind_it(sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    with Client(sidecar.address, timeout_seconds=20) as client:
        assert client.check(ADA, "marketing")
    assert client.check(ADA, "marketing").reason is Reason.CLIENT_UNUSABLE


async def test_async_client_and_fake_in_async_with_blocks_work_in_one_loop() -> None:
    async with FakeSidecar() as sidecar, AsyncClient(sidecar.address, timeout_seconds=20) as client:
        sidecar.allow(ADA, "marketing")
        assert await client.check(ADA, "marketing")
    assert (await client.check(ADA, "marketing")).reason is Reason.CLIENT_UNUSABLE
