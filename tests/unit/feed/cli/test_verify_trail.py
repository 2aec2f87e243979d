"""`verify-trail`: exit codes and reasons, from files alone."""

from pathlib import Path

import pytest

from consent.eventlog.keys import KeyKind, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from consent.trail_file import format_trail
from feed.cli import main
from tests.fakes.signing_feed import TRUST
from tests.fakes.trails import TrailLog, make_trail

ROOT_KEY = generate_signing_key("root.example/log", KeyKind.LOG, bytes([9]) * 32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a trail, a trust file and its root key."""
    (tmp_path / "trail.json").write_bytes(format_trail(make_trail()))
    (tmp_path / "trust.note").write_bytes(seal_trust(TRUST, ROOT_KEY))
    (tmp_path / "root.pub").write_text(format_verifier_key(ROOT_KEY.verifier_key) + "\n")
    return tmp_path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *options: str
) -> tuple[int, str, str]:
    trust = ["--trust", str(folder / "trust.note"), "--root-key", str(folder / "root.pub")]
    monkeypatch.setattr("sys.argv", ["consentry-feed", "verify-trail", str(folder / "trail.json"), *trust, *options])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def test_verify_trail_in_force_everywhere_is_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    code, said, _ = run(monkeypatch, capsys, files)
    assert code == 0
    assert "in_force_everywhere_at: 2026-01-01T00:00:00.009+00:00" in said
    assert "pod-1 (enrolled by entry 2): in force since 2026-01-01T00:00:00.005+00:00" in said
    code, said, _ = run(monkeypatch, capsys, files, "--json")
    assert (code, '"type": "DIRECTIVE"' in said) == (0, True)


def test_verify_trail_not_in_force_everywhere_is_1_and_names_who_lacks_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    log = TrailLog()
    log.enrol("pod-1")
    seq = log.opt_out()
    (files / "trail.json").write_bytes(format_trail(log.trail(seq, [log.sidecar("pod-1")])))
    code, said, errors = run(monkeypatch, capsys, files)
    assert (code, "pod-1 (enrolled by entry 2): not acknowledged yet" in said) == (1, True)
    assert "NOT_IN_FORCE_EVERYWHERE: not yet acknowledged by pod-1" in errors
    (files / "trail.json").write_bytes(format_trail(log.trail(seq, [])))
    assert run(monkeypatch, capsys, files)[0] == 1


def test_verify_trail_forged_is_1_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    content = (files / "trail.json").read_bytes()
    for before, after, reason in (
        (b'"sidecar_id":"pod-1"', b'"sidecar_id":"pod-3"', "INVALID_TRAIL"),
        (b'"seq":5,"sidecars"', b'"seq":4,"sidecars"', "INVALID_TRAIL"),
        (b'"format"', b'"FORMAT"', "MALFORMED_TRAIL"),
    ):
        (files / "trail.json").write_bytes(content.replace(before, after))
        code, said, errors = run(monkeypatch, capsys, files)
        assert (code, said, reason in errors) == (1, "", True)


@pytest.mark.parametrize("name", ["trail.json", "trust.note", "root.pub"])
def test_verify_trail_file_that_cannot_be_read_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: Path, name: str
) -> None:
    (files / name).unlink()
    code, _, errors = run(monkeypatch, capsys, files)
    assert (code, f"{name}: No such file or directory" in errors) == (2, True)


def test_verify_trail_trust_file_of_another_root_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    other = generate_signing_key("root.example/log", KeyKind.LOG, bytes([8]) * 32)
    (files / "root.pub").write_text(format_verifier_key(other.verifier_key))
    code, _, errors = run(monkeypatch, capsys, files)
    assert (code, "INSUFFICIENT_SIGNATURES" in errors) == (2, True)
