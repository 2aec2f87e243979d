"""`python -m benchmarks [--json FILE]`: the short set, as a table and as JSON."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import propagation, unary_check
from benchmarks.installation import Running, running_installation
from benchmarks.machine import LOAD_CORES, describe_machine, pin

QUESTIONS: dict[str, Callable[[Running], dict[str, Any]]] = {
    "propagation": propagation.measure,
    "unary_check": unary_check.measure,
}


def main() -> int:
    """Measure, print and keep; the exit code says nothing about the budgets, which move with the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"one or more of {', '.join(QUESTIONS)}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here as well")
    arguments = parser.parse_args()
    if unknown := set(arguments.name) - set(QUESTIONS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    pin(os.getpid(), LOAD_CORES)
    with running_installation() as running:
        measured = {name: QUESTIONS[name](running) for name in arguments.name or QUESTIONS}
    machine = describe_machine()
    _print(machine, measured)
    if arguments.json is not None:
        arguments.json.write_text(f"{json.dumps({'machine': machine, **measured}, indent=1)}\n", encoding="utf-8")
    return 0


def _print(machine: dict[str, str], measured: dict[str, dict[str, Any]]) -> None:
    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    table = Table("what", "measured", "budget", title="Short benchmarks")
    if delays := measured.get("propagation"):
        table.add_row(
            f"opt-out accepted → denied at the sidecar ({propagation.OPT_OUTS} opt-outs)",
            f"p50 {delays['p50_ms']:.1f} ms, p99 {delays['p99_ms']:.1f} ms, longest {delays['max_ms']:.1f} ms",
            f"p99 ≤ {propagation.BUDGET_P99_MS:.0f} ms",
        )
    if load := measured.get("unary_check"):
        table.add_row(
            "unary Check, journal and traces on / no-op handler, throughput",
            f"{load['throughput_ratio']:.2f} ({load['throughput_ratio_spread']}): "
            f"{load['check_per_second']:.0f}/s of {load['noop_per_second']:.0f}/s",
            f"≥ {unary_check.BUDGET_RATIO:.2f}",
        )
        table.add_row(
            "the same, p99",
            f"{load['p99_ratio']:.2f}: {load['check_p99_ms']:.1f} ms of {load['noop_p99_ms']:.1f} ms",
            "≤ 1.30",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
