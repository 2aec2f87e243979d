"""What becomes of decisions while the span receiver is away: asked for at a steady rate, answered, and then looked for at the receiver.

    python -m tests.e2e.outage --seconds 720 --away-seconds 600 --per-second 500

prints the figures and exits with 1 where a decision that was answered is missing, or a repeated span is not the one it repeats.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from consentry_client import Client

from tests.e2e.deployment import Deployment, short_folder
from tests.e2e.people import SITUATION, make_person
from tests.e2e.processes import wait_until

POLICY_FILE = Path(__file__).with_name("policy.yaml")
ASKERS = 4
PURPOSE = "newsletter"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how much.

    Attributes:
        seconds: Of asking.
        away_seconds: How much of it, in its middle, the receiver is away.
        per_second: Questions.
    """

    seconds: float
    away_seconds: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Report:
    """What came out.

    Attributes:
        answered: Decisions.
        asked_seconds: How long that took.
        backlog: Decisions that waited when the receiver came back.
        received: Decisions of those answered that the receiver has.
        missing: Those that it has not.
        repeated: Spans that came again.
        differing: Of these, how many are not the same as before.
        first_seconds: From the receiver's return until it got the first span.
        caught_up_seconds: From the receiver's return until it had everything.
    """

    answered: int
    asked_seconds: float
    backlog: int
    received: int
    missing: int
    repeated: int
    differing: int
    first_seconds: float
    caught_up_seconds: float


class Askers:
    """Threads that ask at a rate together, until their time is over, and keep the id of every decision that was answered."""

    def __init__(self, deployment: Deployment, plan: Plan) -> None:
        self._deployment = deployment
        self._plan = plan
        self._pause = threading.Event()
        self._pool = ThreadPoolExecutor(ASKERS)
        self._work = [self._pool.submit(self._ask) for _ in range(ASKERS)]

    def finish(self) -> set[str]:
        """The decisions."""
        ids = set[str]().union(*(each.result() for each in self._work))
        self._pool.shutdown()
        return ids

    def _ask(self) -> set[str]:
        ids, person = set[str](), make_person()
        started, step_seconds = time.monotonic(), ASKERS / self._plan.per_second
        with self._deployment.client() as client:
            asked = 0
            while (now := time.monotonic()) < started + self._plan.seconds:
                decision_id = _ask_once(client, person)
                ids |= {decision_id} if decision_id else set()
                asked += 1
                self._pause.wait(max(0.0, started + asked * step_seconds - now))
        return ids


def _ask_once(client: Client, person: Any) -> str:
    """The id of a decision, empty where there was no answer."""
    decision = client.check(person, PURPOSE, context=SITUATION)
    return str(decision.decision_id) if decision.decision_id else ""


def run_outage(deployment: Deployment, plan: Plan) -> Report:
    """Ask, take the receiver away, bring it back, and wait until it has everything.

    Args:
        deployment: Runs, with a policy in force.
        plan: How long.

    Raises:
        ProgramError: The receiver does not get everything in a time as long as it was away.
    """
    pause, started = threading.Event(), time.monotonic()
    askers = Askers(deployment, plan)
    pause.wait((plan.seconds - plan.away_seconds) / 2)
    deployment.receiver.stop()
    pause.wait(plan.away_seconds)
    with deployment.client() as client:
        backlog = client.status().journal_backlog_records
    received = Received(deployment.spans_path)
    received.read()
    before = received.spans
    deployment.start_receiver()
    back = time.monotonic()
    first_seconds = wait_until(lambda: received.read() > before, "the receiver gets spans again", 60)
    answered = askers.finish()
    asked_seconds = time.monotonic() - started
    patience_seconds = 60 + plan.away_seconds
    wait_until(lambda: bool(received.read() and answered <= received.ids), "every decision has come", patience_seconds)
    return Report(
        answered=len(answered),
        asked_seconds=round(asked_seconds, 1),
        backlog=backlog,
        received=len(answered & received.ids),
        missing=len(answered - received.ids),
        repeated=received.repeated,
        differing=received.differing,
        first_seconds=round(first_seconds, 1),
        caught_up_seconds=round(time.monotonic() - back, 1),
    )


class Received:
    """What the receiver has written down, read as it grows.

    Args:
        path: The receiver's file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self._digests = dict[str, int]()
        self.ids = set[str]()
        self.spans = self.repeated = self.differing = 0

    def read(self) -> int:
        """Take in what is new; returns how many spans there are."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            span = json.loads(line)
            name, digest = span["trace_id"] + span["span_id"], hash(line)
            self.spans += 1
            if name in self._digests:
                self.repeated += 1
                self.differing += self._digests[name] != digest
            self._digests[name] = digest
            if span["name"].startswith("consent.check"):
                self.ids.add(span["attributes"]["consent.decision.id"])
        return self.spans


@contextmanager
def running_deployment() -> Iterator[Deployment]:
    """A deployment of its own, ready to be asked."""
    with short_folder("outage") as folder, Deployment(folder) as deployment:
        deployment.set_up()
        for program in deployment.programs:
            program.start()
        deployment.feed.wait_for_line(" listening ")
        deployment.publish(POLICY_FILE)
        deployment.sidecar.wait_for_line(" listening ")
        deployment.wait_until_ready()
        yield deployment


def main() -> int:
    """Run it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=720)
    parser.add_argument("--away-seconds", type=float, default=600)
    parser.add_argument("--per-second", type=float, default=500)
    options = parser.parse_args()
    with running_deployment() as deployment:
        report = run_outage(deployment, Plan(options.seconds, options.away_seconds, options.per_second))
    print(json.dumps(asdict(report), indent=1))
    return 1 if report.missing or report.differing else 0


if __name__ == "__main__":
    sys.exit(main())
