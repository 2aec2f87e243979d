"""A new subject key and an erasure, as an operator does it: with the commands, while everything runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from consentry_client import Proof

from tests.e2e.deployment import Deployment, change_settings, short_folder
from tests.e2e.people import make_person

POLICY_FILE = Path(__file__).with_name("policy.yaml")


@pytest.fixture
def fresh() -> Iterator[Deployment]:
    """A deployment of its own: key epochs cannot be taken back."""
    with short_folder("subjects") as folder, Deployment(folder) as running:
        running.set_up()
        change_settings(running.sidecar_settings, {"feed.backoff_most_ms": 300})
        for program in (running.feed, running.sidecar):
            program.start().wait_for_line(" listening ")
        running.publish(POLICY_FILE)
        yield running


@pytest.mark.long(seconds=25)
def test_subjects_are_found_after_a_new_key_a_kill_and_an_erasure(fresh: Deployment) -> None:
    ada, grace = make_person(), make_person()
    with fresh.patient_intake("intake-accounts") as accounts, fresh.client() as client:
        accounts.grant(grace, "newsletter", proof=Proof.AUTHENTICATED, notice_version=1)
        accounts.opt_out(ada, "newsletter")
        fresh.wait_until_caught_up()

        def answers() -> list[str]:
            return [client.check(person, "newsletter").reason for person in (ada, grace)]

        before = answers()
        assert before == ["OPT_OUT", "GRANTED"]
        refused = fresh.run_feed("rotate-subject-key")
        assert refused.returncode == 1
        for epoch in (1, 2):
            done = fresh.run_feed("rotate-subject-key", "--epoch", str(epoch), "--yes", "--json")
            assert (done.returncode, json.loads(done.stdout)["epoch"]) == (0, epoch)
            fresh.wait_until_caught_up()
            assert answers() == before
        fresh.sidecar.kill()
        fresh.feed.kill()
        fresh.start_sidecar()
        assert answers() == before
        fresh.start_feed()
        fresh.wait_until_caught_up()
        assert answers() == before

        done = fresh.run_feed("erase", "--id", "email=-", "--yes", "--json", given=f"{grace.value}\n")
        assert done.returncode == 0
        assert grace.value not in done.stdout + done.stderr
        fields = json.loads(done.stdout)
        assert (fields["tokens"], fields["erased_entries"], fields["kept_entries"]) == (1, 2, 0)
        fresh.wait_until_caught_up()
        assert answers() == ["OPT_OUT", "GLOBAL_OPT_OUT"]
