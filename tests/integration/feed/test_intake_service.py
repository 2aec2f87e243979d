"""Intake and administration over a real socket, into a real log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import grpc
import pytest
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan

from consent.event import (
    DirectiveEvent,
    Event,
    FactEvent,
    LinkEvent,
    RejectedEvent,
    RestrictionEvent,
    UnlinkEvent,
    parse_event,
)
from consent.policy import format_policy
from consent.vocabulary.directive import Kind
from feed.grpc_api import intake_client_codec as codec
from feed.grpc_api.attestation_codec import encode_attestation
from feed.grpc_api.intake_service import MAX_IN_FLIGHT, SERVICE_NAME
from feed.intake.imports.run import Outcome
from feed.intake.requests import RecordDirective, RecordFact, RecordRestriction, Subject
from feed.tracing import Tracing
from hosting.grpc_errors import REASON_KEY
from tests.fakes.feed_log import LIMITS, ORIGIN, TENANT, verify_everything
from tests.integration.feed.intake_feed import SIDECARS, TOKENISER, IntakeFeed, running_intake
from tests.unit.feed.intake.desk import ANNA, BEN, CALL_CENTRE, WEB, approve, grant, link, make_policy, opt_out, unlink

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[IntakeFeed]:
    async with running_intake(tmp_path) as feed:
        yield feed


def stub(feed: IntakeFeed) -> "intake_pb2_grpc.IntakeServiceAsyncStub":
    return intake_pb2_grpc.IntakeServiceStub(feed.channel)


def administration(feed: IntakeFeed) -> "intake_pb2_grpc.PolicyServiceAsyncStub":
    return intake_pb2_grpc.PolicyServiceStub(feed.channel)


def message(request: RecordDirective) -> intake_pb2.RecordDirectiveRequest:
    return intake_pb2.RecordDirectiveRequest.FromString(codec.format_directive_request(request))


async def call(feed: IntakeFeed, method: str, request_bytes: bytes, **metadata: str) -> bytes:
    """Sends bytes as they are."""
    rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = feed.channel.unary_unary(f"/{SERVICE_NAME}/{method}")
    return await rpc(request_bytes, metadata=tuple(metadata.items()), timeout=20)


async def refusal(feed: IntakeFeed, method: str, request_bytes: bytes) -> tuple[grpc.StatusCode, str, str]:
    """Status, reason and text of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(feed, method, request_bytes)
    error = caught.value
    reasons = [value for key, value in error.trailing_metadata() or () if key == REASON_KEY]
    return error.code(), str(reasons[0]), error.details() or ""


async def events(feed: IntakeFeed) -> list[Event]:
    return [parse_event(entry.event_bytes) for entry in await verify_everything(feed.log.store)]


async def test_service_directive_is_in_the_log_when_the_answer_comes(feed: IntakeFeed) -> None:
    response = await stub(feed).RecordDirective(message(opt_out()))
    last = (await events(feed))[-1]
    assert isinstance(last, DirectiveEvent)
    assert (last.token, last.kind) == (TOKENISER.token("email", "anna@example.com"), Kind.OPT_OUT)
    assert (response.token.origin, response.token.seq) == (ORIGIN, feed.log.sequencer.head.size)
    assert (response.request_id, response.replayed) == (last.request_id, False)
    assert (await stub(feed).RecordDirective(message(opt_out()))).replayed


async def test_service_every_other_method_reaches_the_log(feed: IntakeFeed) -> None:
    fact = RecordFact(idempotency_key="f", subject=ANNA, age_band=1, proof=0)
    restriction = RecordRestriction(idempotency_key="r", subject=ANNA, restricted=True, proof=0)
    for method, request_bytes, event_class in (
        ("RecordLink", codec.format_link_request(link("l")), LinkEvent),
        ("RecordUnlink", codec.format_unlink_request(unlink("u")), UnlinkEvent),
        ("RecordFact", codec.format_fact_request(fact), FactEvent),
        ("RecordRestriction", codec.format_restriction_request(restriction), RestrictionEvent),
    ):
        receipt = codec.parse_receipt(await call(feed, method, request_bytes))
        last = (await events(feed))[-1]
        assert isinstance(last, event_class)
        assert receipt.request_id == last.request_id


async def test_service_trace_context_of_the_caller_is_kept_and_nothing_else(feed: IntakeFeed) -> None:
    await call(feed, "RecordDirective", codec.format_directive_request(opt_out("1")), traceparent=TRACEPARENT)
    await call(feed, "RecordDirective", codec.format_directive_request(opt_out("2")), traceparent="anna@example.com")
    entries = await feed.log.store.read_entries(1, 100)
    assert [entry.traceparent for entry in entries][-4:] == [TRACEPARENT, TRACEPARENT, "", ""]


