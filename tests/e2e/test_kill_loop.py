"""kill -9 of feed and sidecar at random moments, again and again, while people opt out and services ask.

Nothing acknowledged is lost, and no answer is wrong: once an opt-out was seen in force, or is asked for by its consistency token, nobody
is told ALLOW. What a question without a token may be told before that is the older choice, within the staleness limit.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from consentry_client import ConsistencyToken, Decision, Identifier

from consent.event import DirectiveEvent
from tests.e2e.audit import read_verified_log
from tests.e2e.deployment import Deployment, change_settings, short_folder
from tests.e2e.people import SITUATION, make_person
from tests.e2e.processes import wait_until

POLICY_FILE = Path(__file__).with_name("policy.yaml")
KILLS = 60
KILLS_BETWEEN_AUDITS = 10
WRITERS, READERS = 2, 2
# A pause of each writer and reader, so that two processors have time left for those that start anew.
PAUSE_SECONDS = 0.02
PURPOSE = "newsletter"
OPTED_OUT = "OPT_OUT"


@dataclass(slots=True)
class OptOut:
    """An opt-out that the feed has acknowledged.

    Attributes:
        person: Whose.
        token: From the acknowledgement.
        is_seen: Whether the sidecar has denied because of it.
    """

    person: Identifier
    token: ConsistencyToken
    is_seen: bool = False


class Load:
    """Writers and readers that work until `stop`, whatever happens to the programs; a wrong answer ends it.

    Args:
        deployment: Runs, with a policy.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(WRITERS + READERS)
        self._tasks: list[Future[None]] = []
        self.opt_outs: list[OptOut] = []
        self.answers: Counter[str] = Counter()

    def start(self) -> None:
        work: list[Callable[[], None]] = [self._write] * WRITERS + [self._read] * READERS
        self._tasks = [self._pool.submit(each) for each in work]

    def check(self) -> None:
        """Raise what has ended a writer or a reader."""
        for task in self._tasks:
            if task.done():
                task.result()

    def stop(self) -> None:
        self._stopped.set()
        self._pool.shutdown()

    def _write(self) -> None:
        with self._deployment.patient_intake("intake-web") as intake:
            while not self._stopped.wait(PAUSE_SECONDS):
                person = make_person()
                self.opt_outs.append(OptOut(person, intake.opt_out(person, PURPOSE).token))

    def _read(self) -> None:
        chance = random.Random()
        with self._deployment.client() as client:
            while not self._stopped.wait(PAUSE_SECONDS):
                self._note(client.check(make_person(), PURPOSE, context=SITUATION), is_known=False)
                if not self.opt_outs:
                    continue
                # The newest are those that a crash could take away.
                recent = self.opt_outs[-50:]
                opt_out = chance.choice(recent if chance.random() < 0.7 else self.opt_outs)
                is_settled = opt_out.is_seen
                token = opt_out.token if chance.random() < 0.5 else None
                decision = client.check(opt_out.person, PURPOSE, context=SITUATION, min_token=token, wait_seconds=0.2)
                self._note(decision, is_known=True)
                if token is not None or is_settled:
                    assert not decision, f"ALLOW after an acknowledged opt-out: {decision}"
                if decision.reason == OPTED_OUT:
                    assert decision.deciding_seq == opt_out.token.seq, decision
                    opt_out.is_seen = True

    def _note(self, decision: Decision, *, is_known: bool) -> None:
        assert is_known or decision.reason != OPTED_OUT, f"denied for somebody who has said nothing: {decision}"
        self.answers["failed" if decision.failed else str(decision.effect)] += 1


@pytest.fixture
def fresh() -> Iterator[Deployment]:
    """A deployment of its own, with a policy."""
    with short_folder("loop") as folder, Deployment(folder) as running:
        running.set_up()
        change_settings(running.feed_settings, {"event_log.resign_seconds": 0.5})
        change_settings(running.sidecar_settings, {"feed.backoff_most_ms": 300})
        for program in running.programs:
            program.start()
        running.feed.wait_for_line(" listening ")
        running.publish(POLICY_FILE)
        running.sidecar.wait_for_line(" listening ")
        running.wait_until_caught_up()
        yield running


@pytest.mark.long(seconds=240)
def test_kills_at_random_moments_under_load_lose_nothing_and_answer_nothing_wrong(fresh: Deployment) -> None:
    chance = random.Random()
    kills: Counter[str] = Counter()
    load = Load(fresh)
    load.start()
    try:
        while kills.total() < KILLS:
            victims = chance.choice(([fresh.feed], [fresh.sidecar], [fresh.feed, fresh.sidecar]))
            threading.Event().wait(chance.uniform(0, 0.5))
            for program in victims:
                program.kill()
                kills[program.name] += 1
            for program in victims:
                program.start()
            # Half of them are killed again before or while they take up what the last kill has left.
            if chance.random() < 0.5:
                threading.Event().wait(chance.uniform(0.2, 1.5))
                for program in victims:
                    program.kill()
                    kills[program.name] += 1
                    program.start()
            for program in victims:
                program.wait_for_line(" listening ")
            load.check()
            if kills.total() % KILLS_BETWEEN_AUDITS < len(victims):
                audit(fresh, load.opt_outs[:])
    finally:
        load.stop()
    load.check()
    seen = audit(fresh, load.opt_outs)
    print(
        f"kills: {dict(kills)}, in all {kills.total()}; opt-outs {seen}, lost 0; answers: {dict(load.answers)}, wrong 0"
    )
    assert min(kills["feed"], kills["sidecar"]) >= KILLS // 4
    assert load.answers["ALLOW"] > 0
    assert [program.stop() for program in fresh.programs] == [0, 0, 0]


def audit(deployment: Deployment, opt_outs: list[OptOut]) -> int:
    """Check that every acknowledged opt-out is in the log at its place, once, and in force; returns how many there are."""
    wait_until(deployment.is_feed_answering, "the feed answers again")
    events = read_verified_log(deployment).events
    seqs = [opt_out.token.seq for opt_out in opt_outs]
    assert len(set(seqs)) == len(seqs)
    assert [seq for seq in seqs if not isinstance(events.get(seq), DirectiveEvent)] == []
    with deployment.client() as client:
        for opt_out in opt_outs:
            decision = client.check(
                opt_out.person, PURPOSE, context=SITUATION, min_token=opt_out.token, wait_seconds=10
            )
            assert (decision.effect, decision.reason, decision.deciding_seq) == ("DENY", OPTED_OUT, opt_out.token.seq)
            opt_out.is_seen = True
    return len(opt_outs)
