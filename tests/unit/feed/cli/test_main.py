"""The command line's edge: exit codes, and nothing of what was typed comes back."""

import io
from pathlib import Path

import pytest

from consent.eventlog.keys import parse_verifier_key
from consent.eventlog.trust import open_trust
from feed.cli import main
from feed.cli.imports import import_file

ADDRESS = "ada@example.com"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["consentry-feed", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("record", "directive", ADDRESS), "kind has a value that it cannot have"),
        (("record", "directive", "opt-out", "--id", "email=a@example.com", ADDRESS), "an argument too many"),
        (("record", "directive", "opt-out"), "--id is missing"),
        (("record", "directive", "opt-out", "--id", ADDRESS), "NAMESPACE=VALUE"),
        (("record", "directive", "opt-out", "--id", "email=ad\udce9a@example.com"), "not valid text"),
        (("record", "directive", "opt-out", "--id", "email="), "has no value"),
        (("record", "directive", "opt-out", "--id", f"email={ADDRESS}", "--occurred-at", "yesterday"), "not a time"),
        (("record", "directive", "opt-out", "--id", f"email={ADDRESS}", "--occurred-at", "2026-01-01"), "time zone"),
        ((ADDRESS,), "unknown command"),
        (("policy", "check", "nowhere.yaml"), "nowhere.yaml: No such file"),
    ],
)
def test_main_wrong_call_names_the_parameter_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    code, said = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert text in said
    assert "ada@" not in said
    assert "ad\udce9a" not in said


def test_main_without_a_command_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(monkeypatch, capsys)
    assert code == 2
    assert "serve" in said


def test_main_identifier_from_standard_input_that_is_not_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ad\xe9a@example.com\n"), encoding="utf-8"))
    code, said = run(monkeypatch, capsys, "record", "directive", "opt-out", "--id", "email=-")
    assert (code, "not valid text" in said) == (2, True)


@pytest.mark.parametrize("command", ["check", "publish"])
def test_policy_that_cannot_be_read_is_told_with_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("purposes:\n  a: {parents: [b]}\n  b: {parents: [a]}\n", encoding="utf-8")
    code, said = run(monkeypatch, capsys, "policy", command, str(file))
    assert code == 2
    assert "policy.yaml:" in said


def test_policy_import_dpv_of_another_table_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "purposes.csv"
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    code, said = run(monkeypatch, capsys, "policy", "import-dpv", str(file))
    assert (code, "purposes.csv:1" in said) == (2, True)


def test_import_help_teaches_the_dry_run() -> None:
    assert "--dry-run first" in (import_file.__doc__ or "")


def test_import_verdicts_that_would_overwrite_the_list_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = tmp_path / "d"
    code, _ = run(monkeypatch, capsys, "init", str(directory))
    assert code == 0
    people = tmp_path / "list.csv"
    people.write_text("email;purpose;action\nada@example.com;*;opt_out\n", encoding="utf-8")
    config = str(directory / "feed" / "feed.yaml")
    code, said = run(monkeypatch, capsys, "import", str(people), "--verdicts", str(people), "-c", config)
    assert (code, "overwrite" in said) == (2, True)
    assert "opt_out" in people.read_text(encoding="utf-8")


def test_init_writes_the_public_keys_that_receipts_are_checked_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _ = run(monkeypatch, capsys, "init", str(tmp_path / "d"))
    assert code == 0
    folder = tmp_path / "d" / "trust"
    keys = {
        name: parse_verifier_key((folder / f"{name}.pub").read_text().strip()) for name in ("root", "log", "cosigner")
    }
    trust = open_trust((folder / "trust.note").read_bytes(), keys["root"])
    assert [key.verifier_key for key in trust.log_keys] == [keys["log"]]
    assert [key.verifier_key for key in trust.cosigner_keys] == [keys["cosigner"]]
