"""Who may ask what, and where: each socket belongs to one caller."""

import stat
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2
from consentry_client import Client, Identifier
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.deployment import CALL_SECONDS, Deployment
from tests.e2e.people import SITUATION
from tests.e2e.refusals import refusal_of

MAILER = "new/mailer"


@pytest.fixture
def opted_out(deployment: Deployment, client: Client, person: Identifier) -> Identifier:
    with deployment.intake() as intake:
        token = intake.opt_out(person, "newsletter").token
    assert not client.check(person, "newsletter", min_token=token, wait_seconds=5)
    return person


def test_listener_with_detail_full_tells_the_reason(client: Client, opted_out: Identifier) -> None:
    decision = client.check(opted_out, "newsletter")
    assert (decision.effect, decision.reason) == ("DENY", "OPT_OUT")
    assert decision.deciding_seq > 0


def test_listener_with_detail_effect_withholds_what_is_about_the_person(
    deployment: Deployment, opted_out: Identifier, person: Identifier
) -> None:
    with deployment.client(MAILER) as mailer:
        decision = mailer.check(opted_out, "newsletter", context=SITUATION)
        assert (decision.effect, decision.reason, decision.deciding_seq) == ("DENY", "WITHHELD", 0)
        allowed = mailer.check(Identifier("user", person.value), "newsletter", context=SITUATION)
        assert (allowed.effect, allowed.reason) == ("ALLOW", "WITHHELD")


def test_listener_caller_asks_for_a_purpose_of_others_is_denied(deployment: Deployment, person: Identifier) -> None:
    with deployment.client(MAILER) as mailer:
        decision = mailer.check(person, "product_tips", context=SITUATION)
    assert (decision.effect, decision.reason) == ("DENY", "CALLER_NOT_PERMITTED_FOR_PURPOSE")


def test_listener_caller_may_not_call_a_method_that_is_not_its_own(deployment: Deployment, person: Identifier) -> None:
    with deployment.client(MAILER) as mailer:
        (decision,) = mailer.check_many([person], "newsletter", context=SITUATION)
    assert (decision.effect, decision.reason, decision.error) == ("DENY", "CLIENT_REFUSED", "PERMISSION_DENIED")
    assert decision.error_reason == "METHOD_NOT_PERMITTED"


def test_listener_metadata_never_names_the_caller(deployment: Deployment, person: Identifier) -> None:
    request = decision_pb2.CheckRequest(
        subject=decision_pb2.Subject(identifiers=[event_pb2.Identifier(namespace="email", value=person.value)]),
        purposes=["product_tips"],
    )
    pretended = (("caller", "administrator"), ("x-forwarded-client-cert", "administrator"), ("authority", "app"))
    with grpc.insecure_channel(deployment.address(MAILER)) as channel:
        stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
        response = stub.Check(request, metadata=pretended, timeout=CALL_SECONDS)
    assert response.reason == decision_pb2.REASON_CALLER_NOT_PERMITTED_FOR_PURPOSE


def test_explain_only_the_administration_may(deployment: Deployment, client: Client, opted_out: Identifier) -> None:
    refused = client.explain(opted_out, "newsletter")
    assert (refused.decision.reason, refused.decision.error) == ("CLIENT_REFUSED", "PERMISSION_DENIED")
    with deployment.client("sidecar-admin") as administration:
        explained = administration.explain(opted_out, "newsletter", context=SITUATION)
    assert explained.decision.reason == "OPT_OUT"
    assert explained.deciding_event is not None
    assert not explained.proof_unavailable


@pytest.mark.parametrize("name", ["sidecar", MAILER, "sidecar-admin", "feed-admin", "intake-web"])
def test_reflection_is_off(deployment: Deployment, name: str) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(deployment.address(name)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        code, _ = refusal_of(lambda: next(stub.ServerReflectionInfo(iter([request]), timeout=CALL_SECONDS)))
    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("sidecar", 0o660),
        (MAILER, 0o660),
        ("intake-web", 0o660),
        ("sidecar-admin", 0o600),
        ("feed-admin", 0o600),
        ("feed-import", 0o600),
    ],
)
def test_socket_has_the_mode_that_guards_it(deployment: Deployment, name: str, mode: int) -> None:
    path = Path(deployment.address(name).removeprefix("unix://"))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_socket_directory_made_for_it_is_for_its_group_alone(deployment: Deployment) -> None:
    folder = Path(deployment.address(MAILER).removeprefix("unix://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o770


def test_data_directories_are_for_their_owner_alone(deployment: Deployment) -> None:
    folders = [deployment.site / name for name in ("feed/log", "feed/keys", "sidecar/cache", "sidecar/journal", "run")]
    assert {oct(stat.S_IMODE(folder.stat().st_mode)) for folder in folders} == {"0o700"}
