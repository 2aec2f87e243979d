"""Mutual TLS between sidecar and feed: who shows the wrong certificate learns nothing, and says why."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc
from consentry_client import SidecarStatus

from feed.setup import TRUST_DOMAIN
from hosting.development_ca import create_development_ca, issue_certificate
from tests.e2e.deployment import CALL_SECONDS, SIDECAR_ID, Deployment
from tests.e2e.people import make_person
from tests.e2e.processes import Program
from tests.e2e.refusals import refusal_of

REFUSED_BY_NAME, OF_ANOTHER_CA, TRUSTS_ANOTHER_CA = "sidecar-7", "sidecar-8", "sidecar-9"


@dataclass
class Outsider:
    """A sidecar that does not get through, and how it stands once it has tried."""

    name: str
    program: Program
    status: SidecarStatus


@pytest.fixture(scope="module")
def outsiders(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outsider]]:
    """Three at once: one with another sidecar's name, one with another authority's certificate, one that trusts another."""
    other_ca = tmp_path_factory.mktemp("tls")
    create_development_ca(other_ca)
    name = f"spiffe://{TRUST_DOMAIN}/sidecar/{OF_ANOTHER_CA}"
    files = issue_certificate(other_ca, "sidecar", san_uris=[name])
    foreign = {"feed.tls.cert_file": str(files.cert_file), "feed.tls.key_file": str(files.key_file)}
    programs = {
        REFUSED_BY_NAME: deployment.add_sidecar(REFUSED_BY_NAME, certificate="somebody-else"),
        OF_ANOTHER_CA: deployment.add_sidecar(OF_ANOTHER_CA, foreign),
        TRUSTS_ANOTHER_CA: deployment.add_sidecar(TRUSTS_ANOTHER_CA, {"feed.tls.ca_file": str(other_ca / "ca.pem")}),
    }
    for program in programs.values():
        program.start()
    yield {name: try_in_vain(deployment, name, program) for name, program in programs.items()}
    for program in programs.values():
        assert program.stop() == 0


def try_in_vain(deployment: Deployment, name: str, program: Program) -> Outsider:
    program.wait_for_line(" listening ")
    program.wait_for_line("sync interrupted")
    with deployment.client(name) as client:
        return Outsider(name, program, client.status())


def test_sidecar_with_the_name_of_another_is_refused_and_says_so(outsiders: dict[str, Outsider]) -> None:
    outsider = outsiders[REFUSED_BY_NAME]
    assert (outsider.status.sync_state, outsider.status.last_error_reason) == ("REFUSED", "FEED_REFUSED")
    assert "SIDECAR_NOT_PERMITTED: sidecar_id: is not the name in the certificate" in outsider.program.text


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [(OF_ANOTHER_CA, "EMPTY", "FEED_UNAVAILABLE"), (TRUSTS_ANOTHER_CA, "REFUSED", "FEED_UNTRUSTED")],
)
def test_sidecar_without_a_certificate_that_both_accept_keeps_trying_and_says_why(
    outsiders: dict[str, Outsider], name: str, state: str, reason: str
) -> None:
    status = outsiders[name].status
    assert (status.sync_state, status.last_error_reason) == (state, reason)
    assert outsiders[name].program.is_running


@pytest.mark.parametrize("name", [REFUSED_BY_NAME, OF_ANOTHER_CA, TRUSTS_ANOTHER_CA])
def test_sidecar_that_does_not_get_through_holds_nothing_and_denies(
    deployment: Deployment, outsiders: dict[str, Outsider], name: str
) -> None:
    assert (outsiders[name].status.log_size, outsiders[name].status.subjects) == (0, 0)
    with deployment.client(name) as client:
        decision = client.check(make_person(), "newsletter")
    assert (decision.effect, decision.reason) == ("DENY", "NO_SNAPSHOT")


def test_feed_lists_nobody_who_did_not_get_through(deployment: Deployment, outsiders: dict[str, Outsider]) -> None:
    known = {sidecar.sidecar_id for sidecar in deployment.feed_status().sidecars}
    assert SIDECAR_ID in known
    assert known.isdisjoint(outsiders)


def test_feed_takes_no_plain_connection(deployment: Deployment) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{deployment.port}") as channel:
        stub = feed_pb2_grpc.FeedServiceStub(channel)
        request = feed_pb2.GetKeysRequest(sidecar_id=SIDECAR_ID)
        code, _ = refusal_of(lambda: stub.GetKeys(request, timeout=CALL_SECONDS))
    assert code is grpc.StatusCode.UNAVAILABLE


def test_feed_gives_nothing_to_a_caller_without_a_certificate(deployment: Deployment) -> None:
    ca = (deployment.site / "tls" / "ca.pem").read_bytes()
    with grpc.secure_channel(f"127.0.0.1:{deployment.port}", grpc.ssl_channel_credentials(ca)) as channel:
        stub = feed_pb2_grpc.FeedServiceStub(channel)
        request = feed_pb2.GetKeysRequest(sidecar_id=SIDECAR_ID)
        code, _ = refusal_of(lambda: stub.GetKeys(request, timeout=CALL_SECONDS))
    assert code is grpc.StatusCode.UNAVAILABLE


def test_feed_gives_keys_and_snapshot_to_the_named_sidecar_alone(deployment: Deployment) -> None:
    """Every method checks the name, not the subscription only."""
    tls = deployment.site / "tls"
    files = issue_certificate(tls, "named", san_uris=[f"spiffe://{TRUST_DOMAIN}/sidecar/named"])
    pair = files.key_file.read_bytes(), files.cert_file.read_bytes()
    credentials = grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes(), *pair)
    keys = feed_pb2.GetKeysRequest(sidecar_id=SIDECAR_ID, recipient_public_key=bytes(range(32)))
    snapshot = feed_pb2.GetSnapshotRequest(sidecar_id=SIDECAR_ID)
    hello = feed_pb2.SubscribeRequest(hello=feed_pb2.Hello(sidecar_id=SIDECAR_ID))
    with grpc.secure_channel(f"127.0.0.1:{deployment.port}", credentials) as channel:
        stub = feed_pb2_grpc.FeedServiceStub(channel)
        calls: list[Callable[[], object]] = [
            lambda: stub.GetKeys(keys, timeout=CALL_SECONDS),
            lambda: next(stub.GetSnapshot(snapshot, timeout=CALL_SECONDS)),
            lambda: next(stub.Subscribe(iter([hello]), timeout=CALL_SECONDS)),
        ]
        codes = [refusal_of(call)[0] for call in calls]
    assert codes == [grpc.StatusCode.PERMISSION_DENIED] * 3
