"""One deployment for all tests that leave it as it was: feed, sidecar and receiver, with a policy in force."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from consentry_client import Client, Identifier

from tests.e2e.deployment import Deployment, change_settings, short_folder
from tests.e2e.people import SITUATION, make_person

POLICY_FILE = Path(__file__).with_name("policy.yaml")


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """Runs from the first test that wants it to the last; beside `sidecar` it has a listener `mailer` that may do little."""
    with short_folder("e2e") as folder, Deployment(folder) as running:
        running.set_up()
        # Receipts, and refused calls, would come into the log at moments of their own.
        quiet = {"event_log.receipts_seconds": 3600, "event_log.admin_refusals_seconds": 3600}
        change_settings(running.feed_settings, {"event_log.resign_seconds": 0.5, **quiet})
        mailer = {"name": "mailer", "purposes": ["newsletter"], "methods": ["Check"], "detail": "effect"}
        listeners = [
            {"address": running.address("sidecar"), "callers": [{"name": "app", "detail": "full"}]},
            {"address": running.address("new/mailer"), "callers": [mailer]},
        ]
        change_settings(running.sidecar_settings, {"feed.backoff_most_ms": 300, "listeners": listeners})
        for program in running.programs:
            program.start()
        running.feed.wait_for_line(" listening ")
        running.publish(POLICY_FILE)
        running.sidecar.wait_for_line(" listening ")
        running.wait_until_ready()
        yield running


@pytest.fixture
def client(deployment: Deployment) -> Iterator[Client]:
    """Asks at the listener `sidecar`."""
    with Client(deployment.address("sidecar"), timeout_seconds=5, default_context=SITUATION) as client:
        yield client


@pytest.fixture
def person() -> Identifier:
    """Somebody of whom no other test has heard."""
    return make_person()


@pytest.fixture
def log_stays(deployment: Deployment) -> Iterator[Callable[[], None]]:
    """Checks at the end, and whenever it is called, that the log has not grown and everybody runs."""
    before = deployment.feed_status()

    def verify() -> None:
        assert deployment.feed_status().log_size == before.log_size
        assert all(program.is_running for program in deployment.programs)

    yield verify
    verify()
