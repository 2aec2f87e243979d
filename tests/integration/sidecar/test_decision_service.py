"""The decision service over real gRPC: answers, limits, listeners, and what a caller may see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from consent.decision_record import parse_question, parse_record
from consent.event import LinkEvent
from feed.runtime import running_feed
from journal.reader import read_segment
from sidecar.check import UNKNOWN_NAME
from sidecar.grpc_api.codec import MAX_BATCH_SUBJECTS, MAX_MESSAGE_BYTES
from sidecar.grpc_api.decision_service import SERVICE
from sidecar.runtime import load_keys
from tests.fakes.clock import FakeClock
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN
from tests.fakes.system import System, ask, policy_event, reason_of, running_system

ALLOW, DENY = decision_pb2.EFFECT_ALLOW, decision_pb2.EFFECT_DENY


@pytest.fixture
async def system(short_directory: Path) -> AsyncIterator[System]:
    async with running_system(short_directory) as running:
        yield running


def code_of(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> tuple[grpc.StatusCode, str]:
    return caught.value.code(), caught.value.details() or ""


async def call_raw(system: System, method: str, message: bytes, caller: str = "app") -> bytes:
    async with grpc.aio.insecure_channel(system.installation.socket(f"sidecar-1-{caller}")) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
        return bytes(await call(message, timeout=10))


async def test_check_unknown_person_under_opt_out_is_allowed(system: System) -> None:
    async with system.stub() as stub:
        response = await stub.Check(ask())
    assert (response.effect, reason_of(response)) == (ALLOW, "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN")
    assert (response.policy_version, response.log_size) == (1, system.feed.log.head.size)
    assert UUID(bytes=response.decision_id).version == 7


async def test_check_after_an_opt_out_is_denied_and_names_its_entry(system: System) -> None:
    seq = await system.log(system.opt_out(purpose="root"))
    async with system.stub() as stub:
        response = await stub.Check(ask())
    assert (response.effect, reason_of(response), response.deciding_seq) == (DENY, "OPT_OUT_PARENT", seq)
    assert response.valid_until_ms == 0


async def test_check_linked_identifier_is_denied_too(system: System) -> None:
    left, right = system.tokeniser.token("user", "ada"), system.tokeniser.token("email", "ada@example.com")
    await system.log(system.opt_out(), LinkEvent(origin=ORIGIN, left=left, right=right, proof=0, occurred_at_ms=0))
    async with system.stub() as stub:
        assert (await stub.Check(ask("ADA@example.com", namespace="email"))).effect == DENY
        assert (await stub.Check(ask("bob@example.com", namespace="email"))).effect == ALLOW


async def test_check_min_seq_waits_for_the_entry_and_then_knows_it(system: System) -> None:
    request = ask()
    request.consistency.min.CopyFrom(event_pb2.ConsistencyToken(origin=ORIGIN, seq=system.feed.log.head.size + 1))
    async with system.stub() as stub:
        assert reason_of(await stub.Check(request)) == "NOT_YET_CONSISTENT"
        request.consistency.wait_ms = 10_000
        waiting = asyncio.ensure_future(stub.Check(request, timeout=10))
        await system.log(system.opt_out())
        assert reason_of(await waiting) == "GLOBAL_OPT_OUT"
        request.consistency.min.origin = "other.example/log"
        request.consistency.wait_ms = 0
        assert reason_of(await stub.Check(request)) == "NOT_YET_CONSISTENT"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (decision_pb2.CheckRequest(purposes=["left"]), "INVALID_REQUEST"),
        (ask(purpose=[]), "INVALID_REQUEST"),
        (ask("not-an-address", namespace="email"), "INVALID_REQUEST"),
        (ask("ada", namespace="Not A Namespace"), "INVALID_REQUEST"),
        (ask(purpose="nobody-knows"), "PURPOSE_UNKNOWN"),
    ],
    ids=["no subject", "no purpose", "malformed address", "malformed namespace", "unknown purpose"],
)
async def test_check_request_that_can_be_decoded_is_answered(
    system: System, request_: decision_pb2.CheckRequest, reason: str
) -> None:
    async with system.stub() as stub:
        response = await stub.Check(request_)
    assert (response.effect, reason_of(response)) == (DENY, reason)


async def test_check_enumerated_value_of_a_newer_peer_is_denied(system: System) -> None:
    request = ask()
    request.context.age_band = 9  # type: ignore[assignment]
    async with system.stub() as stub:
        assert reason_of(await stub.Check(request)) == "INVALID_REQUEST"


async def test_check_ready_token_needs_the_listeners_permission(system: System) -> None:
    request = ask()
    token = system.tokeniser.token("user", "ada")
    request.subject.identifiers[0].CopyFrom(event_pb2.Identifier(token=token))
    await system.log(system.opt_out())
    async with system.stub() as stub, system.stub("admin") as admin:
        assert reason_of(await stub.Check(request)) == "INVALID_REQUEST"
        assert reason_of(await admin.Check(request)) == "GLOBAL_OPT_OUT"


async def test_check_caller_of_the_listener_may_not_ask_for_everything(system: System) -> None:
    async with system.stub("stranger") as stub:
        response = await stub.Check(ask())
    assert reason_of(response) == "CALLER_NOT_PERMITTED_FOR_PURPOSE"


@pytest.mark.parametrize(
    ("method", "message", "text"),
    [
        ("Check", b"\xff\xff\xff", "CheckRequest cannot be decoded"),
        ("Check", b"\x12\x02\xc3\x28", "CheckRequest cannot be decoded"),
        ("Check", bytes(MAX_MESSAGE_BYTES + 1), "CheckRequest is larger than"),
        ("CheckBatch", b"", "groups: the batch has no subject"),
        ("Check", decision_pb2.CheckRequest(purposes=["p"] * 101).SerializeToString(), "purposes: more than 100"),
        ("Check", decision_pb2.CheckRequest(purposes=["p" * 257]).SerializeToString(), "purposes: a name is longer"),
        ("Check", ask("secret-" * 200).SerializeToString(), "subject.identifiers: a value is longer"),
    ],
    ids=["garbage", "not UTF-8", "oversized", "empty batch", "too many purposes", "long purpose", "long identifier"],
)
async def test_call_beyond_the_limits_is_an_error_that_names_the_field(
    system: System, method: str, message: bytes, text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_raw(system, method, message)
    code, details = code_of(caught)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details
    assert "secret" not in details


async def test_check_deadline_already_passed_is_no_answer(system: System) -> None:
    async with system.stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask(), timeout=-1)
    assert code_of(caught)[0] is grpc.StatusCode.DEADLINE_EXCEEDED


def batch(*values: str, purpose: str = "left") -> decision_pb2.BatchGroup:
    context = decision_pb2.Context(jurisdictions=["US-CA"], age_band=event_pb2.AGE_BAND_ADULT)
    return decision_pb2.BatchGroup(purposes=[purpose], context=context, namespace="user", values=values)


async def test_check_batch_answers_in_order_and_one_bad_item_does_not_fail_the_rest(system: System) -> None:
    seq = await system.log(system.opt_out("bob"))
    general = decision_pb2.BatchGroup(purposes=["contract"], subjects=[ask("ada").subject, ask("bob").subject])
    request = decision_pb2.CheckBatchRequest(groups=[batch("ada", "  ", "bob"), general, batch("eve", purpose="?")])
    async with system.stub() as stub:
        response = await stub.CheckBatch(request)
    assert list(response.effects) == [ALLOW, DENY, DENY, ALLOW, DENY, DENY]
    reasons = [decision_pb2.Reason.Name(reason).removeprefix("REASON_") for reason in response.reasons]
    assert reasons[1:3] == ["INVALID_REQUEST", "GLOBAL_OPT_OUT"]
    assert reasons[3:] == ["NO_CHOICE_REQUIRED", "GLOBAL_OPT_OUT", "PURPOSE_UNKNOWN"]
    assert list(response.deciding_seqs) == [0, 0, seq, 0, seq, 0]
    assert len(response.valid_until_ms) == 6


async def test_check_batch_of_the_largest_size_is_answered_and_one_more_is_refused(system: System) -> None:
    async with system.stub() as stub:
        largest = decision_pb2.CheckBatchRequest(groups=[batch(*map(str, range(MAX_BATCH_SUBJECTS)))])
        assert len((await stub.CheckBatch(largest)).effects) == MAX_BATCH_SUBJECTS
        largest.groups.append(batch("one more"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CheckBatch(largest)
    assert code_of(caught) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT: groups: 10001 subjects, the most is 10000",
    )


async def test_check_stream_goes_on_after_a_bad_batch(system: System) -> None:
    await system.log(system.opt_out("bob"))
    requests = [
        decision_pb2.CheckStreamRequest(correlation=1, batch=decision_pb2.CheckBatchRequest(groups=[batch("ada")])),
        decision_pb2.CheckStreamRequest(correlation=2),
        decision_pb2.CheckStreamRequest(correlation=3, batch=decision_pb2.CheckBatchRequest(groups=[batch("bob")])),
    ]
    async with system.stub() as stub:
        responses = [response async for response in stub.CheckStream(iter(requests))]
    assert [response.correlation for response in responses] == [1, 2, 3]
    assert [response.error_reason for response in responses] == ["", "INVALID_ARGUMENT", ""]
    assert [list(response.batch.effects) for response in responses] == [[ALLOW], [], [DENY]]


async def test_explain_gives_the_rules_and_the_proven_event(system: System) -> None:
    seq = await system.log(system.opt_out())
    async with system.stub() as stub:
        response = await stub.Explain(decision_pb2.ExplainRequest(check=ask()))
    assert [rule.rule for rule in response.rules] == list(range(1, 12))
    assert [rule.rule for rule in response.rules if rule.fired] == [11]
    assert response.deciding_event.seq == seq
    assert response.deciding_event.tree_size == response.check.log_size
    assert response.deciding_event.inclusion_proof
    assert not response.proof_unavailable


async def test_explain_without_the_feed_says_that_the_proof_is_missing(short_directory: Path) -> None:
    async with (
        AsyncExitStack() as feed_only,
        running_system(short_directory, feed_lifetime=feed_only) as system,
        system.stub() as stub,
    ):
        await system.log(system.opt_out())
        await feed_only.aclose()
        response = await stub.Explain(decision_pb2.ExplainRequest(check=ask()))
    assert reason_of(response.check) == "GLOBAL_OPT_OUT"
    assert response.proof_unavailable
    assert not response.HasField("deciding_event")


async def test_listener_with_detail_effect_withholds_what_is_about_the_person(short_directory: Path) -> None:
    listener = {"address": f"unix://{short_directory}/sidecar-1-app.sock", "callers": [{"name": "app"}]}
    async with running_system(short_directory, sidecar_changes={"listeners": [listener]}) as system:
        await system.log(system.opt_out())
        async with system.stub() as stub:
            denied, unknown = await stub.Check(ask()), await stub.Check(ask(purpose="?"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Explain(decision_pb2.ExplainRequest(check=ask()))
    assert (denied.effect, reason_of(denied), denied.deciding_seq) == (DENY, "WITHHELD", 0)
    assert reason_of(unknown) == "PURPOSE_UNKNOWN"
    assert code_of(caught)[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_get_status_tells_what_is_held(system: System) -> None:
    await system.log(system.opt_out())
    async with system.stub() as stub:
        status = await stub.GetStatus(decision_pb2.GetStatusRequest())
    head = system.feed.log.head
    assert (status.log_size, status.root_hash, status.subjects) == (head.size, head.frontier.root_hash(), 1)
    assert status.sync_state == decision_pb2.SYNC_STATE_IN_SYNC
    assert (status.sidecar_id, status.tenant, status.policy_version) == ("sidecar-1", "tenant-1", 1)


async def test_sockets_have_the_modes_that_guard_them(system: System) -> None:
    def mode(name: str) -> int:
        return (system.installation.directory / f"sidecar-1-{name}.sock").stat().st_mode & 0o777

    assert (mode("app"), mode("admin")) == (0o660, 0o600)


async def test_health_serves_only_with_verified_data(short_directory: Path) -> None:
    async with (
        running_system(short_directory, policy=None) as system,
        grpc.aio.insecure_channel(system.installation.socket("sidecar-1-app")) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await system.log(policy_event(POLICY))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_check_before_any_data_is_denied_for_that_reason(short_directory: Path) -> None:
    async with running_system(short_directory, policy=None) as system, system.stub() as stub:
        assert reason_of(await stub.Check(ask())) == "NO_SNAPSHOT"


async def test_check_data_that_aged_is_denied_and_health_follows(short_directory: Path) -> None:
    clock = FakeClock()
    async with running_system(short_directory, clock=clock) as system, system.stub() as stub:
        assert (await stub.Check(ask())).effect == ALLOW
        clock.advance(600_001)
        response = await stub.Check(ask())
        assert (reason_of(response), response.staleness_ms >= 600_001) == ("CACHE_TOO_STALE", True)
        assert not system.sidecar.is_ready()


async def test_check_leaves_a_record_of_what_was_decided(system: System) -> None:
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with system.stub() as stub:
        response = await stub.Check(ask("ada"), metadata=(("traceparent", f"00-{trace_id}-{span_id}-01"),))
    system.sidecar.journal.close()
    keys = load_keys(system.settings)
    segments = sorted(system.settings.journal.directory.glob("*.journal"))
    records = [parse_record(at.record) for segment in segments for at in read_segment(segment, keys)]
    (call,) = [record for record in records if record.call_id == response.decision_id]
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (trace_id, span_id)
    asked = parse_question(call.question)
    assert (asked.caller, asked.purposes, asked.jurisdictions) == ("app", ("left",), ("US-CA",))
    (item,) = call.items
    assert len(item.pseudonyms) == 1
    assert item.pseudonyms[0] != system.tokeniser.token("user", "ada")
    assert item.reason == "DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN"


async def test_check_name_that_the_policy_does_not_know_is_not_recorded(system: System) -> None:
    request = ask(purpose=["ada@example.com", "left"], jurisdiction="secret-place")
    request.context.data_categories.append("secret-category")
    async with system.stub() as stub:
        response = await stub.Check(request)
    assert reason_of(response) == "PURPOSE_UNKNOWN"
    system.sidecar.journal.close()
    keys = load_keys(system.settings)
    segments = sorted(system.settings.journal.directory.glob("*.journal"))
    records = [parse_record(at.record) for segment in segments for at in read_segment(segment, keys)]
    (asked,) = [parse_question(call.question) for call in records if call.call_id == response.decision_id]
    assert asked.purposes == (UNKNOWN_NAME, "left")
    assert asked.jurisdictions == (UNKNOWN_NAME,)
    assert asked.data_categories == (UNKNOWN_NAME,)


async def test_sidecar_whose_cache_is_not_intact_is_not_ready_and_fetches_everything_anew(
    short_directory: Path,
) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        await system.log(system.opt_out())
        system.sidecar.cache._is_intact = False
        async with system.stub() as stub:
            assert reason_of(await stub.Check(ask())) == "CACHE_INTEGRITY"
        assert not system.sidecar.is_ready()
        await feed_only.aclose()
        async with running_feed(system.installation.feed_settings()) as feed, asyncio.timeout(20):
            while not system.sidecar.is_ready():
                await asyncio.sleep(0.01)
            system.feed = feed
            await system.catch_up()
        async with system.stub() as stub:
            assert reason_of(await stub.Check(ask())) == "GLOBAL_OPT_OUT"
