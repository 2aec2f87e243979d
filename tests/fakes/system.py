"""A real feed and a real sidecar in this process, over Unix sockets: what integration tests ask."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2

from consent.event import DirectiveEvent, Event, PolicyEvent
from consent.policy import Policy, format_policy
from consent.vocabulary.subject import Tokeniser
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import load_keys
from hosting.clock import Clock
from hosting.management import Management
from sidecar.config import SidecarSettings
from sidecar.runtime import RunningSidecar, running_sidecar
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TestInstallation, install

SYNC_SECONDS = 20.0


def ask(
    value: str = "ada", purpose: str | list[str] = "left", *, namespace: str = "user", jurisdiction: str = "US-CA"
) -> decision_pb2.CheckRequest:
    """A question about one identifier."""
    return decision_pb2.CheckRequest(
        subject=decision_pb2.Subject(identifiers=[event_pb2.Identifier(namespace=namespace, value=value)]),
        purposes=[purpose] if isinstance(purpose, str) else purpose,
        context=decision_pb2.Context(jurisdictions=[jurisdiction], age_band=event_pb2.AGE_BAND_ADULT),
    )


def reason_of(response: decision_pb2.CheckResponse) -> str:
    """The reason's short name."""
    return decision_pb2.Reason.Name(response.reason).removeprefix("REASON_")


@dataclass(slots=True)
class System:
    """What runs."""

    installation: TestInstallation
    feed: RunningFeed
    sidecar: RunningSidecar
    settings: SidecarSettings
    tokeniser: Tokeniser

    async def log(self, *events: Event) -> int:
        """Log events and wait until the sidecar has them in force; returns the seq of the last."""
        accepted = await self.feed.log.submit(self.installation.signers.submit(events))
        await self.catch_up()
        return accepted.seq

    async def catch_up(self) -> None:
        """Wait until the sidecar holds the whole log, and the keys."""
        assert await self.sidecar.cache.wait_for_size(self.feed.log.head.size, SYNC_SECONDS)
        async with asyncio.timeout(SYNC_SECONDS):
            while self.sidecar.cache.key_ring is None:
                await asyncio.sleep(0.005)

    def opt_out(self, value: str = "ada", purpose: str = "*", **changes: Any) -> DirectiveEvent:
        """A denial of a `user` identifier."""
        fields: dict[str, Any] = {
            "kind": 2,
            "occurred_at_ms": 1_700_000_000_000,
            "purpose": purpose,
            "assurance": 1,
        } | changes
        return DirectiveEvent(origin=ORIGIN, token=self.tokeniser.token("user", value), **fields)

    @asynccontextmanager
    async def stub(self, caller: str = "app") -> AsyncIterator["decision_pb2_grpc.ConsentDecisionServiceAsyncStub"]:
        """A client at the listener of a caller."""
        async with grpc.aio.insecure_channel(self.installation.socket(f"sidecar-1-{caller}")) as channel:
            yield decision_pb2_grpc.ConsentDecisionServiceStub(channel)


@asynccontextmanager
async def running_system(
    directory: Path,
    *,
    policy: Policy | None = POLICY,
    clock: Clock | None = None,
    feed_changes: dict[str, Any] | None = None,
    sidecar_changes: dict[str, Any] | None = None,
    feed_lifetime: AsyncExitStack | None = None,
    management: Management | None = None,
    feed_management: Management | None = None,
) -> AsyncIterator[System]:
    """Start a feed with a policy, and a sidecar that has caught up with it.

    Args:
        directory: Short.
        policy: The first one, None for none.
        clock: Of both.
        feed_changes: Settings of the feed.
        sidecar_changes: Settings of the sidecar.
        feed_lifetime: Ends the feed before the sidecar, if it is closed first.
        management: Of the sidecar, started and stopped by whoever passes it.
        feed_management: Of the feed, in the same way.
    """
    installation = install(directory)
    tokeniser = Tokeniser([load_keys(directory / "keys", ORIGIN).subject_key])
    settings = installation.sidecar_settings(**(sidecar_changes or {}))
    async with feed_lifetime or AsyncExitStack() as feed_stack:
        feed = await feed_stack.enter_async_context(
            running_feed(installation.feed_settings(**(feed_changes or {})), clock=clock, management=feed_management)
        )
        if policy is not None:
            await feed.log.submit(installation.signers.submit([policy_event(policy)]))
        async with running_sidecar(settings, clock=clock, boot_id="test", management=management) as sidecar:
            system = System(installation, feed, sidecar, settings, tokeniser)
            await system.catch_up()
            yield system


def policy_event(policy: Policy) -> PolicyEvent:
    """The event that publishes a policy."""
    return PolicyEvent(
        origin=ORIGIN, version=policy.version, replaces_version=policy.replaces_version, document=format_policy(policy)
    )
