"""Approving a policy offline, and handing approvals in: what is shown, what is written, what is refused before any feed is asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consent.authority import Authority, approved_content
from consent.event import PolicyEvent, format_event
from consent.eventlog.approval_note import parse_approval
from consent.eventlog.keys import KeyKind, format_signing_key, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from consent.policy import format_policy, load_policy_file
from feed.cli import main
from feed.cli.approvals import gather_approvals
from tests.fakes.signing_feed import ORIGIN, SIGNERS, TRUST

POLICY = "version: 3\nreplaces_version: 2\npurposes:\n  newsletter: {}\n"
ROOT_KEY = generate_signing_key("root", KeyKind.LOG, bytes([3] * 32))
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["consentry-feed", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out + said.err

    return run_command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    for name, key in zip(("ada", "grace"), SIGNERS.approvers, strict=True):
        (tmp_path / f"{name}.key").write_text(f"{format_signing_key(key)}\n", encoding="ascii")
        (tmp_path / f"{name}.key").chmod(0o600)
    (tmp_path / "trust.note").write_bytes(seal_trust(TRUST, ROOT_KEY))
    (tmp_path / "root.pub").write_text(f"{format_verifier_key(ROOT_KEY.verifier_key)}\n", encoding="ascii")
    return tmp_path


def approve(run: Run, home: Path, name: str, *options: str | Path) -> tuple[int, str]:
    trust = ("--trust-file", home / "trust.note", "--root-key-file", home / "root.pub")
    key, out = home / f"{name}.key", home / f"{name}.approval"
    return run("policy", "approve", home / "policy.yaml", "--key", key, *(options or trust), "--out", out, "--yes")


def read_event(home: Path) -> PolicyEvent:
    policy = load_policy_file((home / "policy.yaml").read_text(encoding="utf-8"), "policy.yaml")
    return PolicyEvent(
        origin=ORIGIN,
        version=policy.version,
        replaces_version=policy.replaces_version,
        document=format_policy(policy),
    )


def test_approvals_of_two_people_are_what_a_sidecar_demands(run: Run, home: Path) -> None:
    for name in ("ada", "grace"):
        code, said = approve(run, home, name)
        assert code == 0
        assert f"log {ORIGIN}" in said
        assert "version 3" in said
        assert "replaces 2" in said
    files = [home / "ada.approval", home / "grace.approval"]
    event = read_event(home)
    approvals = [parse_approval(file.read_bytes()) for file in files]
    assert {approval.content for approval in approvals} == {approved_content(event)}
    Authority(TRUST).verify(event, format_event(event), [approval.attestation for approval in approvals], 9)
    policy = load_policy_file(POLICY, "policy.yaml")
    assert gather_approvals(policy, ORIGIN, files, []) == [approval.attestation for approval in approvals]


def test_approve_without_a_trust_file_takes_the_name_of_the_log(run: Run, home: Path) -> None:
    assert approve(run, home, "ada", "--origin", ORIGIN)[0] == 0
    assert parse_approval((home / "ada.approval").read_bytes()).origin == ORIGIN


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--origin", ORIGIN, "--replaces", "1"), 1, "replaces version 2, not 1"),
        (("--replaces", "2"), 2, "name the log"),
        (("--trust-file", "trust.note"), 2, "name the log"),
    ],
)
def test_approve_of_something_else_than_expected_writes_nothing(
    run: Run, home: Path, options: tuple[str, ...], code: int, text: str
) -> None:
    assert approve(run, home, "ada", *options)[0] == code
    assert text in approve(run, home, "ada", *options)[1]
    assert not (home / "ada.approval").exists()


def test_approve_with_a_key_that_is_no_approver_of_the_trust_file_writes_nothing(run: Run, home: Path) -> None:
    (home / "trust.note").write_bytes(seal_trust(replace(TRUST, approver_keys=()), ROOT_KEY))
    code, said = approve(run, home, "ada")
    assert (code, "does not have approver.example/ada as an approver" in said) == (1, True)
    assert not (home / "ada.approval").exists()


def test_approve_with_a_key_of_another_kind_or_open_to_others_is_refused(run: Run, home: Path) -> None:
    (home / "grace.key").chmod(0o644)
    assert "KEY_FILE_INVALID" in approve(run, home, "grace")[1]
    (home / "ada.key").write_text(f"{format_signing_key(SIGNERS.sources['web'])}\n", encoding="ascii")
    assert "one of kind APPROVER is needed" in approve(run, home, "ada")[1]


def test_approve_never_overwrites_an_approval(run: Run, home: Path) -> None:
    assert approve(run, home, "ada")[0] == 0
    assert approve(run, home, "ada")[0] == 2


def test_approve_shows_what_changes(run: Run, home: Path) -> None:
    before = home / "before.yaml"
    before.write_text(
        "version: 2\nreplaces_version: 1\npurposes:\n  newsletter: {legal_basis: legal_obligation}\n", encoding="utf-8"
    )
    code, said = approve(run, home, "ada", "--origin", ORIGIN, "--against", before)
    assert code == 0
    assert "newsletter" in said


def write_settings(home: Path) -> Path:
    file = home / "feed.yaml"
    file.write_text(
        f"tenant: tenant-1\norigin: {ORIGIN}\ntrust: {{file: {home}/trust.note, root_key_file: {home}/root.pub}}\n"
        f"event_log: {{directory: {home}/log, keys_directory: {home}/keys}}\n"
        f"sync: {{address: 'unix://{home}/s.sock'}}\nadmin_address: unix://{home}/a.sock\n",
        encoding="utf-8",
    )
    return file


def test_publish_with_an_approval_of_another_version_is_refused_before_it_is_sent(run: Run, home: Path) -> None:
    approve(run, home, "ada")
    (home / "policy.yaml").write_text(
        POLICY.replace("version: 3\nreplaces_version: 2", "version: 4\nreplaces_version: 3"), encoding="utf-8"
    )
    code, said = run(
        "policy", "publish", home / "policy.yaml", "--approval", home / "ada.approval", "-c", write_settings(home)
    )
    assert (code, "approves something else than version 4" in said) == (1, True)


def test_publish_with_one_person_twice_is_refused_before_it_is_sent(run: Run, home: Path) -> None:
    key = home / "ada.key"
    options = ("--sign-with", key, "--sign-with", key, "-c", write_settings(home))
    code, said = run("policy", "publish", home / "policy.yaml", *options)
    assert (code, "the same approver has signed twice" in said) == (1, True)


def test_publish_with_a_file_that_is_no_approval_is_refused(run: Run, home: Path) -> None:
    (home / "ada.approval").write_text("looks good to me\n", encoding="utf-8")
    code, said = run(
        "policy", "publish", home / "policy.yaml", "--approval", home / "ada.approval", "-c", write_settings(home)
    )
    assert (code, "ada.approval: approval: " in said) == (2, True)
