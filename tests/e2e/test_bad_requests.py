"""Policies, files and requests that the feed must not take: each is refused clearly, and what is in force stays."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from consentry_client import Identifier, IntakeClient, IntakeError, email

from tests.e2e.deployment import Deployment, short_folder
from tests.e2e.processes import run_command
from tests.e2e.search import IdentifierSearch

PERSON = "hedy.lamarr.4711@example.com"
MALFORMED = "no-address-at-all-4711"
CYCLE = """version: 2
purposes:
  first: {parents: [second]}
  second: {parents: [first]}
"""
UNKNOWN_PARENT = """version: 2
purposes:
  marketing: {}
  newsletter:
    parents: [markting]
"""
UNKNOWN_KEY = """version: 2
purposes:
  marketing: {legal_bases: contract}
"""


# A command takes a second to start; what is the same way once more is seen with the long tests.
LONG = pytest.mark.long(seconds=3)


@pytest.fixture
def web(deployment: Deployment) -> Iterator[IntakeClient]:
    with deployment.intake() as web:
        yield web


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (CYCLE, ("POLICY_CYCLIC", "policy.yaml:3", "first", "second")),
        pytest.param(
            UNKNOWN_PARENT, ("POLICY_UNKNOWN_PARENT", "policy.yaml:5", "did you mean 'marketing'?"), marks=LONG
        ),
        pytest.param(UNKNOWN_KEY, ("POLICY_UNKNOWN_KEY", "policy.yaml:3", "did you mean 'legal_basis'?"), marks=LONG),
        pytest.param(b"version: \xff\n", ("policy.yaml", "not UTF-8 at byte 9"), marks=LONG),
        pytest.param(None, ("policy.yaml", "No such file"), marks=LONG),
    ],
    ids=["cyclic", "unknown-parent", "unknown-key", "not-utf8", "missing"],
)
def test_policy_that_is_wrong_is_refused_with_file_and_line(
    deployment: Deployment,
    log_stays: Callable[[], None],
    tmp_path: Path,
    content: str | bytes | None,
    parts: tuple[str, ...],
) -> None:
    file = tmp_path / "policy.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = deployment.run_feed("policy", "publish", file, "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert [part for part in parts if part not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert deployment.feed_status().policy_version == 1


@LONG
def test_policy_that_does_not_follow_the_one_in_force_is_refused(
    deployment: Deployment, log_stays: Callable[[], None], tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 2\npurposes:\n  marketing: {}\n", encoding="utf-8")
    done = deployment.run_feed("policy", "publish", file, "--yes")
    assert (done.returncode, "POLICY_FORBIDDEN_REPLACEMENT" in done.stderr) == (1, True)
    assert "the purpose 'analytics' is gone" in done.stderr


@pytest.mark.parametrize(
    ("purpose", "person", "reason"),
    [("newsleter", email(PERSON), "PURPOSE_UNKNOWN"), ("newsletter", email(MALFORMED), "INVALID_IDENTIFIER")],
)
def test_request_that_cannot_be_taken_is_refused_and_the_refusal_is_logged(
    deployment: Deployment, web: IntakeClient, purpose: str, person: Identifier, reason: str
) -> None:
    before = deployment.feed_status().log_size
    with pytest.raises(IntakeError) as refused:
        web.opt_out(person, purpose)
    assert (refused.value.reason, refused.value.error) == (reason, "INVALID_ARGUMENT")
    assert not refused.value.outcome_unknown
    assert person.value not in str(refused.value)
    # RECEIVED and REJECTED, and no directive.
    assert deployment.feed_status().log_size == before + 2


def test_command_request_that_cannot_be_taken_is_refused_and_not_shown(deployment: Deployment) -> None:
    environ = deployment.environ | {"CONSENTRY_INTAKE_ADDRESS": deployment.address("intake-web")}
    done = run_command("consentry", "opt-out", "--email", "-", "-p", "newsletter", given=MALFORMED, environ=environ)
    assert (done.returncode, done.stdout, "INVALID_IDENTIFIER" in done.stderr) == (2, "", True)
    assert MALFORMED not in done.stderr


@LONG
def test_command_record_of_a_malformed_identifier_names_the_field(deployment: Deployment) -> None:
    done = deployment.run_feed("record", "directive", "opt-out", "--id", "email=-", given=MALFORMED)
    assert (done.returncode, done.stdout) == (1, "")
    assert "INVALID_IDENTIFIER: directive.identifier.value is not an e-mail address" in done.stderr
    assert MALFORMED not in done.stderr


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (f'email,purpose,action\n{PERSON},newsletter,opt_out\n"{PERSON},newsletter,opt_out\n', ("line 3",)),
        (f"email,purpose,action\n{PERSON},newsletter,opt_out\nzoë\n".encode("latin-1"), ("line 3", "UTF-8")),
        pytest.param(f"who,when\n{PERSON},2026-01-01\n", ("line 1", "unknown shape"), marks=LONG),
        pytest.param(f"{PERSON}\n", ("line 1",), marks=LONG),
        pytest.param("", ("line 1", "no header"), marks=LONG),
        pytest.param(None, ("No such file",), marks=LONG),
    ],
    ids=["truncated", "latin-1", "unknown-shape", "no-header", "empty", "missing"],
)
def test_import_of_a_file_that_cannot_be_read_names_line_and_cause(
    deployment: Deployment, tmp_path: Path, content: str | bytes | None, parts: tuple[str, ...]
) -> None:
    file = tmp_path / "people.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = deployment.feed_status().log_size
    done = deployment.run_feed("import", file, "--json")
    assert done.returncode == 2
    assert [part for part in ("people.csv", *parts) if part not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert not list(IdentifierSearch([PERSON]).find((done.stdout + done.stderr).encode(), "output"))
    # Nothing silently: whatever was taken before the fault is two entries for each row, and told.
    assert deployment.feed_status().log_size - before in (0, 2)


def test_feed_on_a_port_in_use_does_not_start(deployment: Deployment) -> None:
    with short_folder("port") as folder, Deployment(folder) as other:
        other.port = deployment.port
        other.set_up()
        assert other.feed.start().wait_for_exit() == 2
        assert f"SOCKET_IN_USE: 127.0.0.1:{deployment.port}: cannot be bound" in other.feed.text
        assert "Traceback" not in other.feed.text


def test_feed_on_a_log_in_use_does_not_start(deployment: Deployment, log_stays: Callable[[], None]) -> None:
    done = deployment.run_feed("serve")
    assert done.returncode == 2
    assert f"INSTANCE_LOCKED: {deployment.site}/feed/log: in use by process {deployment.feed.pid}" in done.stderr
    assert "Traceback" not in done.stderr


@LONG
def test_feed_settings_with_an_unknown_key_do_not_start_it(deployment: Deployment) -> None:
    done = deployment.run_feed("serve", environ=deployment.environ | {"CONSENTRY_FEED_TENNANT": "demo"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "CONSENTRY_FEED_TENNANT" in done.stderr
    assert "CONSENTRY_FEED_TENANT" in done.stderr
