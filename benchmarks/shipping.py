"""How many decisions a second the shipper exports, one to a span and in batches: from a journal to a receiver that takes everything."""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.installation import free_port
from benchmarks.machine import LOAD_CORES, SERVER_CORES, median, pin, spread
from hosting.clock import SystemClock
from hosting.telemetry.exporter import build_exporter
from hosting.telemetry.resource import build_resource
from journal.format import JournalMode
from sidecar.journal.position import POSITION_FILE_NAME
from sidecar.journal.shipper import Shipper
from sidecar.journal.writer import FileJournal
from sidecar.sync.backoff import Backoff
from sidecar.telemetry.spans import project
from tests.e2e.processes import Program, clean_environment
from tests.fakes.journal_material import SealingKeys, make_record

ROUNDS: Final = 5
SINGLE_DECISIONS: Final = 10_000
BATCHES: Final = 60
BATCH_ITEMS: Final = 1_000
SHARE_OF_CORE: Final = 0.25
"""What the shipper may take of a core for the budgets."""
BUDGET_SINGLE: Final = 3_000
BUDGET_BATCHED: Final = 20_000
_DRAIN_SECONDS: Final = 120.0


class Round(NamedTuple):
    """One journal, shipped.

    Attributes:
        per_second: Decisions, by the clock.
        per_quarter_core: Decisions in a quarter of a second of processor time, which a busy machine changes less.
    """

    per_second: float
    per_quarter_core: float


def measure() -> dict[str, Any]:
    """Ship journals of single decisions and of batches, in this process, to a receiver in one of its own.

    Returns:
        Decisions a second and for a quarter of a core, medians and spreads, `single` and `batched`.
    """
    with tempfile.TemporaryDirectory(prefix="csty-shipping-") as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "benchmarks.span_sink", str(port)]
        with Program("sink", command, log_directory=folder, environ=clean_environment()).start() as sink:
            pin(sink.pid, LOAD_CORES)
            sink.wait_for_line("listening")
            pin(os.getpid(), SERVER_CORES)
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
            single = [_ship(folder / f"single-{at}", SINGLE_DECISIONS, 1, environ) for at in range(ROUNDS)]
            batched = [_ship(folder / f"batched-{at}", BATCHES, BATCH_ITEMS, environ) for at in range(ROUNDS)]
    return _describe("single", single) | _describe("batched", batched)


def _ship(directory: Path, calls: int, items: int, environ: dict[str, str]) -> Round:
    keys, clock = SealingKeys(), SystemClock()
    journal = FileJournal.open(directory, keys, "sidecar-1", JournalMode.GROUP, clock)
    for number in range(calls):
        journal.append_now(make_record(number, items), items)
    journal.close()
    resource = build_resource("sidecar-1", "0", environ)
    exporter = build_exporter(environ)
    position_path = directory / POSITION_FILE_NAME
    project_call = partial(project, resource=resource)
    shipper = Shipper(directory, keys, exporter, position_path, clock, project=project_call, delays=Backoff(0.2, 15))
    started, worked = time.perf_counter(), time.process_time()
    if not shipper.drain(_DRAIN_SECONDS):
        raise RuntimeError("the journal was not shipped in time")
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
    shipper.close()
    return Round(calls * items / seconds, SHARE_OF_CORE * calls * items / processor_seconds)


def _describe(name: str, rounds: list[Round]) -> dict[str, Any]:
    by_clock, by_core = zip(*rounds, strict=True)
    return {
        f"{name}_per_second": median(by_clock),
        f"{name}_per_quarter_core": median(by_core),
        f"{name}_per_quarter_core_spread": spread(by_core),
    }
