"""A source on another host: the Python client over mutual TLS, known by a name in its certificate."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from consentry_client import Acceptance, IntakeClient, IntakeError, TlsFiles, email

from consent.event import DirectiveEvent, parse_event
from feed.ports import Submission
from feed.runtime import RunningFeed, running_feed
from hosting.addresses import TcpAddress
from hosting.development_ca import CertificateFiles
from tests.fakes.certificates import Authority, make_authority
from tests.fakes.histories import POLICY
from tests.fakes.system import policy_event
from tests.integration.security.secure_system import install_secure, sidecar_uri

PARTNER, CRM = "spiffe://partner.example/signup", "crm.shop.example"


@dataclass(frozen=True)
class Intake:
    """A feed with one source on TCP."""

    feed: RunningFeed
    authority: Authority

    def opt_out(self, files: CertificateFiles, authority: Authority | None = None) -> Acceptance:
        address = self.feed.addresses[1]
        assert isinstance(address, TcpAddress)
        tls = TlsFiles((authority or self.authority).ca_file, files.cert_file, files.key_file)
        with IntakeClient(f"localhost:{address.port}", tls=tls, attempts_max=1) as client:
            return client.opt_out(email("ada@example.com"))


@pytest.fixture
async def intake(short_directory: Path) -> AsyncIterator[Intake]:
    secure = install_secure(short_directory)
    source = {
        "name": "partner",
        "address": "127.0.0.1:0",
        "tls": secure.feed_secret.settings,
        "certificate_names": [PARTNER, CRM],
    }
    async with running_feed(secure.feed_settings(sources=[source])) as feed:
        await feed.log.submit(Submission([policy_event(POLICY)]))
        yield Intake(feed, secure.authority)


@pytest.mark.parametrize(("uris", "dns"), [((PARTNER,), ()), ((), (CRM,)), (("spiffe://a.example/b", PARTNER), ())])
async def test_source_with_one_of_the_names_is_recorded_under_the_name_of_its_listener(
    intake: Intake, uris: tuple[str, ...], dns: tuple[str, ...]
) -> None:
    files = intake.authority.issue("source", *uris, dns=dns)
    accepted = await asyncio.to_thread(intake.opt_out, files)
    (entry,) = await intake.feed.log.read_entries(accepted.token.seq, 1)
    event = parse_event(entry.event_bytes)
    assert isinstance(event, DirectiveEvent)
    assert event.source == "partner"


@pytest.mark.parametrize(
    ("uris", "dns"),
    [
        ((), ()),
        ((sidecar_uri(),), ()),
        ((PARTNER + "/",), ()),
        ((PARTNER.upper(),), ()),
        ((f"https://{CRM}",), (f"x.{CRM}",)),
    ],
)
async def test_source_with_none_of_the_names_is_refused_and_nothing_is_logged(
    intake: Intake, uris: tuple[str, ...], dns: tuple[str, ...]
) -> None:
    size, files = intake.feed.log.head.size, intake.authority.issue("source", *uris, dns=dns)
    with pytest.raises(IntakeError) as caught:
        await asyncio.to_thread(intake.opt_out, files)
    assert caught.value.reason == "CALLER_NOT_PERMITTED"
    assert not caught.value.outcome_unknown
    assert intake.feed.log.head.size == size


async def test_source_of_another_authority_does_not_connect(intake: Intake, short_directory: Path) -> None:
    theirs = make_authority(short_directory / "theirs")
    size, files = intake.feed.log.head.size, theirs.issue("source", PARTNER)
    with pytest.raises(IntakeError):
        await asyncio.to_thread(intake.opt_out, files, intake.authority)
    assert intake.feed.log.head.size == size
