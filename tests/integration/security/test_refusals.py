"""Who shows a wrong certificate is refused, and the sidecar's log and status say why, whichever side it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from feed.runtime import running_feed
from hosting.development_ca import CertificateFiles
from sidecar.ports import SyncState
from sidecar.runtime import running_sidecar
from tests.fakes.certificates import Authority, in_days, make_authority
from tests.integration.security.secure_system import (
    SecureInstallation,
    install_secure,
    make_sidecar_certificate,
    sidecar_uri,
    wait_for_reason,
)

Issue = Callable[[Authority, Authority], CertificateFiles]

FEED_CASES: dict[str, tuple[Issue, str]] = {
    "expired": (lambda ours, _: ours.issue_server(clock=in_days(-40)), "or one that it leads to, has expired"),
    "not yet valid": (lambda ours, _: ours.issue_server(clock=in_days(2)), "is not valid yet; is a clock wrong?"),
    "other authority": (lambda _, theirs: theirs.issue_server(), "is of no authority in feed.tls.ca_file"),
    "other name": (
        lambda ours, _: ours.issue("feed", dns=("feed.shop.example",), ips=("127.0.0.2",)),
        "is not for the host in feed.address",
    ),
}
SIDECAR_CASES: dict[str, tuple[Issue, SyncState, str, str]] = {
    "expired": (
        lambda ours, _: make_sidecar_certificate(ours, in_days(-40)),
        SyncState.REFUSED,
        "OWN_CERTIFICATE_EXPIRED",
        "the certificate in feed.tls.cert_file has expired",
    ),
    "not yet valid": (
        lambda ours, _: make_sidecar_certificate(ours, in_days(2)),
        SyncState.REFUSED,
        "OWN_CERTIFICATE_NOT_YET_VALID",
        "the certificate in feed.tls.cert_file is not valid yet",
    ),
    "other authority": (
        lambda _, theirs: make_sidecar_certificate(theirs),
        SyncState.EMPTY,
        "FEED_UNAVAILABLE",
        "the authority of feed.tls.cert_file may be missing in the feed's sync.tls.ca_file",
    ),
    "other name": (
        lambda ours, _: ours.issue("sidecar", sidecar_uri("sidecar-2"), dns=("sidecar-1.shop.example",)),
        SyncState.REFUSED,
        "FEED_REFUSED",
        "not the name in the certificate; expected the URI spiffe://shop.example/sidecar/<sidecar_id>",
    ),
    "name as another kind": (
        lambda ours, _: ours.issue("sidecar", dns=("shop.example", "sidecar-1")),
        SyncState.REFUSED,
        "FEED_REFUSED",
        "SIDECAR_NOT_PERMITTED",
    ),
}


@pytest.fixture
def secure(short_directory: Path) -> SecureInstallation:
    return install_secure(short_directory)


@pytest.fixture
def theirs(short_directory: Path) -> Authority:
    return make_authority(short_directory / "theirs")


@pytest.mark.parametrize("case", FEED_CASES)
async def test_feed_with_a_wrong_certificate_is_not_trusted_and_the_log_says_what_is_wrong(
    secure: SecureInstallation, theirs: Authority, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    issue, text = FEED_CASES[case]
    secure.feed_secret.put(issue(secure.authority, theirs), secure.authority)
    async with (
        running_feed(secure.feed_settings()),
        running_sidecar(secure.sidecar_settings(), boot_id="test") as sidecar,
    ):
        await wait_for_reason(sidecar, "FEED_UNTRUSTED")
        assert sidecar.report().sync_state is SyncState.REFUSED
        assert sidecar.cache.head.size == 0
    assert "sync interrupted: the feed's certificate" in caplog.text
    assert text in caplog.text


@pytest.mark.parametrize("case", SIDECAR_CASES)
async def test_sidecar_with_a_wrong_certificate_gets_nothing_and_says_why(
    secure: SecureInstallation, theirs: Authority, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    issue, state, reason, text = SIDECAR_CASES[case]
    secure.sidecar_secret.put(issue(secure.authority, theirs), secure.authority)
    async with (
        running_feed(secure.feed_settings()),
        running_sidecar(secure.sidecar_settings(), boot_id="test") as sidecar,
    ):
        await wait_for_reason(sidecar, reason)
        assert sidecar.report().sync_state is state
        assert sidecar.cache.head.size == 0
        assert text in caplog.text
