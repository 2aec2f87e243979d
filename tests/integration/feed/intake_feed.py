"""A feed that takes requests in, on a Unix socket: the real log on disk, the real services, the real error boundary."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from consent.policy import format_policy
from consent.vocabulary.subject import Tokeniser
from feed.grpc_api.intake_service import IntakeService, intake_handler
from feed.grpc_api.policy_service import MAX_POLICY_MESSAGE_BYTES, FeedIdentity, PolicyService, policy_handler
from feed.grpc_api.progress import SidecarProgress
from feed.grpc_api.status import STATUSES
from feed.intake.receipts import ReceiptIssuer
from feed.intake.recorder import Recorder
from feed.intake.sources import Source
from feed.log_store.tree import LogTree
from feed.publish import Publisher
from feed.sequencer import SequencerLimits
from feed.tracing import Tracing
from hosting.grpc_errors import ErrorBoundary
from tests.fakes.feed_log import KEYS, LIMITS, ORIGIN, TENANT, OpenLog, open_log
from tests.unit.feed.intake.desk import WEB, approve, make_policy

SIDECARS = [SidecarProgress("checkout-1", 7, 1_767_000_000_000, connected=True), SidecarProgress("checkout-2")]
TOKENISER = Tokeniser((KEYS.subject_key,))


@dataclass(frozen=True)
class IntakeFeed:
    """A running feed.

    Attributes:
        log: Its log.
        channel: To its one listener, which serves intake and administration.
        server: To be stopped early.
    """

    log: OpenLog
    channel: grpc.aio.Channel
    server: grpc.aio.Server


@asynccontextmanager
async def running_intake(
    directory: Path,
    source: Source = WEB,
    *,
    publishes: bool = True,
    limits: SequencerLimits = LIMITS,
    tracing: Tracing | None = None,
) -> AsyncIterator[IntakeFeed]:
    """Runs a feed in a directory; its policy is that of the unit tests."""
    async with open_log(directory / "log", limits) as log:
        publisher = Publisher(log.sequencer, log.clock, ORIGIN, tracing)
        recorder = Recorder(log.sequencer, publisher, TOKENISER)
        receipts = ReceiptIssuer(log.sequencer, log.store, LogTree(log.store, lambda: log.sequencer.head))
        if publishes:
            policy = make_policy()
            approvals = approve(policy, ORIGIN)
            await publisher.publish_policy(format_policy(policy), "administrator", approvals=approvals)
        administration = PolicyService(
            publisher, log.sequencer, "administrator", FeedIdentity(TENANT, ORIGIN, "1.2.3"), _progress
        )
        server = grpc.aio.server(
            interceptors=(ErrorBoundary(STATUSES),),
            options=[("grpc.max_receive_message_length", MAX_POLICY_MESSAGE_BYTES + 1024)],
        )
        server.add_generic_rpc_handlers(
            [intake_handler(IntakeService(recorder, source, receipts, tracing)), policy_handler(administration)]
        )
        server.add_insecure_port(f"unix://{directory}/feed.sock")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(
                f"unix://{directory}/feed.sock", options=[("grpc.max_receive_message_length", -1)]
            ) as channel:
                yield IntakeFeed(log, channel, server)
        finally:
            await server.stop(None)


def _progress() -> Sequence[SidecarProgress]:
    return SIDECARS
