"""Keys and trust files on the command line: what is made can be used, and nothing is signed that does not hold together."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from consent.eventlog.keys import KeyKind, format_signing_key, format_verifier_key, parse_verifier_key
from consent.eventlog.trust import seal_trust
from feed.cli import main
from hosting.trust_files import load_trust, read_signing_key
from tests.fakes.signing_feed import TRUST
from tests.unit.consent.eventlog.signers import APPROVER_KEY, ROOT_KEY

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["consentry-feed", "trust", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out + said.err

    return run_command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "trust.note").write_bytes(seal_trust(TRUST, ROOT_KEY))
    (tmp_path / "root.pub").write_text(f"{format_verifier_key(ROOT_KEY.verifier_key)}\n", encoding="ascii")
    (tmp_path / "root.key").write_text(f"{format_signing_key(ROOT_KEY)}\n", encoding="ascii")
    (tmp_path / "root.key").chmod(0o600)
    return tmp_path


def show(run: Run, home: Path) -> dict[str, object]:
    code, said = run("show", home / "trust.note", "--root-key-file", home / "root.pub")
    assert code == 0
    content: dict[str, object] = json.loads(said)
    return content


def seal(run: Run, home: Path, text: str) -> tuple[int, str]:
    (home / "trust.json").write_text(text, encoding="utf-8")
    return run("seal", home / "trust.json", "--root-key", home / "root.key", "--out", home / "new.note")


@pytest.mark.parametrize("kind", ["source", "approver"])
def test_new_key_is_private_and_tells_its_public_half(run: Run, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "new.key"
    code, said = run("new-key", kind, "ada.example", "--out", file)
    assert code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_signing_key(file, KeyKind[kind.upper()]).verifier_key == parse_verifier_key(said.strip())
    assert run("new-key", kind, "ada.example", "--out", file)[0] == 2
    assert run("new-key", kind, "two words", "--out", tmp_path / "other.key")[0] == 2


def test_trust_file_that_is_shown_changed_and_sealed_is_taken(run: Run, home: Path) -> None:
    content = show(run, home)
    sources = content["source_keys"]
    assert isinstance(sources, list)
    sources[0]["last_seq"] = 7
    assert seal(run, home, json.dumps(content, indent=4))[0] == 0
    sealed = load_trust(home / "new.note", home / "root.pub")
    assert [key.last_seq for key in sealed.source_keys[:2]] == [7, None]
    assert sealed.approver_keys == TRUST.approver_keys


def test_seal_of_what_is_no_trust_file_writes_nothing(run: Run, home: Path) -> None:
    content = show(run, home)
    wrong = [
        ("{", "not JSON"),
        ("[]", "MALFORMED_TRUST_FILE"),
        (json.dumps(content | {"approver_threshold": 1}), "approver_threshold: must be at least 2"),
        (json.dumps(content | {"log_keys": []}), "log_keys: must not be empty"),
        ('{"tenant": "a", "tenant": "b"}', "one field stands twice"),
    ]
    for text, part in wrong:
        code, said = seal(run, home, text)
        assert (code, part in said) == (2, True)
    assert not (home / "new.note").exists()


def test_seal_with_a_key_that_is_no_root_is_refused(run: Run, home: Path) -> None:
    text = json.dumps(show(run, home))
    (home / "root.key").write_text(f"{format_signing_key(APPROVER_KEY)}\n", encoding="ascii")
    code, said = seal(run, home, text)
    assert (code, "one of kind LOG is needed" in said) == (2, True)
