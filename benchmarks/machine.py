"""Where a figure was measured, and how it is told."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

SERVER_CORES = frozenset({0})
LOAD_CORES = frozenset({1})


def describe_machine() -> dict[str, str]:
    """Processor, cores, kernel and the versions that figures depend on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "cryptography": version("cryptography"),
        "consentry": version("consentry"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def pin(process_id: int, cores: frozenset[int]) -> None:
    """Keep a process on some cores; on a machine with one core, everything shares it."""
    available = os.sched_getaffinity(process_id)
    os.sched_setaffinity(process_id, (cores & available) or available)


def processor_seconds(process_id: int) -> float:
    """Processor time that a process has taken so far, all its threads together (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies (nearest rank)."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def spread(values: Sequence[float]) -> str:
    """Least to greatest."""
    return f"{min(values):.3g} – {max(values):.3g}"


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)
