"""`python -m tests.e2e.demo`, which is `make demo`."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from tests.e2e.demo import auditing, choices, evidence, outage
from tests.e2e.demo.report import Line, Report
from tests.e2e.demo.stage import Stage, Step
from tests.e2e.deployment import short_folder

STEPS: tuple[tuple[str, Callable[[Stage], Step]], ...] = (
    ("Feed, sidecar and span receiver are up", choices.start),
    ("A policy is published", choices.publish_policy),
    ("A suppression file is imported", choices.import_suppressions),
    ("A person consents: allowed", choices.allow),
    ("The person opts out: accepted", choices.opt_out),
    ("The same question: denied", choices.deny),
    ("An opt-out of a parent purpose covers its children", choices.opt_out_of_parent),
    ("A second identifier is linked: denied too", choices.link),
    ("Why: the rules, the entry and its proof", choices.explain),
    ("The feed is killed: answers go on", outage.lose_the_feed),
    ("The staleness limit passes: denied", outage.grow_stale),
    ("The sidecar is killed and started without the feed: same answers", outage.restart_the_sidecar),
    ("The feed is back: caught up", outage.bring_the_feed_back),
    ("The trace of a decision, as received", evidence.show_trace),
    ("The way of the opt-out, in one trace", evidence.show_way),
    ("An auditor checks all of it, trusting nobody", auditing.audit),
    ("A search for every identifier, everywhere", evidence.search_everything),
)


class Stopped(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Run all steps; returns 0 if all hold, 1 if one does not, 128 and the signal's number after a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs, cache and journal")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    report = Report()
    try:
        with short_folder("demo", keep=options.keep) as folder:
            report.say(f"Everything is in {folder}{', which is kept' if options.keep else ' until the end'}")
            stage = Stage(folder)
            with stage.resources:
                return _run(stage, report)
    except Stopped as stopped:
        report.say(f"Stopped by {signal.Signals(stopped.number).name}; nothing is left running")
        return 128 + stopped.number


def _run(stage: Stage, report: Report) -> int:
    started = time.monotonic()
    is_passed = all(_take(number, title, step, stage, report) for number, (title, step) in enumerate(STEPS, start=1))
    if not is_passed:
        for program in stage.deployment.programs:
            report.show_log(program.log_path.name, program.tail)
    report.show_summary(stage.figures, time.monotonic() - started, len(STEPS))
    return 0 if is_passed else 1


def _take(number: int, title: str, step: Callable[[Stage], Step], stage: Stage, report: Report) -> bool:
    started = time.perf_counter()
    problem = ""
    shown = Step()
    try:
        with report.running(number, title):
            shown = step(stage)
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, the step has failed
        problem = f"{type(error).__name__}: {error}"
    elapsed_ms = (time.perf_counter() - started) * 1000
    report.show_step(Line(number, title, elapsed_ms, not problem), [problem] if problem else shown.facts, shown.table)
    return not problem


def _stop(number: int, frame: FrameType | None) -> None:
    # What follows is the end; a second signal must not cut it short.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
