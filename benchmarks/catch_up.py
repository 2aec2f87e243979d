"""How long a sidecar takes to verify, keep and put in force 100,000 entries that it missed."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.installation import free_port, program, run_feed
from benchmarks.log_material import build_log
from benchmarks.machine import LOAD_CORES, SERVER_CORES, pin
from feed.setup import Installation, set_up
from feed.signing.key_store import load_keys
from hosting.processes import collect_rarely
from hosting.settings import load_settings
from sidecar.config import ENV_PREFIX, SidecarSettings
from sidecar.runtime import running_sidecar
from tests.e2e.processes import clean_environment

ENTRIES = 100_000
BUDGET_SECONDS = 3.0
TENANT, ORIGIN = "demo", "consent.example/log"


def measure() -> dict[str, Any]:
    """Let a new sidecar, in this process, catch up with a feed in a process of its own, over mutual TLS.

    Returns:
        Seconds by the clock from the sidecar's start until everything is in force and durable; seconds of its processor time.
    """
    # As `consentry-sidecar serve` does it.
    collect_rarely()
    with tempfile.TemporaryDirectory(prefix="csty-catch-up-") as folder:
        home, environ = Path(folder) / "home", clean_environment()
        set_up(Installation(home, TENANT, ORIGIN, "sidecar-1", free_port()))
        build_log(
            home / "feed" / "log", ENTRIES, load_keys(home / "feed" / "keys", ORIGIN), tenant=TENANT, origin=ORIGIN
        )
        # The log was not written by a feed, so that nothing outside of it says how far it is.
        run_feed("accept-log", "--yes", "-c", home / "feed" / "feed.yaml", environ=environ)
        feed = program("feed", "consentry-feed", home / "feed" / "feed.yaml", Path(folder), environ)
        with feed.start():
            pin(feed.pid, LOAD_CORES)
            feed.wait_for_line("listening")
            pin(os.getpid(), SERVER_CORES)
            settings = load_settings(
                SidecarSettings, file=home / "sidecar" / "sidecar.yaml", env_prefix=ENV_PREFIX, environ={}
            )
            return asyncio.run(_catch_up(settings))


async def _catch_up(settings: SidecarSettings) -> dict[str, Any]:
    started, worked = time.perf_counter(), time.process_time()
    async with running_sidecar(settings) as sidecar:
        if not await sidecar.cache.wait_for_size(ENTRIES, 120):
            raise RuntimeError(f"the sidecar did not catch up: {sidecar.follower.last_error_reason}")
        return {
            "entries": ENTRIES,
            "seconds": time.perf_counter() - started,
            "sidecar_processor_seconds": time.process_time() - worked,
        }
