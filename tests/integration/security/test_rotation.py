"""Certificates and authorities that change under a running feed and sidecar."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consent.vocabulary.subject import Tokeniser
from feed.ports import Submission
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from hosting.addresses import format_address
from hosting.certificates import OwnCertificate
from hosting.tls import channel_credentials
from sidecar.errors import FeedUnavailable
from sidecar.ports import EMPTY_HEAD, EntriesFrame, Frame, SyncState
from sidecar.runtime import running_sidecar
from sidecar.sync.feed_client import GrpcFeed
from tests.fakes.certificates import Authority, in_days, make_authority
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN
from tests.fakes.system import System, ask, policy_event
from tests.integration.security.secure_system import (
    PATIENCE_SECONDS,
    SIDECAR_ID,
    SecureInstallation,
    install_secure,
    make_sidecar_certificate,
    wait_for_reason,
)

MAILER = "spiffe://shop.example/mailer"


@pytest.fixture
def secure(short_directory: Path) -> SecureInstallation:
    return install_secure(short_directory)


@asynccontextmanager
async def running(secure: SecureInstallation, feed_lifetime: AsyncExitStack) -> AsyncIterator[System]:
    tokeniser = Tokeniser([load_keys(secure.installation.directory / "keys", ORIGIN).subject_key])
    callers = [{"name": "mailer", "identity": MAILER, "detail": "full"}]
    listener = {"address": "127.0.0.1:0", "tls": secure.sidecar_secret.settings, "callers": callers}
    settings = secure.sidecar_settings(listeners=[listener])
    async with feed_lifetime:
        feed = await feed_lifetime.enter_async_context(running_feed(secure.feed_settings()))
        await feed.log.submit(Submission([policy_event(POLICY)]))
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system = System(secure.installation, feed, sidecar, settings, tokeniser)
            await system.catch_up()
            yield system


@asynccontextmanager
async def mailer_stub(
    system: System, issuer: Authority, trusted: Authority
) -> AsyncIterator["decision_pb2_grpc.ConsentDecisionServiceAsyncStub"]:
    """A service on another host, which asks the sidecar over mutual TLS."""
    address, files = system.sidecar.addresses[0], issuer.issue("mailer", MAILER)
    credentials = channel_credentials(files.cert_file, files.key_file, trusted.ca_file)
    async with grpc.aio.secure_channel(format_address(address), credentials) as channel:
        yield decision_pb2_grpc.ConsentDecisionServiceStub(channel)


async def keep_asking(stub: "decision_pb2_grpc.ConsentDecisionServiceAsyncStub", effects: list[int]) -> None:
    while True:
        effects.append((await stub.Check(ask("nobody"), timeout=10)).effect)


async def wait_for_text(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while text not in caplog.text:
            await asyncio.sleep(0.005)


async def read_to_end(frames: AsyncIterator[Frame]) -> None:
    async for _ in frames:
        pass


async def test_rotation_of_everything_drops_no_stream_and_no_check(
    secure: SecureInstallation, short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sidecar.sync.follower")
    old, new, feed_only = secure.authority, make_authority(short_directory / "new"), AsyncExitStack()
    async with running(secure, feed_only) as system, mailer_stub(system, old, old) as old_stub:
        effects: list[int] = []
        asking = asyncio.create_task(keep_asking(old_stub, effects))
        # 1. Both trust both authorities; 2. both show the new one's certificates; 3. nobody trusts the old one any more.
        for authority, trusted in ((old, (old, new)), (new, (old, new)), (new, (new,))):
            secure.feed_secret.put(authority.issue_server(), *trusted)
            secure.sidecar_secret.put(make_sidecar_certificate(authority), *trusted)
            await system.log(system.opt_out("ada"))
            # A service that connects now meets the new certificate, and is known by its own.
            async with mailer_stub(system, authority, authority) as stub:
                assert (await stub.Check(ask("ada"), timeout=10)).effect == decision_pb2.EFFECT_DENY
        assert "sync interrupted" not in caplog.text
        assert system.sidecar.follower.state is SyncState.IN_SYNC
        # The feed comes back with the new authority alone, and so does the sidecar, without a restart of its own.
        await feed_only.aclose()
        await wait_for_reason(system.sidecar, "FEED_UNAVAILABLE", "FEED_REFUSED")
        async with running_feed(secure.feed_settings()) as system.feed:
            await system.log(system.opt_out("bob"))
            assert asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            assert set(effects) == {decision_pb2.EFFECT_ALLOW}
        async with mailer_stub(system, old, new) as refused:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused.Check(ask("ada"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_feed_client_calls_with_the_changed_certificate_beside_a_stream_with_the_former(
    secure: SecureInstallation, short_directory: Path
) -> None:
    new, files = make_authority(short_directory / "new"), secure.sidecar_secret.settings
    certificate = OwnCertificate(files["cert_file"], files["key_file"], files["ca_file"])
    public_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    async with running_feed(secure.feed_settings()) as running_one:
        feed = GrpcFeed(f"127.0.0.1:{secure.port}", certificate, SIDECAR_ID)
        frames = feed.subscribe(EMPTY_HEAD, 0).frames()
        await anext(frames)
        # Whoever connects from now on needs a certificate of the new authority.
        secure.feed_secret.put(new.issue_server(), new)
        secure.sidecar_secret.put(make_sidecar_certificate(new), new)
        for _ in range(2):
            assert await feed.fetch_keys(public_key)
        await running_one.log.submit(Submission([policy_event(POLICY)]))
        while not isinstance(await anext(frames), EntriesFrame):
            pass
        # Closing ends the stream too, although it is on the former channel.
        await feed.close()
        with pytest.raises((asyncio.CancelledError, FeedUnavailable)):
            await read_to_end(frames)


async def test_sidecar_whose_certificate_has_expired_says_so_and_connects_once_it_is_renewed(
    secure: SecureInstallation, caplog: pytest.LogCaptureFixture
) -> None:
    feed_only = AsyncExitStack()
    secure.sidecar_secret.put(make_sidecar_certificate(secure.authority, in_days(-40)), secure.authority)
    async with running_feed(secure.feed_settings()) as feed, feed_only:
        await feed.log.submit(Submission([policy_event(POLICY)]))
        async with running_sidecar(secure.sidecar_settings(), boot_id="test") as sidecar:
            await wait_for_reason(sidecar, "OWN_CERTIFICATE_EXPIRED")
            assert sidecar.report().sync_state is SyncState.REFUSED
            assert "the certificate in feed.tls.cert_file has expired" in caplog.text
            await wait_for_text(caplog, "the own certificate is expired")
            secure.sidecar_secret.put(make_sidecar_certificate(secure.authority), secure.authority)
            assert await sidecar.cache.wait_for_size(1, 20)
            await wait_for_reason(sidecar, "")


async def test_feed_whose_certificate_has_expired_is_named_and_followed_once_it_is_renewed(
    secure: SecureInstallation, caplog: pytest.LogCaptureFixture
) -> None:
    secure.feed_secret.put(secure.authority.issue_server(clock=in_days(-40)), secure.authority)
    async with running_feed(secure.feed_settings()) as feed:
        await feed.log.submit(Submission([policy_event(POLICY)]))
        async with running_sidecar(secure.sidecar_settings(), boot_id="test") as sidecar:
            await wait_for_reason(sidecar, "FEED_UNTRUSTED")
            await wait_for_text(caplog, "the own certificate is expired")
            secure.feed_secret.put(secure.authority.issue_server(), secure.authority)
            assert await sidecar.cache.wait_for_size(1, 20)
    assert "the feed's certificate, or one that it leads to, has expired" in caplog.text
