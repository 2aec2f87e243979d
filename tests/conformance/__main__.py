"""`python -m tests.conformance [FILE]`: a vector file through the pure function, then through a real feed and sidecar."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from consent.policy import PolicyError
from tests.conformance import pure, real
from tests.conformance.cases import load_cases

_MOST_SHOWN = 50


def main() -> int:
    """Run the file; returns 0 if every case passed both ways, 1 if one failed, 2 if the file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    shared = Path(os.environ.get("CONSENTRY_SHARED", "../shared"))
    parser.add_argument("file", nargs="?", type=Path, default=shared / "vectors" / "decision.json", help="vector file")
    path = parser.parse_args().file
    try:
        policy, cases = load_cases(path)
    except (OSError, ValueError, KeyError, PolicyError) as error:
        print(f"{path}: cannot be read as a vector file: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    # A sidecar that is not meant to reach a feed says so; the report is on standard output.
    logging.getLogger("sidecar").setLevel(logging.ERROR)
    failed = _report("pure", len(cases), pure.run(policy, cases))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("feed and sidecar", total=len(cases))
        failures = asyncio.run(real.run(policy, cases, lambda: progress.advance(task)))
    failed += _report("sidecar", len(cases), failures)
    return 1 if failed else 0


def _report(way: str, total: int, failures: list[str]) -> int:
    for line in failures[:_MOST_SHOWN]:
        print(f"  {way}: {line}", file=sys.stderr)
    print(f"{way}: {total - len(failures)} passed, {len(failures)} failed", flush=True)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
