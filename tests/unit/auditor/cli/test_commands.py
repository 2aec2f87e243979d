"""The command line: exit codes, options over settings, and nothing of what was typed comes back."""

import json
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.keys import load_auditor_key, read_public_name
from journal.auditor_key import parse_auditor_key
from tests.fakes.audited_installation import Installation

ADDRESS = "ada@example.com"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["consentry-auditor", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    installation = Installation(tmp_path / "audit")
    installation.write()
    return installation.path


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((ADDRESS,), "unknown command"),
        (("verify", ADDRESS), "an argument too many"),
        (("verify", "--silent-seconds", ADDRESS), "silent-seconds has a value that it cannot have"),
        (("verify",), "--folder is missing"),
        (("verify", "--json", "--csv"), "exclude each other"),
        (("fetch", "-f", "somewhere"), "neither a feed nor a sidecar"),
        (("keys", "create", ADDRESS, "--out", "auditor.key"), "letters, digits"),
    ],
)
def test_main_wrong_call_could_not_check_and_names_no_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert text in err
    assert "ada@" not in out + err


def test_verify_clean_folder_is_0_and_one_with_a_finding_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], audit: Path
) -> None:
    code, out, _ = run(monkeypatch, capsys, "verify", "-f", audit)
    assert code == 0
    assert "clean" in out
    next((audit / "journals" / "pod-2").glob("*.journal")).unlink()
    code, out, _ = run(monkeypatch, capsys, "verify", "-f", audit, "--json")
    assert code == 1
    shown = json.loads(out)
    assert [found["reason"] for found in shown["findings"] if found["severity"] == "finding"] == ["CHAIN_MISSING"]
    code, out, _ = run(monkeypatch, capsys, "verify", "-f", audit, "--csv")
    assert code == 1
    assert out.splitlines()[0] == "severity,reason,sidecar_id,place,text"


def test_verify_without_trust_file_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], audit: Path
) -> None:
    (audit / "trust.note").unlink()
    code, _, err = run(monkeypatch, capsys, "verify", "-f", audit)
    assert code == 2
    assert "FOLDER_UNUSABLE" in err


def test_settings_give_defaults_and_options_win(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], audit: Path, tmp_path: Path
) -> None:
    config = tmp_path / "auditor.yaml"
    config.write_text(f"folder: {audit}\nsilent_seconds: 5\n")
    code, out, _ = run(monkeypatch, capsys, "verify", "-c", config, "--json")
    assert code == 1
    assert "HEADS_SILENT" in out
    assert run(monkeypatch, capsys, "verify", "-c", config, "--silent-seconds", 300)[0] == 0
    monkeypatch.setenv("CONSENTRY_AUDITOR_CONFIG", str(config))
    monkeypatch.setenv("CONSENTRY_AUDITOR_SILENT_SECONDS", "300")
    assert run(monkeypatch, capsys, "verify")[0] == 0


def test_keys_create_writes_a_key_for_its_owner_and_a_public_half(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "auditor.key"
    assert run(monkeypatch, capsys, "keys", "create", "jane", "--out", path)[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600
    keys = load_auditor_key(path, "jane")
    public = parse_auditor_key((tmp_path / "auditor.key.pub").read_text())
    assert public.name == read_public_name(path) == "jane"
    assert public.sealing_key == keys.sealing.private_key.public_key().public_bytes_raw()
    assert public.verifier_key == keys.signing.verifier_key
    code, _, err = run(monkeypatch, capsys, "keys", "create", "jane", "--out", path)
    assert code == 2
    assert "never overwritten" in err


def test_init_makes_a_folder_that_show_config_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], audit: Path, tmp_path: Path
) -> None:
    target = tmp_path / "2026"
    code, _, err = run(monkeypatch, capsys, "init", target, "--trust", audit / "trust.note", "--name", "jane")
    assert code == 0, err
    assert (target / "audit" / "trust.note").read_bytes() == (audit / "trust.note").read_bytes()
    code, out, _ = run(monkeypatch, capsys, "show-config", "-c", target / "auditor.yaml")
    assert code == 0
    assert str(target / "audit") in out
    code, _, err = run(monkeypatch, capsys, "init", target, "--trust", audit / "trust.note")
    assert code == 2
    assert "not empty" in err


def test_init_with_a_trust_file_that_nobody_signed_makes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], audit: Path, tmp_path: Path
) -> None:
    forged = audit / "trust.note"
    forged.write_bytes(forged.read_bytes().replace(b"acme", b"acne"))
    assert run(monkeypatch, capsys, "init", tmp_path / "2026", "--trust", forged)[0] == 2
    assert not (tmp_path / "2026").exists()
