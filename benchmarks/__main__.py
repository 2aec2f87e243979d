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

from benchmarks import catch_up, journal_verification, offline_verification, propagation, unary_check, verification
from benchmarks.installation import Running, running_installation
from benchmarks.machine import LOAD_CORES, describe_machine, pin

QUESTIONS: dict[str, Callable[[Running], dict[str, Any]]] = {
    "propagation": propagation.measure,
    "unary_check": unary_check.measure,
}
#: Those that set up what they need by themselves.
OWN_QUESTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "verification": verification.measure,
    "catch_up": catch_up.measure,
    "offline_verification": offline_verification.measure,
    "journal_verification": journal_verification.measure,
}
#: What is measured without a name: the million entries of the other one are built for minutes.
SHORT_SET = ("propagation", "unary_check", "verification", "catch_up")


def main() -> int:
    """Measure, print and keep; the exit code says nothing about the budgets, which move with the machine."""
    known = (*QUESTIONS, *OWN_QUESTIONS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help=f"one or more of {', '.join(known)}; default: {', '.join(SHORT_SET)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here as well")
    arguments = parser.parse_args()
    if unknown := set(arguments.name) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    pin(os.getpid(), LOAD_CORES)
    names = arguments.name or SHORT_SET
    measured = {}
    if asked := [name for name in names if name in QUESTIONS]:
        with running_installation() as running:
            measured = {name: QUESTIONS[name](running) for name in asked}
    measured |= {name: OWN_QUESTIONS[name]() for name in names if name in OWN_QUESTIONS}
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
    _add_log_rows(table, measured)
    console.print(table)


def _add_log_rows(table: Table, measured: dict[str, dict[str, Any]]) -> None:
    if cost := measured.get("verification"):
        table.add_row(
            "verifying an entry that came, processor time / hashing it alone",
            f"{cost['verified_us']:.1f} µs ({cost['verified_us_spread']}); {cost['ratio']:.1f} times {cost['hashed_us']:.1f} µs",
            f"≤ {verification.BUDGET_MICROSECONDS:.0f} µs",
        )
    if caught_up := measured.get("catch_up"):
        table.add_row(
            f"a sidecar catches up with {caught_up['entries']:,} entries",
            f"{caught_up['seconds']:.1f} s; {caught_up['sidecar_processor_seconds']:.1f} s of its processor time",
            f"≤ {catch_up.BUDGET_SECONDS:.0f} s",
        )
    if verified := measured.get("offline_verification"):
        table.add_row(
            f"verify-log of {verified['entries']:,} entries",
            f"{verified['seconds']:.1f} s; {verified['processor_seconds']:.1f} s of processor time",
            f"≤ {offline_verification.BUDGET_SECONDS:.0f} s",
        )
    for shape, audited in measured.get("journal_verification", {}).items():
        table.add_row(
            f"consentry-auditor verify of {audited['records']:,} records, {shape} in a frame",
            f"{audited['seconds']:.1f} s; {audited['processor_seconds']:.1f} s of processor time; {audited['mebibytes']:.0f} MiB",
            f"≤ {journal_verification.BUDGET_SECONDS:.0f} s, {journal_verification.BUDGET_MEBIBYTES:.0f} MiB",
        )


if __name__ == "__main__":
    sys.exit(main())
