"""kill -9 of feed or sidecar at each step of a story: it starts again, and nothing that was acknowledged is lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, change_settings, short_folder
from tests.e2e.processes import START_SECONDS, Program, ProgramError, wait_until
from tests.e2e.spans import received_ids
from tests.e2e.story import Story

POLICY_FILE = Path(__file__).with_name("policy.yaml")
SECONDS = 15
# How long a step is under way when the kill comes: a request takes some milliseconds.
AT_ONCE_SECONDS, ASKING_SECONDS = 0.004, 0.1
IMPORTED_ENTRIES = 100
FAST = {("feed", "opt_out", "after"), ("feed", "import_file", "during"), ("sidecar", "ask", "during")}
CASES = [
    (victim, step, moment) for victim in ("feed", "sidecar") for step in Story.STEPS for moment in ("during", "after")
]


@pytest.fixture
def fresh() -> Iterator[Deployment]:
    """A deployment of its own, started and without a policy."""
    with short_folder("kill") as folder, Deployment(folder) as running:
        running.set_up()
        change_settings(running.feed_settings, {"event_log.resign_seconds": 0.5})
        change_settings(running.sidecar_settings, {"feed.backoff_most_ms": 300})
        for program in running.programs:
            program.start()
        for program in (running.feed, running.sidecar):
            program.wait_for_line(" listening ")
        yield running


@pytest.mark.parametrize(
    ("victim", "step", "moment"),
    [
        pytest.param(*case, id="-".join(case), marks=() if case in FAST else pytest.mark.long(seconds=SECONDS))
        for case in CASES
    ],
)
def test_kill_of_a_program_loses_nothing_that_was_acknowledged(
    fresh: Deployment, victim: str, step: str, moment: str
) -> None:
    program = {"feed": fresh.feed, "sidecar": fresh.sidecar}[victim]
    with Story(fresh, POLICY_FILE) as story:
        for name in Story.STEPS:
            tell = getattr(story, name)
            if name == step and moment == "during":
                tell_with_a_kill(fresh, program, name, tell)
            else:
                tell()
            if name == step and moment == "after":
                program.kill()
                program.start().wait_for_line(" listening ")
        story.verify()
        decision_ids = story.decision_ids
    wait_until_shipped(fresh, decision_ids)
    assert [program.stop() for program in fresh.programs] == [0, 0, 0]


def tell_with_a_kill(deployment: Deployment, program: Program, name: str, tell: Callable[[], None]) -> None:
    """Tell a step while a program is killed and started anew."""
    before = deployment.feed_status().log_size
    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(tell)
        if name == "import_file":
            has_begun = partial(has_grown, deployment, before + IMPORTED_ENTRIES)
            wait_until(has_begun, "the import is under way", START_SECONDS)
        else:
            threading.Event().wait(ASKING_SECONDS if name == "ask" else AT_ONCE_SECONDS)
        program.kill()
        program.start().wait_for_line(" listening ")
        telling.result()


def has_grown(deployment: Deployment, size: int) -> bool:
    return deployment.feed_status().log_size >= size


@pytest.mark.long(seconds=SECONDS)
@pytest.mark.parametrize("step", ["consent", "opt_out", "opt_out_of_parent", "link", "import_file"])
def test_kill_of_both_leaves_a_sidecar_that_answers_from_its_cache_alone(fresh: Deployment, step: str) -> None:
    with Story(fresh, POLICY_FILE) as story:
        for name in Story.STEPS[: Story.STEPS.index(step) + 1]:
            getattr(story, name)()
        fresh.wait_until_caught_up()
        fresh.feed.kill()
        with fresh.client() as client:
            before = client.status()
        fresh.sidecar.kill()
        fresh.start_sidecar()
        story.verify_denials()
        with fresh.client() as client:
            after = client.status()
        assert (after.log_size, after.root_hash) == (before.log_size, before.root_hash)
        assert after.sync_state == "DISCONNECTED"
        fresh.start_feed()
        story.verify()


def wait_until_shipped(deployment: Deployment, decision_ids: set[str]) -> None:
    """Wait until the receiver has a span of every answer, those around the kill too."""

    def missing() -> set[str]:
        return decision_ids - received_ids(deployment.spans_path)

    try:
        wait_until(lambda: not missing(), "a span of every answer has come")
    except ProgramError:
        count = len(missing())
        raise ProgramError(f"{count} of {len(decision_ids)} answers have no span:\n{deployment.sidecar.tail}") from None