async def test_service_refusals_have_a_status_a_reason_and_a_field_and_are_in_the_log(feed: IntakeFeed) -> None:
    refused = [
        (opt_out("1", purpose="nonsense"), grpc.StatusCode.INVALID_ARGUMENT, "PURPOSE_UNKNOWN", "directive.purpose"),
        (opt_out("2", kind=0), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DIRECTIVE", "directive.kind"),
        (
            opt_out("3", Subject("email", "anna")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_IDENTIFIER",
            "directive.identifier.value",
        ),
        (
            opt_out("4", Subject(token=b"t" * 16)),
            grpc.StatusCode.PERMISSION_DENIED,
            "SOURCE_NOT_PERMITTED",
            "directive.identifier.token",
        ),
    ]
    for request, code, reason, field in refused:
        found = await refusal(feed, "RecordDirective", codec.format_directive_request(request))
        assert found[:2] == (code, reason)
        assert f": {field}" in found[2]
        assert "anna" not in found[2]
    rejections = [event.rejection for event in await events(feed) if isinstance(event, RejectedEvent)]
    assert rejections == [reason for _, _, reason, _ in refused]


async def test_service_key_with_other_content_is_refused(feed: IntakeFeed) -> None:
    await call(feed, "RecordDirective", codec.format_directive_request(opt_out()))
    found = await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out(purpose="newsletter")))
    assert found[:2] == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize(
    ("request_bytes", "text"),
    [
        (b"\xff\xff\xff", "RecordDirectiveRequest cannot be decoded"),
        (
            codec.format_directive_request(opt_out()).replace(b"anna", b"ann\xff"),
            "directive.identifier.value is not UTF-8",
        ),
        (codec.format_directive_request(opt_out(recipient="x" * 65_536)), "has more than 65536 bytes"),
        (codec.format_directive_request(opt_out("")), "idempotency_key"),
    ],
)
async def test_service_message_that_cannot_be_used_leaves_nothing(
    feed: IntakeFeed, request_bytes: bytes, text: str
) -> None:
    size = feed.log.sequencer.head.size
    code, reason, details = await refusal(feed, "RecordDirective", request_bytes)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert text in details
    assert feed.log.sequencer.head.size == size


async def test_service_grant_with_a_field_of_a_newer_version_is_refused(feed: IntakeFeed) -> None:
    newer = message(grant())
    newer.directive.MergeFromString(b"\x98\x06\x01")
    found = await refusal(feed, "RecordDirective", newer.SerializeToString())
    assert found[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DIRECTIVE")


async def test_service_before_the_first_policy_answers_that(tmp_path: Path) -> None:
    async with running_intake(tmp_path, publishes=False) as feed:
        found = await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out()))
        assert found[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NO_POLICY")
        policy = await administration(feed).GetPolicy(intake_pb2.GetPolicyRequest())
        assert (policy.version, policy.document) == (0, b"")


async def test_service_listener_speaks_with_the_rights_of_its_source(tmp_path: Path) -> None:
    async with running_intake(tmp_path, CALL_CENTRE) as feed:
        await stub(feed).RecordDirective(message(opt_out("1")))
        found = await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out("2", purpose="*")))
        assert found[:2] == (grpc.StatusCode.PERMISSION_DENIED, "SOURCE_NOT_PERMITTED")
        assert {event.source for event in (await events(feed))[-4:]} == {"call-centre"}


def stream(requests: Iterable[RecordDirective], size: int = 7) -> Iterator[intake_pb2.RecordDirectivesRequest]:
    """Messages with that many records each, the last one with the rest."""
    waiting = iter(requests)
    while batch := list(islice(waiting, size)):
        yield intake_pb2.RecordDirectivesRequest(records=[message(request) for request in batch])


async def send(feed: IntakeFeed, *messages: bytes) -> list[list[Outcome]]:
    """Sends messages as they are."""
    rpc: grpc.aio.StreamStreamMultiCallable[bytes, list[Outcome]] = feed.channel.stream_stream(
        f"/{SERVICE_NAME}/RecordDirectives", None, codec.parse_outcomes
    )
    return [outcomes async for outcomes in rpc(iter(messages))]


