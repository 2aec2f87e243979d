"""A disk that is full, and has room again: no answer without a record, no acceptance without an entry, nothing torn.

The kernel refuses to make any file of the program longer while a limit on the size of files is 0, and writes to the files' earlier
bytes as well; the limit stands in for the disk.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from consentry_client import Client, Identifier, IntakeError

from tests.e2e.audit import read_verified_log
from tests.e2e.deployment import Deployment, short_folder
from tests.e2e.people import SITUATION, make_person
from tests.e2e.processes import Program, command_path, wait_until

NAME = "sidecar-full"


@contextmanager
def full_disk(program: Program) -> Iterator[None]:
    """While the context lasts, no file of the running program can be written."""
    before = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, before)


@pytest.fixture
def sidecar(deployment: Deployment) -> Iterator[Program]:
    """A sidecar of its own, running."""
    with deployment.add_sidecar(NAME).start() as program:
        deployment.wait_until_ready(NAME, program)
        yield program


def test_sidecar_on_a_full_disk_gives_no_answer_and_recovers_by_itself(
    deployment: Deployment, sidecar: Program, person: Identifier
) -> None:
    with Client(deployment.address(NAME), timeout_seconds=5, default_context=SITUATION) as client:
        assert client.check(person, "newsletter").allowed
        with full_disk(sidecar):
            # Records of one group may have reached the file before it was full; from then on there is no answer.
            wait_until(lambda: client.check(person, "newsletter").failed, "the journal cannot be written")
            refused = [client.check(person, "newsletter") for _ in range(5)]
            # An opt-out that cannot be kept in the cache is not in force there; it must come in as soon as it can.
            with deployment.intake() as intake:
                token = intake.opt_out(person, "newsletter").token
        assert {(str(each.reason), each.error) for each in refused} == {("CLIENT_UNAVAILABLE", "UNAVAILABLE")}
        assert {each.error_reason for each in refused} == {"JOURNAL_UNAVAILABLE"}
        wait_until(lambda: client.check(make_person(), "newsletter").allowed, "the journal is written again")
        decision = client.check(person, "newsletter", min_token=token, wait_seconds=10)
        assert (decision.effect, decision.reason, decision.deciding_seq) == ("DENY", "OPT_OUT", token.seq)
        assert client.status().sync_state == "IN_SYNC"
    assert sidecar.is_running
    assert sidecar.stop() == 0


def test_feed_on_a_full_disk_accepts_nothing_and_recovers_by_itself(
    deployment: Deployment, client: Client, person: Identifier
) -> None:
    before = read_verified_log(deployment)
    with deployment.intake() as intake:
        with full_disk(deployment.feed), pytest.raises(IntakeError) as refused:
            intake.opt_out(person, "newsletter", timeout_seconds=2, idempotency_key="full-disk")
        assert (refused.value.reason, refused.value.error) == ("LOG_WRITE_FAILED", "UNAVAILABLE")
        assert client.check(person, "newsletter").allowed
        accepted = intake.opt_out(person, "newsletter", idempotency_key="full-disk")
    decision = client.check(person, "newsletter", min_token=accepted.token, wait_seconds=10)
    assert (decision.reason, decision.deciding_seq) == ("OPT_OUT", accepted.token.seq)
    after = read_verified_log(deployment)
    # Whatever was tried in vain, the request is in the log once.
    assert after.requests == before.requests + 1
    assert {seq: after.events[seq] for seq in before.events} == before.events


@pytest.mark.long(seconds=15)
@pytest.mark.parametrize(
    ("name", "reason"), [("sidecar", "CACHE_WRITE_FAILED"), ("feed", "LOG_WRITE_FAILED")], ids=["sidecar", "feed"]
)
def test_program_on_a_full_disk_does_not_start_and_does_so_once_there_is_room(name: str, reason: str) -> None:
    with short_folder("full") as folder, Deployment(folder) as there:
        there.set_up()
        settings = {"sidecar": there.sidecar_settings, "feed": there.feed_settings}[name]
        command = [command_path(f"consentry-{name}"), "serve", "-c", str(settings)]
        full = there.program("full", command, has_full_disk=True)
        assert full.start().wait_for_exit() == 2
        assert f"consentry-{name}: {reason}: " in full.text
        assert "Traceback" not in full.text
        there.program("roomy", command).start().wait_for_line(" listening ")
