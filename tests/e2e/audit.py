"""Reads a feed's whole log as an outsider would, and believes nothing that is not proven."""

import asyncio
from dataclasses import dataclass

from consent.event import DirectiveEvent, Event, LinkEvent, PolicyEvent
from consent.eventlog.trust import Trust
from feed.setup import TRUST_DOMAIN
from hosting.certificates import OwnCertificate
from hosting.clock import SystemClock, read_boot_id
from hosting.development_ca import issue_certificate
from sidecar.bootstrap import load_trust
from sidecar.ports import EMPTY_HEAD, EntriesFrame
from sidecar.sync.feed_client import GrpcFeed
from sidecar.sync.freshness import observe
from sidecar.sync.trusted_log import TrustedLog
from tests.e2e.deployment import Deployment

NAME = "outsider"
_READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """Every entry, its place and content proven by signed checkpoints from the first on.

    Attributes:
        events: By sequence number, without a gap.
        root_hash: Of all of them.
    """

    events: dict[int, Event]
    root_hash: bytes

    def count(self, *kinds: type[Event]) -> int:
        """How many events of these kinds there are."""
        return sum(isinstance(event, kinds) for event in self.events.values())

    @property
    def requests(self) -> int:
        """How many events there are that somebody asked for and that change answers."""
        return self.count(DirectiveEvent, LinkEvent, PolicyEvent)


def read_verified_log(deployment: Deployment) -> VerifiedLog:
    """Follow a feed's log from its beginning to what it holds now, through the same door as a sidecar.

    Raises:
        SidecarError: It is not a log that the trust file vouches for: a gap, a change, a wrong signature.
        TimeoutError: The feed does not send all of it.
    """
    tls = deployment.site / "tls"
    files = issue_certificate(tls, NAME, san_uris=[f"spiffe://{TRUST_DOMAIN}/sidecar/{NAME}"])
    trust = load_trust(deployment.site / "trust" / "trust.note", deployment.site / "trust" / "root.pub")
    certificate = OwnCertificate(files.cert_file, files.key_file, tls / "ca.pem")
    size = deployment.feed_status().log_size

    async def read() -> VerifiedLog:
        feed = GrpcFeed(f"127.0.0.1:{deployment.port}", certificate, NAME)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await _read(feed, trust, size)
        finally:
            await feed.close()

    return asyncio.run(read())


async def _read(feed: GrpcFeed, trust: Trust, size: int) -> VerifiedLog:
    trusted, events, root_hash = TrustedLog(trust, EMPTY_HEAD), dict[int, Event](), b""
    async for frame in feed.subscribe(EMPTY_HEAD, 0).frames():
        if isinstance(frame, EntriesFrame):
            batch = trusted.receive_entries(frame, observe(SystemClock(), read_boot_id()))
            if batch is not None:
                events |= {logged.seq: logged.event for logged in batch.events}
                trusted.advance(batch.head)
                root_hash = batch.head.frontier.root_hash()
        if len(events) >= size:
            break
    assert list(events) == list(range(1, len(events) + 1))
    return VerifiedLog(events, root_hash)
