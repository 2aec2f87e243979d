"""Every failure is a deny, with both clients alike."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry_client import AsyncClient, Client, Context, Decision, Effect, Reason, StatusError, email
from consentry_client.async_transport import AsyncTransport
from consentry_client.endpoint import resolve_endpoint
from consentry_client.failure import FailurePolicy
from consentry_client.testing import FakeSidecar

from tests.integration.client.asker import Asker
from tests.integration.client.raw_server import RawServer

SECRET = "ada.lovelace@example.com"
ADA = email(SECRET)


def reasons(decisions: list[Decision]) -> set[Reason]:
    return {decision.reason for decision in decisions}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_check_answered_with_any_status_is_denied(
    asker: Asker, sidecar: FakeSidecar, code: grpc.StatusCode
) -> None:
    sidecar.allow(ADA, "marketing")
    sidecar.fail_with(code, "WHY")
    decision = await asker.check(ADA, "marketing")
    many = await asker.check_many([ADA, ADA], "marketing")
    explained = await asker.explain(ADA, "marketing")
    assert decision.failed
    assert (decision.allowed, decision.error, decision.error_reason) == (False, code.name, "WHY")
    assert many == [decision, decision]
    assert explained.decision == decision
    assert len(sidecar.calls) == 3


async def test_check_repeated_once_where_unavailable_says_nothing(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.fail_with(grpc.StatusCode.UNAVAILABLE)
    assert (await asker.check(ADA, "marketing")).reason is Reason.CLIENT_UNAVAILABLE
    assert len(sidecar.calls) == 2


async def test_check_without_server_is_denied_at_once(make_asker: Callable[..., Asker], socket_path: Path) -> None:
    asker = make_asker(f"unix://{socket_path}")
    started = time.monotonic()
    decisions = [await asker.check(ADA, "marketing"), *await asker.check_many([ADA, ADA], "marketing")]
    assert reasons(decisions) == {Reason.CLIENT_UNAVAILABLE}
    assert {decision.error for decision in decisions} == {"UNAVAILABLE"}
    # Far below the deadline of 20 s, and far above what a slow machine needs.
    assert time.monotonic() - started < 10


async def test_check_with_server_that_hangs_is_denied_at_the_deadline(
    make_asker: Callable[..., Asker], raw: RawServer
) -> None:
    raw.is_hanging = True
    asker = make_asker(raw.address, timeout_seconds=0.05, batch_timeout_seconds=0.05)
    denied: list[Decision] = []
    kept = await asker.filter_allowed(
        [ADA] * 5, key=lambda one: one, purpose="marketing", on_denied=lambda _, decision: denied.append(decision)
    )
    decisions = [
        await asker.check(ADA, "marketing"),
        await asker.check(ADA, "marketing", timeout_seconds=0.01),
        *await asker.check_many([ADA], "marketing"),
        *denied,
    ]
    assert kept == []
    assert len(denied) == 5
    assert reasons(decisions) == {Reason.CLIENT_DEADLINE_EXCEEDED}
    assert {decision.error for decision in decisions} == {"DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
async def test_check_whose_deadline_has_passed_is_denied_unasked(
    asker: Asker, sidecar: FakeSidecar, timeout_seconds: float
) -> None:
    decision = await asker.check(ADA, "marketing", timeout_seconds=timeout_seconds)
    many = await asker.check_many([ADA, ADA], "marketing", timeout_seconds=timeout_seconds)
    assert decision == Decision(Effect.DENY, Reason.CLIENT_DEADLINE_EXCEEDED)
    assert many == [decision] * 2
    assert sidecar.calls == []


def answer_in(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


UNSPECIFIED = decision_pb2.CheckResponse(reason=decision_pb2.REASON_GRANTED, decision_id=bytes(16))
CONTRADICTORY = decision_pb2.CheckResponse(
    effect=decision_pb2.EFFECT_ALLOW, reason=decision_pb2.REASON_OPT_OUT, decision_id=bytes(16)
)
ONE_OF_TWO = decision_pb2.CheckBatchResponse(
    effects=[decision_pb2.EFFECT_ALLOW],
    reasons=[decision_pb2.REASON_GRANTED],
    deciding_seqs=[0],
    valid_until_ms=[0],
    decision_id=bytes(16),
)


@pytest.mark.parametrize(
    "answer",
    [b"\xff\xff\xff\xff", b"\x08\x01", b"\x00", b"", answer_in(UNSPECIFIED), answer_in(CONTRADICTORY)],
    ids=["garbage", "effect-alone", "zero", "empty", "unspecified", "contradictory"],
)
async def test_check_with_unreadable_answer_is_denied(
    make_asker: Callable[..., Asker], raw: RawServer, answer: bytes
) -> None:
    raw.answer = lambda _: answer
    asker = make_asker(raw.address)
    assert await asker.check(ADA, "marketing") == Decision(Effect.DENY, Reason.CLIENT_ANSWER_UNREADABLE)
    assert (await asker.explain(ADA, "marketing")).decision.reason is Reason.CLIENT_ANSWER_UNREADABLE
    assert len(raw.requests) == 2


@pytest.mark.parametrize("answer", [b"\xff\xff\xff\xff", b"", answer_in(ONE_OF_TWO)], ids=["garbage", "empty", "short"])
async def test_check_many_with_unreadable_answer_is_denied(
    make_asker: Callable[..., Asker], raw: RawServer, answer: bytes
) -> None:
    raw.answer = lambda _: answer
    decisions = await make_asker(raw.address).check_many([ADA, email("bob@example.com")], "marketing")
    assert decisions == [Decision(Effect.DENY, Reason.CLIENT_ANSWER_UNREADABLE)] * 2


def wrap(batch: decision_pb2.CheckBatchResponse, correlation: int = 1) -> bytes:
    return answer_in(decision_pb2.CheckStreamResponse(correlation=correlation, batch=batch))


@pytest.mark.parametrize(
    "answer",
    [b"\xff\xff\xff\xff", b"", wrap(ONE_OF_TWO), wrap(ONE_OF_TWO, 7), b"\x08\x01"],
    ids=["garbage", "ended", "short", "other", "no-batch"],
)
async def test_filter_allowed_with_unreadable_answer_drops_and_tells(
    make_asker: Callable[..., Asker], raw: RawServer, answer: bytes
) -> None:
    raw.answer = lambda _: answer
    denied: list[tuple[int, Decision]] = []
    kept = await make_asker(raw.address).filter_allowed(
        [1, 2], key=lambda _: ADA, purpose="marketing", on_denied=lambda *one: denied.append(one)
    )
    assert kept == []
    assert denied == [(item, Decision(Effect.DENY, Reason.CLIENT_ANSWER_UNREADABLE)) for item in (1, 2)]


async def test_check_answered_by_a_bug_in_the_server_hides_its_text(
    make_asker: Callable[..., Asker], raw: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: bytes) -> bytes:
        raise RuntimeError(SECRET)

    raw.answer = fail
    caplog.set_level(logging.DEBUG, "consentry_client")
    decision = await make_asker(raw.address).check(ADA, "marketing")
    assert decision.failed
    assert SECRET not in repr(decision)
    assert not [record for record in caplog.records if record.name == "consentry_client"]


async def test_check_through_a_restart_of_the_server_recovers(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    for _ in range(3):
        assert await asker.check(ADA, "marketing")
        sidecar.stop()
        sidecar.start()
        # The call finds the old connection dead, and goes out once more on a new one.
        assert await asker.check(ADA, "marketing")
        assert (await asker.check_many([ADA], "marketing"))[0]


async def test_check_while_the_server_is_away_is_denied_and_recovers(asker: Asker, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    assert await asker.check(ADA, "marketing")
    sidecar.stop()
    assert (await asker.check(ADA, "marketing", timeout_seconds=0.1)).reason is Reason.CLIENT_UNAVAILABLE
    sidecar.start()
    give_up_at = time.monotonic() + 20
    while not (decision := await asker.check(ADA, "marketing")):
        assert decision.reason is Reason.CLIENT_UNAVAILABLE
        assert time.monotonic() < give_up_at


async def test_check_with_client_closed_meanwhile_is_denied(make_asker: Callable[..., Asker], raw: RawServer) -> None:
    raw.is_hanging = True
    asker = make_asker(raw.address)
    asked = asyncio.create_task(asker.check(ADA, "marketing"))
    while not raw.requests:
        await asyncio.to_thread(lambda: None)
    await asker.close()
    assert (await asked).reason is Reason.CLIENT_UNUSABLE


async def test_async_check_of_cancelled_task_is_cancelled(raw: RawServer) -> None:
    raw.is_hanging = True
    async with AsyncClient(raw.address, timeout_seconds=20) as client:
        asked = asyncio.create_task(client.check(ADA, "marketing"))
        while not raw.requests:
            await asyncio.to_thread(lambda: None)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


def test_async_client_in_another_loop_is_denied(sidecar: FakeSidecar) -> None:
    client = AsyncClient(sidecar.address, timeout_seconds=20)
    sidecar.allow(ADA, "marketing")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(client.check(ADA, "marketing"))
        assert second.run(client.check(ADA, "marketing")).reason is Reason.CLIENT_UNUSABLE
        first.run(client.close())


FORK = """
import os, sys
from consentry_client import Client, email
client = Client(sys.argv[1], timeout_seconds=20)
child = os.fork()
if not child:
    os._exit(0 if client.check(email("ada@example.com"), "marketing") else 9)