async def test_service_stream_answers_in_order_and_a_refused_one_in_its_place(feed: IntakeFeed) -> None:
    requests = [opt_out(f"k{number}", purpose="nonsense" if number % 5 == 4 else "marketing") for number in range(50)]
    responses = [response async for response in stub(feed).RecordDirectives(stream(requests))]
    assert [len(response.outcomes) for response in responses] == [7, 7, 7, 7, 7, 7, 7, 1]
    outcomes = [outcome for response in responses for outcome in response.outcomes]
    assert [outcome.error_reason for outcome in outcomes] == (["", "", "", "", "PURPOSE_UNKNOWN"] * 10)
    seqs = [outcome.record.token.seq for outcome in outcomes if outcome.HasField("record")]
    assert seqs == sorted(seqs)
    assert "directive.purpose" in outcomes[4].error_message
    assert not outcomes[4].HasField("record")


async def test_service_stream_records_of_a_message_are_logged_together(feed: IntakeFeed) -> None:
    checkpoints: list[int] = []
    feed.log.sequencer.watch(lambda: checkpoints.append(feed.log.sequencer.head.size))
    size = feed.log.sequencer.head.size
    await send(feed, codec.format_streamed_requests([opt_out(f"k{number}") for number in range(100)]))
    assert feed.log.sequencer.head.size == size + 200
    assert len({each for each in checkpoints if each > size}) <= 2


async def test_service_stream_record_and_its_repetition_in_one_message_are_one_entry(feed: IntakeFeed) -> None:
    size = feed.log.sequencer.head.size
    sent = codec.format_streamed_requests([opt_out("same"), opt_out("same"), opt_out("same", purpose="newsletter")])
    (outcomes,) = await send(feed, sent)
    assert outcomes == [Outcome(), Outcome(is_replay=True), Outcome("IDEMPOTENCY_KEY_REUSED")]
    assert feed.log.sequencer.head.size == size + 2


async def test_service_stream_undecodable_record_is_answered_in_its_place(feed: IntakeFeed) -> None:
    sent = codec.format_streamed_requests([opt_out("1"), opt_out("2", BEN), opt_out("3")])
    (outcomes,) = await send(feed, sent.replace(b"ben@", b"be\xff@"))
    assert [outcome.rejection for outcome in outcomes] == ["", "INVALID_REQUEST", ""]


@pytest.mark.parametrize(
    ("message_bytes", "text"),
    [
        (b"", "records: there is none"),
        (codec.format_streamed_requests([opt_out()] * 501), "records: there are more than 500"),
        (b"\xff", "RecordDirectivesRequest cannot be decoded"),
    ],
)
async def test_service_stream_message_out_of_bounds_ends_it_after_those_before_it(
    feed: IntakeFeed, message_bytes: bytes, text: str
) -> None:
    size = feed.log.sequencer.head.size
    rpc: grpc.aio.StreamStreamMultiCallable[bytes, list[Outcome]] = feed.channel.stream_stream(
        f"/{SERVICE_NAME}/RecordDirectives", None, codec.parse_outcomes
    )
    before, after = (codec.format_streamed_requests([opt_out(key)]) for key in ("before", "after"))
    answers = rpc(iter([before, message_bytes, after]))
    assert await anext(aiter(answers)) == [Outcome()]
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await anext(aiter(answers))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert feed.log.sequencer.head.size == size + 2


async def test_service_stream_whose_log_fails_ends_without_an_answer_to_that_message(tmp_path: Path) -> None:
    async with running_intake(tmp_path) as feed:
        await feed.log.sequencer.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(feed, codec.format_streamed_requests([opt_out("1"), opt_out("2", purpose="nonsense")]))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_service_stream_without_the_right_is_refused_as_a_whole(tmp_path: Path) -> None:
    source = replace(WEB, methods=frozenset({"RecordDirective"}))
    async with running_intake(tmp_path, source) as feed:
        size = feed.log.sequencer.head.size
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [response async for response in stub(feed).RecordDirectives(stream([opt_out()]))]
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert feed.log.sequencer.head.size == size


async def test_service_stream_that_its_caller_leaves_lets_the_feed_go_on(feed: IntakeFeed) -> None:
    abandoned = stub(feed).RecordDirectives()
    for request in stream(opt_out(f"k{number}") for number in range(200)):
        await abandoned.write(request)
    await abandoned.read()
    abandoned.cancel()
    assert (await stub(feed).RecordDirective(message(opt_out("after")))).token.seq > 0
    await verify_everything(feed.log.store)


async def test_service_stream_longer_than_what_may_be_in_flight_is_answered_whole(tmp_path: Path) -> None:
    # A log that refuses as overload whatever is more.
    limits = replace(LIMITS, max_waiting_requests=MAX_IN_FLIGHT)
    requests = (opt_out(f"k{number}") for number in range(3 * MAX_IN_FLIGHT - 1))
    async with running_intake(tmp_path, limits=limits) as feed:
        responses = [response async for response in stub(feed).RecordDirectives(stream(requests, size=500))]
        assert feed.log.sequencer.head.size >= 6 * MAX_IN_FLIGHT - 2
    assert [len(response.outcomes) for response in responses] == [500] * 5 + [499]
    assert not [outcome for response in responses for outcome in response.outcomes if outcome.error_reason]


