"""What the fakes promise to users' tests, beyond what the other cases show."""

import pytest
from consentry_client import Client, Reason, email
from consentry_client.testing import FakeIntake, FakeSidecar

ADA = email("ada@example.com")


def test_fake_sidecar_told_to_deny_everything_denies_any_purpose(sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    sidecar.deny(ADA, "*", Reason.GLOBAL_OPT_OUT)
    with Client(sidecar.address, timeout_seconds=20) as client:
        assert client.check(ADA, "marketing").reason is Reason.GLOBAL_OPT_OUT


def test_fake_sidecar_with_different_allowing_reasons_says_so(sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    sidecar.allow(ADA, "billing", Reason.NO_CHOICE_REQUIRED)
    with Client(sidecar.address, timeout_seconds=20) as client:
        assert client.check(ADA, ["marketing", "billing"]).reason is Reason.ALL_PURPOSES_ALLOWED


def test_fake_sidecar_with_reason_of_the_client_is_refused(sidecar: FakeSidecar) -> None:
    with pytest.raises(ValueError, match="client-only"):
        sidecar.deny(ADA, "marketing", Reason.CLIENT_UNAVAILABLE)


def test_fake_sidecar_started_twice_is_refused(sidecar: FakeSidecar) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        sidecar.start()


@pytest.mark.parametrize("kind", [FakeSidecar, FakeIntake])
def test_fake_after_its_with_block_leaves_nothing_behind(kind: type[FakeSidecar] | type[FakeIntake]) -> None:
    with kind() as fake:
        folder = fake.socket_path.parent
        assert fake.socket_path.is_socket()
    assert not folder.exists()