fresh = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
used = client.check(email("ada@example.com"), "marketing")
child = os.fork()
if not child:
    os._exit(7 if client.check(email("ada@example.com"), "marketing").reason == "CLIENT_UNUSABLE" else 9)
print(fresh, bool(used), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_client_used_before_a_fork_is_denied_in_the_child_and_does_not_hang(sidecar: FakeSidecar) -> None:
    sidecar.allow(email("ada@example.com"), "marketing")
    command = [sys.executable, "-W", "ignore", "-c", FORK, sidecar.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "True", "7"]


async def test_check_failing_open_allows_and_warns_each_time(
    make_asker: Callable[..., Asker], socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asker = make_asker(
        f"unix://{socket_path}", fail_closed=False, i_accept_processing_without_a_decision="the alarm must ring"
    )
    caplog.clear()
    decisions = [await asker.check(ADA, "alarm"), *await asker.check_many([ADA, ADA], "alarm")]
    assert all(decisions)
    assert reasons(decisions) == {Reason.CLIENT_UNAVAILABLE}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert all("the alarm must ring" in text and SECRET not in text for text in warnings)


async def test_check_failing_open_still_denies_what_is_no_outage(
    make_asker: Callable[..., Asker], raw: RawServer
) -> None:
    asker = make_asker(raw.address, fail_closed=False, i_accept_processing_without_a_decision="the alarm must ring")
    assert not await asker.check(ADA, "alarm")
    assert not await asker.check(ADA, "alarm", timeout_seconds=0)


async def test_check_failing_open_with_question_too_large_is_denied_by_a_healthy_server(
    make_asker: Callable[..., Asker], sidecar: FakeSidecar
) -> None:
    asker = make_asker(sidecar.address, fail_closed=False, i_accept_processing_without_a_decision="the alarm must ring")
    too_large = Context(recipient="x" * 5_000_000)
    decisions = [
        await asker.check(ADA, "alarm", context=too_large),
        *await asker.check_many([ADA], "alarm", context=too_large),
    ]
    assert not any(decisions)
    assert reasons(decisions) == {Reason.CLIENT_OVERLOADED}


async def test_async_stream_cut_while_writing_is_repeated_and_never_allowed(sidecar: FakeSidecar) -> None:
    # What gRPC raises in a race between writing and the server's refusal of a message that is too large.
    cut = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
    )
    failure = AsyncTransport(resolve_endpoint(sidecar.address, "", {}, None)).read_failure(cut)
    assert failure.is_worth_repeating
    assert not FailurePolicy("the alarm must ring").conclude(failure, ("alarm",))


async def test_status_without_server_raises(make_asker: Callable[..., Asker], socket_path: Path) -> None:
    with pytest.raises(StatusError) as caught:
        await make_asker(f"unix://{socket_path}").status()
    assert (caught.value.reason, caught.value.error) == ("CLIENT_UNAVAILABLE", "UNAVAILABLE")


@pytest.mark.parametrize("wrong", [SECRET, None, [SECRET], {"email": SECRET}], ids=["text", "none", "texts", "mapping"])
async def test_check_of_something_else_raises_type_error_without_it(asker: Asker, wrong: Any) -> None:
    with pytest.raises(TypeError) as caught:
        await asker.check(wrong, "marketing")
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))


def test_filter_allowed_without_a_thread_left_denies(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    sidecar.allow(ADA, "marketing")
    monkeypatch.setattr(threading.Timer, "start", refuse)
    denied: list[Decision] = []
    with Client(sidecar.address, timeout_seconds=20) as client:
        kept = list(
            client.filter_allowed(
                [ADA], key=lambda one: one, purpose="marketing", on_denied=lambda _, decision: denied.append(decision)
            )
        )
    assert kept == []
    assert denied == [Decision(Effect.DENY, Reason.CLIENT_ERROR)]


def test_client_failures_leave_no_identifier_in_any_log(
    raw: RawServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    raw.answer = lambda _: b"\xff\xff"
    with Client(raw.address, timeout_seconds=20) as client:
        client.check(ADA, "marketing")
        client.check(email(SECRET + "\ud800"), "marketing", traceparent=SECRET)
        client.check_many([ADA], "marketing")
        assert list(client.filter_allowed([ADA], key=lambda one: one, purpose="marketing")) == []
    client.check(ADA, "marketing")
    shown = capfd.readouterr()
    assert "a closed client was asked" in caplog.text
    assert SECRET not in caplog.text + shown.out + shown.err
