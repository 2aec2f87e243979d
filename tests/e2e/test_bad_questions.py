"""Questions and requests that are wrong: each is answered or refused clearly, and nothing is lost."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2
from consentry_client import Client, Identifier

from tests.e2e.deployment import CALL_SECONDS, Deployment
from tests.e2e.people import SITUATION, make_person
from tests.e2e.processes import run_command
from tests.e2e.refusals import refusal_of

SERVICE = "/consentry.decision.v1.ConsentDecisionService"
MALFORMED = "no-address-at-all-4711"

Call = Callable[..., bytes]


@pytest.fixture
def channel(deployment: Deployment) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(deployment.address("sidecar")) as channel:
        yield channel


@pytest.fixture(autouse=True)
def _nothing_happens(log_stays: Callable[[], None]) -> None:
    """No test here makes the log longer, or ends a program."""


def make_batch(count: int) -> decision_pb2.CheckBatchRequest:
    values = [make_person().value for _ in range(count)]
    context = decision_pb2.Context(jurisdictions=["US-CA"])
    group = decision_pb2.BatchGroup(purposes=["newsletter"], context=context, namespace="email", values=values)
    return decision_pb2.CheckBatchRequest(groups=[group])


def call_batch(channel: grpc.Channel, batch: decision_pb2.CheckBatchRequest) -> decision_pb2.CheckBatchResponse:
    return decision_pb2_grpc.ConsentDecisionServiceStub(channel).CheckBatch(batch, timeout=30)


def test_batch_without_a_subject_is_refused(channel: grpc.Channel) -> None:
    code, text = refusal_of(lambda: call_batch(channel, decision_pb2.CheckBatchRequest()))
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT: groups: the batch has no subject")


def test_batch_of_the_largest_size_is_answered(channel: grpc.Channel) -> None:
    answer = call_batch(channel, make_batch(10_000))
    assert list(answer.effects) == [decision_pb2.EFFECT_ALLOW] * 10_000


def test_batch_of_one_subject_more_is_refused(channel: grpc.Channel) -> None:
    code, text = refusal_of(lambda: call_batch(channel, make_batch(10_001)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "INVALID_ARGUMENT: groups: 10001 subjects, the most is 10000"


def test_check_unknown_purpose_is_denied_for_that(client: Client, person: Identifier) -> None:
    decision = client.check(person, "newsleter")
    assert (decision.effect, decision.reason) == ("DENY", "PURPOSE_UNKNOWN")


def test_check_malformed_identifier_is_denied_for_that(client: Client) -> None:
    decision = client.check(Identifier("email", MALFORMED), "newsletter")
    assert (decision.effect, decision.reason) == ("DENY", "INVALID_REQUEST")


def test_check_deadline_already_passed_is_a_deny(client: Client, person: Identifier) -> None:
    late = client.check(person, "newsletter", timeout_seconds=1e-9)
    assert (late.effect, late.reason) == ("DENY", "CLIENT_DEADLINE_EXCEEDED")
    assert client.check(person, "newsletter").allowed


def test_call_deadline_already_passed_is_no_answer(channel: grpc.Channel) -> None:
    stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
    request = decision_pb2.CheckRequest(purposes=["newsletter"])
    code, _ = refusal_of(lambda: stub.Check(request, timeout=-1))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", ["Check", "CheckBatch", "Explain"])
def test_call_message_that_is_not_utf8_is_refused_without_its_content(
    deployment: Deployment, channel: grpc.Channel, method: str
) -> None:
    # A purpose that is not UTF-8, beside an identifier that must not come back in the error.
    identifier = event_pb2.Identifier(namespace="email", value=MALFORMED)
    subject = decision_pb2.Subject(identifiers=[identifier]).SerializeToString()
    message = b"\x0a" + bytes([len(subject)]) + subject + b"\x12\x03\xff\xfe\xfd"
    message = message if method == "Check" else b"\x0a" + bytes([len(message)]) + message
    with grpc.insecure_channel(deployment.address("sidecar-admin")) as administration:
        call: Call = administration.unary_unary(f"{SERVICE}/{method}")
        code, text = refusal_of(lambda: call(message, timeout=CALL_SECONDS))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in text
    assert MALFORMED not in text


def test_call_message_above_the_limit_is_refused_by_name(channel: grpc.Channel) -> None:
    call: Call = channel.unary_unary(f"{SERVICE}/Check")
    code, text = refusal_of(lambda: call(bytes(4 * 1024 * 1024 + 1), timeout=CALL_SECONDS))
    assert (code, "larger than 4194304 bytes" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("given", [MALFORMED, b"\xff\xfe\n"])
def test_command_check_of_no_identifier_is_denied_and_not_shown(deployment: Deployment, given: str | bytes) -> None:
    environ = deployment.environ | {"CONSENTRY_ADDRESS": deployment.address("sidecar"), "PYTHONUTF8": "1"}
    done = run_command("consentry", "check", "--email", "-", "-p", "newsletter", given=given, environ=environ)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("DENY INVALID_REQUEST\n")
    assert MALFORMED not in done.stdout


def test_check_stream_goes_on_after_a_batch_that_is_wrong(channel: grpc.Channel) -> None:
    batches = [make_batch(2), decision_pb2.CheckBatchRequest(), make_batch(10_001), make_batch(1)]
    requests = [
        decision_pb2.CheckStreamRequest(correlation=number, batch=batch) for number, batch in enumerate(batches)
    ]
    stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
    answers = list(stub.CheckStream(iter(requests), timeout=30))
    assert [(answer.correlation, len(answer.batch.effects)) for answer in answers] == [(0, 2), (1, 0), (2, 0), (3, 1)]
    assert [answer.error_reason for answer in answers] == ["", "INVALID_ARGUMENT", "INVALID_ARGUMENT", ""]


def test_client_asks_about_many_and_one_is_malformed_the_rest_is_answered(client: Client) -> None:
    people = [make_person(), Identifier("email", MALFORMED), make_person()]
    decisions = client.check_many(people, "newsletter", context=SITUATION)
    assert [str(decision.effect) for decision in decisions] == ["ALLOW", "DENY", "ALLOW"]
    assert decisions[1].reason == "INVALID_REQUEST"
