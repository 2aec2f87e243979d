"""Receipts over a real socket, out of a real log: they verify with the log's public key, and only their own source gets them."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

from consent.event import DirectiveEvent, RejectedEvent
from consent.receipt import VerifiedReceipt, verify_receipt
from feed.erasure import Eraser
from feed.errors import EntryUnknown
from feed.grpc_api import intake_client_codec as codec
from feed.intake.receipts import ReceiptIssuer
from feed.intake.requests import RecordDirective
from feed.log_store.tree import LogTree
from feed.publish import Publisher
from feed.signing.subject_keys import SubjectKeys
from hosting.grpc_errors import REASON_KEY
from tests.fakes.feed_log import ORIGIN, SIGNER, SUBJECT_KEYS
from tests.integration.feed.intake_feed import IntakeFeed, running_intake
from tests.unit.feed.intake.desk import BEN, CALL_CENTRE, WEB, opt_out


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[IntakeFeed]:
    async with running_intake(tmp_path) as feed:
        yield feed


async def record(feed: IntakeFeed, request: RecordDirective) -> intake_pb2.RecordDirectiveResponse:
    message = intake_pb2.RecordDirectiveRequest.FromString(codec.format_directive_request(request))
    stub: intake_pb2_grpc.IntakeServiceAsyncStub = intake_pb2_grpc.IntakeServiceStub(feed.channel)
    return await stub.RecordDirective(message)


async def get_receipt(feed: IntakeFeed, **request: int | str) -> intake_pb2.GetReceiptResponse:
    stub: intake_pb2_grpc.IntakeServiceAsyncStub = intake_pb2_grpc.IntakeServiceStub(feed.channel)
    return await stub.GetReceipt(intake_pb2.GetReceiptRequest(**request))  # type: ignore[arg-type]


def verify(answer: intake_pb2.GetReceiptResponse) -> VerifiedReceipt:
    verified = verify_receipt(answer.receipt, [SIGNER.log_verifier_key], [SIGNER.cosigner_verifier_key], origin=ORIGIN)
    assert (verified.seq, verified.event.request_id) == (answer.seq, answer.request_id)
    return verified


async def test_receipt_of_an_opt_out_proves_the_entry_that_the_answer_named(feed: IntakeFeed) -> None:
    answers = [await record(feed, opt_out(f"k{number}", BEN)) for number in range(5)]
    for number, answer in enumerate(answers):
        for request in ({"seq": answer.token.seq}, {"idempotency_key": f"k{number}"}):
            verified = verify(await get_receipt(feed, **request))
            assert isinstance(verified.event, DirectiveEvent)
            assert (verified.seq, verified.event.request_id) == (answer.token.seq, answer.request_id)
            assert verified.event.purpose == "marketing"


async def test_receipt_of_a_refused_request_is_had_by_its_key(feed: IntakeFeed) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await record(feed, opt_out("refused", purpose="unheard-of"))
    verified = verify(await get_receipt(feed, idempotency_key="refused"))
    assert isinstance(verified.event, RejectedEvent)
    assert verified.event.rejection == "PURPOSE_UNKNOWN"


async def test_receipt_of_a_request_that_passed_at_last_is_of_its_acceptance(tmp_path: Path) -> None:
    async with running_intake(tmp_path, publishes=False) as feed:
        with pytest.raises(grpc.aio.AioRpcError):
            await record(feed, opt_out("again"))
    async with running_intake(tmp_path) as feed:
        accepted = await record(feed, opt_out("again"))
        assert verify(await get_receipt(feed, idempotency_key="again")).seq == accepted.token.seq


@pytest.mark.parametrize(
    ("request_fields", "status", "reason"),
    [
        ({"seq": 0}, grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN"),
        ({"seq": 10**9}, grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN"),
        ({"seq": 2**64 - 1}, grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN"),
        ({"idempotency_key": "never-sent"}, grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN"),
        ({"idempotency_key": "two\nlines"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    ],
)
async def test_receipt_of_nothing_is_refused_by_name(
    feed: IntakeFeed, request_fields: dict[str, int | str], status: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await get_receipt(feed, **request_fields)
    assert refusal.value.code() is status
    assert (REASON_KEY, reason) in list(refusal.value.trailing_metadata() or ())


async def test_receipt_is_of_outcomes_only(feed: IntakeFeed) -> None:
    accepted = await record(feed, opt_out())
    # Its RECEIVED stands before it; before that the policy and the log's own entries.
    for seq in range(1, accepted.token.seq):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await get_receipt(feed, seq=seq)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_receipt_of_another_source_is_not_told_from_none(feed: IntakeFeed) -> None:
    accepted = await record(feed, opt_out("k"))
    issuer = ReceiptIssuer(feed.log.sequencer, feed.log.store, LogTree(feed.log.store, lambda: feed.log.sequencer.head))
    assert (await issuer.issue(WEB, accepted.token.seq)).request_id == accepted.request_id
    with pytest.raises(EntryUnknown) as of_another:
        await issuer.issue(CALL_CENTRE, accepted.token.seq)
    with pytest.raises(EntryUnknown) as of_nobody:
        await issuer.issue(CALL_CENTRE, accepted.token.seq + 1)
    assert str(of_another.value) == str(of_nobody.value)
    with pytest.raises(EntryUnknown):
        await issuer.issue_by_key(CALL_CENTRE, "k")


async def test_receipt_of_an_erased_entry_is_refused_like_that_of_nothing(feed: IntakeFeed) -> None:
    accepted = await record(feed, opt_out("k", BEN))
    event = verify(await get_receipt(feed, seq=accepted.token.seq)).event
    assert isinstance(event, DirectiveEvent)
    log = feed.log
    publisher = Publisher(log.sequencer, log.clock, ORIGIN)
    eraser = Eraser(log.sequencer, log.store, SubjectKeys(SUBJECT_KEYS), publisher, lambda: None)
    assert (await eraser.erase(event.token, "desk")).erased_count == 2
    for request in ({"seq": accepted.token.seq}, {"idempotency_key": "k"}):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await get_receipt(feed, **request)
        assert (REASON_KEY, "ENTRY_UNKNOWN") in list(refusal.value.trailing_metadata() or ())