async def test_service_calls_at_once_leave_one_entry_for_each_key(feed: IntakeFeed) -> None:
    size = feed.log.sequencer.head.size
    answers = await asyncio.gather(*(stub(feed).RecordDirective(message(opt_out("same"))) for _ in range(20)))
    assert len({answer.token.seq for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert feed.log.sequencer.head.size == size + 2


async def test_service_policy_is_published_and_shown(feed: IntakeFeed) -> None:
    document = format_policy(make_policy(2))
    approvals = [encode_attestation(each) for each in approve(make_policy(2), ORIGIN)]
    request = intake_pb2.PublishPolicyRequest(document=document, approvals=approvals)
    published = await administration(feed).PublishPolicy(request)
    assert (published.version, published.token.seq) == (2, feed.log.sequencer.head.size)
    policy = await administration(feed).GetPolicy(intake_pb2.GetPolicyRequest())
    assert (policy.version, policy.document) == (2, document)


@pytest.mark.parametrize(
    ("document", "code", "reason"),
    [
        (b"{}", grpc.StatusCode.INVALID_ARGUMENT, "POLICY_REJECTED"),
        (b"x" * (4 * 1024 * 1024 + 1), grpc.StatusCode.INVALID_ARGUMENT, "POLICY_REJECTED"),
        (format_policy(make_policy(3)), grpc.StatusCode.ABORTED, "POLICY_CONFLICT"),
    ],
)
async def test_service_policy_that_cannot_follow_is_refused_and_the_refusal_logged(
    feed: IntakeFeed, document: bytes, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await administration(feed).PublishPolicy(intake_pb2.PublishPolicyRequest(document=document))
    assert caught.value.code() is code
    last = (await events(feed))[-1]
    assert isinstance(last, RejectedEvent)
    assert (last.rejection, last.source) == (reason, "administrator")


async def test_service_status_tells_what_the_feed_holds_and_how_far_sidecars_are(feed: IntakeFeed) -> None:
    status = await administration(feed).GetFeedStatus(intake_pb2.GetFeedStatusRequest())
    head = feed.log.sequencer.head
    assert (status.tenant, status.log_origin, status.version) == (TENANT, ORIGIN, "1.2.3")
    assert (status.log_size, status.root_hash, status.policy_version) == (head.size, head.frontier.root_hash(), 1)
    assert status.connected_sidecars == 1
    assert [each.sidecar_id for each in status.sidecars] == [each.sidecar_id for each in SIDECARS]
    assert (status.sidecars[0].acknowledged_size, status.sidecars[0].connected) == (7, True)


async def test_service_no_identifier_reaches_files_or_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "anna.private-7731@example.com"
    caplog.set_level(logging.DEBUG)
    async with running_intake(tmp_path) as feed:
        await stub(feed).RecordDirective(message(opt_out("1", Subject("email", secret))))
        await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out("2", Subject("phone", secret))))
        await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out("3", purpose=secret)))
        await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out("4", Subject(secret, secret))))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path.name for path in files if secret.encode() in path.read_bytes()]
    assert secret not in caplog.text


async def test_service_call_is_one_tree_of_spans_under_the_callers(tmp_path: Path) -> None:
    spans = list[ReadableSpan]()
    async with running_intake(tmp_path, tracing=Tracing(spans.append)) as feed:
        await call(feed, "RecordDirective", codec.format_directive_request(opt_out("1")), traceparent=TRACEPARENT)
        await refusal(feed, "RecordDirective", codec.format_directive_request(opt_out("2", purpose="nonsense")))
        messages = [
            codec.format_streamed_requests([opt_out(f"k{at}-{number}") for number in range(60)]) for at in (1, 2)
        ]
        await send(feed, *messages)
    described = [(span.name, (span.attributes or {}).get("rpc.response.status_code")) for span in spans]
    assert described[:4] == [
        ("consent.log.append", None),
        ("consent.request", "OK"),
        ("consent.log.append", None),
        ("consent.request", "INVALID_ARGUMENT"),
    ]
    append, request = spans[:2]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert append.parent is not None
    assert request.context is not None
    assert append.parent.span_id == request.context.span_id
    # Of the stream the first hundred have spans of their own, and all are counted.
    *records, bulk = spans[4:]
    assert (len(records), (bulk.attributes or {})["consent.batch.size"]) == (100, 120)
