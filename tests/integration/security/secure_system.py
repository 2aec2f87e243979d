"""A feed and sidecars that meet over mutual TLS in this process, with certificates that can be replaced."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feed.config import FeedSettings
from hosting.development_ca import CertificateFiles
from sidecar.config import SidecarSettings
from sidecar.runtime import RunningSidecar
from tests.fakes.certificates import Authority, MountedSecret, make_authority
from tests.fakes.clock import FakeClock
from tests.fakes.installation import TestInstallation, install

TRUST_DOMAIN = "shop.example"
SIDECAR_ID = "sidecar-1"
PATIENCE_SECONDS = 20.0


def sidecar_uri(sidecar_id: str = SIDECAR_ID) -> str:
    """The name that a sidecar's certificate must have."""
    return f"spiffe://{TRUST_DOMAIN}/sidecar/{sidecar_id}"


@dataclass(frozen=True)
class SecureInstallation:
    """An installation whose feed listens on TCP.

    Attributes:
        installation: Keys, trust file, everything else.
        authority: Of all certificates at first.
        feed_secret: What the feed shows.
        sidecar_secret: What the sidecar shows.
        port: Where the feed listens.
    """

    installation: TestInstallation
    authority: Authority
    feed_secret: MountedSecret
    sidecar_secret: MountedSecret
    port: int

    def feed_settings(self, **changes: Any) -> FeedSettings:
        sync = {
            "address": f"127.0.0.1:{self.port}",
            "tls": self.feed_secret.settings,
            "trust_domain": TRUST_DOMAIN,
        }
        return self.installation.feed_settings(**{"sync": sync, **changes})

    def sidecar_settings(self, **changes: Any) -> SidecarSettings:
        feed = {
            "address": f"127.0.0.1:{self.port}",
            "tls": self.sidecar_secret.settings,
            "backoff_first_ms": 20,
            "backoff_most_ms": 200,
        }
        return self.installation.sidecar_settings(SIDECAR_ID, **{"feed": feed, **changes})


def make_sidecar_certificate(authority: Authority, clock: FakeClock | None = None) -> CertificateFiles:
    """A certificate with the sidecar's name, and this host's for its own listeners."""
    return authority.issue("sidecar", sidecar_uri(), ips=("127.0.0.1",), clock=clock)


def install_secure(directory: Path) -> SecureInstallation:
    """Everything of one authority, and valid."""
    installation = install(directory)
    authority = make_authority(directory / "authority")
    feed_secret, sidecar_secret = MountedSecret(directory / "feed-tls"), MountedSecret(directory / "sidecar-tls")
    feed_secret.put(authority.issue_server(), authority)
    sidecar_secret.put(make_sidecar_certificate(authority), authority)
    return SecureInstallation(installation, authority, feed_secret, sidecar_secret, find_free_port())


def find_free_port() -> int:
    """A port that nobody listens on; the feed is started again on the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_for_reason(sidecar: RunningSidecar, *reasons: str) -> str:
    """The follower says nothing when it changes its state, so this looks, until one of these is its last error."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sidecar.follower.last_error_reason not in reasons:
            await asyncio.sleep(0.005)
    return sidecar.follower.last_error_reason
