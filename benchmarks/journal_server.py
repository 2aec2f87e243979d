"""A sidecar with one address more, at which nothing is recorded: what the journal costs is the difference.

Such a journal exists here only. Both addresses are served by one process from one cache.
"""

import asyncio
import sys
from pathlib import Path

from hosting.clock import SystemClock, read_boot_id
from hosting.processes import collect_rarely
from hosting.settings import load_settings
from sidecar.check import Checker
from sidecar.config import ENV_PREFIX, SidecarSettings
from sidecar.grpc_api.decision_service import CallerDirectory, DecisionService, decision_handler
from sidecar.grpc_api.server import Health, build_server
from sidecar.runtime import RunningSidecar, running_sidecar
from sidecar.sync.feed_client import GrpcFeed
from sidecar.sync.trusted_log import TrustedLog


class NoJournal:
    """Keeps nothing."""

    backlog_records = 0

    async def append(self, record: bytes, decisions: int) -> None:
        """Forget it."""

    def count_answered(self, decisions: int) -> None:
        """Forget it."""


async def serve(settings: SidecarSettings, address: str) -> None:
    """Serve until killed."""
    collect_rarely()
    async with running_sidecar(settings) as running:
        while not running.is_ready():  # noqa: ASYNC110 - readiness is no event
            await asyncio.sleep(0.05)
        server = build_server([decision_handler(_unrecorded(running))], Health(), reflect=False)
        server.add_insecure_port(address)
        await server.start()
        print("listening", flush=True)
        await server.wait_for_termination()


def _unrecorded(running: RunningSidecar) -> DecisionService:
    clock, origin, settings = SystemClock(), running.trust.origin, running.settings
    callers = {caller.identity: caller.to_caller() for caller in settings.listeners[0].callers}
    # Never asked for a proof, so it never connects.
    feed = GrpcFeed("unix:///nowhere.sock", None, settings.sidecar_id, "")
    checker = Checker(running.cache, NoJournal(), clock, read_boot_id(), origin)
    trusted = TrustedLog(running.trust, running.cache.head)
    directory = CallerDirectory(callers)
    return DecisionService(checker, directory, running.cache, trusted, feed, clock, running.report, origin)


if __name__ == "__main__":
    loaded = load_settings(SidecarSettings, file=Path(sys.argv[1]), env_prefix=ENV_PREFIX, environ={})
    asyncio.run(serve(loaded, sys.argv[2]))
