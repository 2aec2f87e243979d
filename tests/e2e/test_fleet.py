"""Many sidecars at one feed: what a person says is in force at all of them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from consentry_client import Client, Identifier

from tests.e2e.deployment import SIDECAR_ID, Deployment
from tests.e2e.people import SITUATION
from tests.e2e.processes import wait_until

NAMES = ("fleet-1", "fleet-2", "fleet-3", "fleet-4")


@pytest.fixture(scope="module")
def fleet(deployment: Deployment) -> Iterator[dict[str, Client]]:
    """Five sidecars, each with somebody who asks it."""
    programs = [deployment.add_sidecar(name).start() for name in NAMES]
    with ExitStack() as stack:
        for name, program in zip(NAMES, programs, strict=True):
            deployment.wait_until_ready(name, program)
        names = {SIDECAR_ID: "sidecar"} | {name: name for name in NAMES}
        yield {name: stack.enter_context(deployment.client(socket)) for name, socket in names.items()}
    for program in programs:
        assert program.stop() == 0


def test_opt_out_is_in_force_at_every_sidecar(
    deployment: Deployment, fleet: dict[str, Client], person: Identifier
) -> None:
    assert all(client.check(person, "newsletter", context=SITUATION) for client in fleet.values())
    with deployment.intake() as intake:
        token = intake.opt_out(person, "marketing").token
    for client in fleet.values():
        decision = client.check(person, "newsletter", context=SITUATION, min_token=token, wait_seconds=10)
        assert (decision.reason, decision.deciding_seq) == ("OPT_OUT_PARENT", token.seq)

    def is_acknowledged_by_all() -> bool:
        acknowledged = {each.sidecar_id: each.acknowledged_size for each in deployment.feed_status().sidecars}
        return all(acknowledged.get(name, 0) >= token.seq for name in fleet)

    wait_until(is_acknowledged_by_all, "the feed has every sidecar's acknowledgement")


def test_sidecars_of_one_log_hold_the_same(deployment: Deployment, fleet: dict[str, Client]) -> None:
    statuses = [deployment.wait_until_caught_up("sidecar" if name == SIDECAR_ID else name) for name in fleet]
    assert len({(status.log_size, status.root_hash, status.policy_version) for status in statuses}) == 1
    assert statuses[0].root_hash == deployment.feed_status().root_hash
    assert {status.sidecar_id for status in statuses} == set(fleet)
