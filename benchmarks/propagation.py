"""How long from an opt-out's acceptance until the sidecar denies."""

import time
from typing import Any

from consentry_client import Client, Context, IntakeClient, user
from rich.progress import track

from benchmarks.installation import Running
from benchmarks.machine import percentile

OPT_OUTS = 300
BUDGET_P99_MS = 250.0
PURPOSE = "direct_marketing"


def measure(running: Running) -> dict[str, Any]:
    """Opt people out one by one and ask, without a pause, until the answer is DENY.

    Returns:
        Milliseconds from the moment the acceptance was received: p50, p99 and the longest.
    """
    context = Context(jurisdictions=("US-CA",))
    delays_ms = []
    with (
        Client(running.sidecar_address, default_context=context, timeout_seconds=5) as client,
        IntakeClient(running.intake_address) as intake,
    ):
        for number in track(range(OPT_OUTS), "opt-outs", transient=True):
            person = user(f"bench-{number}")
            before = client.check(person, PURPOSE)
            if not before:
                raise RuntimeError(f"a person is denied before opting out: {before.reason}")
            intake.opt_out(person, PURPOSE)
            accepted = time.perf_counter()
            while client.check(person, PURPOSE):
                pass
            delays_ms.append((time.perf_counter() - accepted) * 1000)
    delays_ms.sort()
    return {"p50_ms": percentile(delays_ms, 0.5), "p99_ms": percentile(delays_ms, 0.99), "max_ms": delays_ms[-1]}
