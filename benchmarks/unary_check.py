"""Unary Check, journal and traces on, beside a no-op handler of the same message shapes in the same run.

The load comes from Python and measures itself too, which brings the ratio closer to 1 than a native load tool would; it says what a
Python caller sees.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2

from benchmarks.installation import Running
from benchmarks.machine import SERVER_CORES, median, percentile, pin, spread
from tests.e2e.processes import Program, clean_environment

ROUNDS = 5
ROUND_SECONDS = 2.0
IN_FLIGHT = 32
BUDGET_RATIO = 0.80


class Load(NamedTuple):
    """One round."""

    checks_per_second: float
    p99_ms: float


def measure(running: Running) -> dict[str, Any]:
    """Load both servers by turns, several rounds, and compare the medians."""
    with tempfile.TemporaryDirectory(prefix="csty-noop-") as folder:
        address = f"unix://{folder}/noop.sock"
        command = [sys.executable, "-m", "benchmarks.noop_server", address]
        with Program("noop", command, log_directory=Path(folder), environ=clean_environment()).start() as noop:
            pin(noop.pid, SERVER_CORES)
            noop.wait_for_line("listening")
            rounds = asyncio.run(_take_turns(address, running.sidecar_address))
    noops, checks = zip(*rounds, strict=True)
    ratios = [check.checks_per_second / noop.checks_per_second for noop, check in rounds]
    return {
        "noop_per_second": median([load.checks_per_second for load in noops]),
        "check_per_second": median([load.checks_per_second for load in checks]),
        "noop_p99_ms": median([load.p99_ms for load in noops]),
        "check_p99_ms": median([load.p99_ms for load in checks]),
        "throughput_ratio": median(ratios),
        "throughput_ratio_spread": spread(ratios),
        "p99_ratio": median([check.p99_ms / noop.p99_ms for noop, check in rounds]),
    }


async def _take_turns(noop_address: str, sidecar_address: str) -> list[tuple[Load, Load]]:
    await load(noop_address, 0.5)
    await load(sidecar_address, 0.5)
    return [
        (await load(noop_address, ROUND_SECONDS), await load(sidecar_address, ROUND_SECONDS)) for _ in range(ROUNDS)
    ]


async def load(address: str, seconds: float) -> Load:
    """Ask as fast as `IN_FLIGHT` callers can."""
    latencies_ms: list[float] = []
    end = time.perf_counter() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)

        async def ask(worker: int) -> None:
            number = 0
            while (started := time.perf_counter()) < end:
                number += 1
                response = await stub.Check(_request(f"load-{worker}-{number % 1000}"))
                if response.effect != decision_pb2.EFFECT_ALLOW:
                    raise RuntimeError("the load's people are allowed")
                latencies_ms.append((time.perf_counter() - started) * 1000)

        await asyncio.gather(*(ask(worker) for worker in range(IN_FLIGHT)))
    latencies_ms.sort()
    return Load(len(latencies_ms) / seconds, percentile(latencies_ms, 0.99))


def _request(value: str) -> decision_pb2.CheckRequest:
    return decision_pb2.CheckRequest(
        subject=decision_pb2.Subject(identifiers=[event_pb2.Identifier(namespace="user", value=value)]),
        purposes=["direct_marketing"],
        context=decision_pb2.Context(jurisdictions=["US-CA"], age_band=event_pb2.AGE_BAND_ADULT),
    )
