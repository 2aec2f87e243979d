"""What the decision record costs in mode `group`: an append by itself, and unary Check with it beside Check without it, in one run."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.installation import free_port, program, run_feed
from benchmarks.machine import LOAD_CORES, SERVER_CORES, median, pin, processor_seconds, spread
from benchmarks.unary_check import load
from feed.setup import APPROVERS
from hosting.clock import SystemClock
from hosting.processes import collect_rarely
from journal.format import JournalMode
from sidecar.journal.writer import FileJournal
from tests.e2e.processes import Program, clean_environment
from tests.fakes.journal_chains import SIDECAR_ID, make_plan
from tests.fakes.journal_material import SealingKeys, make_record

APPENDS = 5_000
APPEND_ROUNDS = 9
CHECK_ROUNDS = 7
CHECK_SECONDS = 1.5
BUDGET_MICROSECONDS = 10.0
BUDGET_P99_RATIO = 1.15


class _Turn(NamedTuple):
    """One load: what callers saw, and the server's processor time for each check, all its threads together."""

    checks_per_second: float
    p99_ms: float
    processor_us: float


def measure() -> dict[str, Any]:
    """Both questions, one after the other.

    Returns:
        Medians: microseconds of an append, by the clock and of the processor time of the thread that checks; p99 of Check in ms.
        What a check costs the server in processor time is told too: a busy machine does not change that much.
    """
    return _measure_appends() | _measure_checks()


def _measure_appends() -> dict[str, Any]:
    collect_rarely()
    record = make_record(1)
    with tempfile.TemporaryDirectory(prefix="csty-journal-") as folder:
        directory = Path(folder) / "journal"
        plan = make_plan(directory, head_seconds=1.0)
        journal = FileJournal.open(directory, SealingKeys(), SIDECAR_ID, JournalMode.GROUP, SystemClock(), plan=plan)
        rounds = [_append(journal, record) for _ in range(APPEND_ROUNDS)]
        journal.close()
    clock_us, processor_us = zip(*rounds, strict=True)
    return {
        "append_us": median(clock_us),
        "append_us_spread": spread(clock_us),
        "append_processor_us": median(processor_us),
        "append_processor_us_spread": spread(processor_us),
    }


def _append(journal: FileJournal, record: bytes) -> tuple[float, float]:
    started, started_processor = time.perf_counter(), time.thread_time()
    for _ in range(APPENDS):
        journal.append_now(record, 1)
        journal.count_answered(1)
    spent = time.perf_counter() - started, time.thread_time() - started_processor
    # As under a load that leaves the disk its time.
    journal.flush()
    return spent[0] / APPENDS * 1e6, spent[1] / APPENDS * 1e6


def _measure_checks() -> dict[str, Any]:
    with _running_server() as (server_pid, recorded_address, unrecorded_address):
        rounds = asyncio.run(_take_turns(server_pid, recorded_address, unrecorded_address))
    recorded, unrecorded = zip(*rounds, strict=True)
    p99_ratios = [on.p99_ms / off.p99_ms for on, off in rounds]
    throughput_ratios = [on.checks_per_second / off.checks_per_second for on, off in rounds]
    return {
        "recorded_p99_ms": median([each.p99_ms for each in recorded]),
        "unrecorded_p99_ms": median([each.p99_ms for each in unrecorded]),
        "p99_ratio": median(p99_ratios),
        "p99_ratio_spread": spread(p99_ratios),
        "recorded_processor_us": median([each.processor_us for each in recorded]),
        "unrecorded_processor_us": median([each.processor_us for each in unrecorded]),
        "throughput_ratio": median(throughput_ratios),
        "throughput_ratio_spread": spread(throughput_ratios),
    }


async def _take_turns(server_pid: int, recorded_address: str, unrecorded_address: str) -> list[tuple[_Turn, _Turn]]:
    async def ask(address: str) -> _Turn:
        before = processor_seconds(server_pid)
        asked = await load(address, CHECK_SECONDS)
        spent_seconds = processor_seconds(server_pid) - before
        processor_us = spent_seconds / (asked.checks_per_second * CHECK_SECONDS) * 1e6
        return _Turn(asked.checks_per_second, asked.p99_ms, processor_us)

    await load(recorded_address, 0.5)
    await load(unrecorded_address, 0.5)
    rounds = []
    for number in range(CHECK_ROUNDS):
        # Whichever goes first has the other's disk writes behind it, so they take turns at that too.
        if number % 2:
            off, on = await ask(unrecorded_address), await ask(recorded_address)
        else:
            on, off = await ask(recorded_address), await ask(unrecorded_address)
        rounds.append((on, off))
    return rounds


@contextmanager
def _running_server() -> Iterator[tuple[int, str, str]]:
    """A feed, and one sidecar with two addresses, of which the first records; its process id, and both."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csty-bench-")))
        home, environ = folder / "home", clean_environment()
        run_feed("init", home, "--port", str(free_port()), environ=environ)
        feed_settings = home / "feed" / "feed.yaml"
        feed = program("feed", "consentry-feed", feed_settings, folder, environ)
        stack.enter_context(feed.start())
        pin(feed.pid, LOAD_CORES)
        feed.wait_for_line("listening")
        approvals = [word for name in APPROVERS for word in ("--sign-with", home / "trust" / f"{name}.key")]
        run_feed("policy", "publish", "default", *approvals, "-c", feed_settings, environ=environ)
        unrecorded_address = f"unix://{folder}/unrecorded.sock"
        command = [sys.executable, "-m", "benchmarks.journal_server", str(home / "sidecar" / "sidecar.yaml")]
        server = Program("sidecar", [*command, unrecorded_address], log_directory=folder, environ=environ)
        stack.enter_context(server.start())
        pin(server.pid, SERVER_CORES)
        server.wait_for_line("listening")
        yield server.pid, f"unix://{home}/run/sidecar.sock", unrecorded_address
