"""`consentry-auditor evidence` and `verify-evidence` as people call them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from auditor.cli import app
from auditor.keys import AuditorKeys, create_auditor_key, write_public_key
from consent.eventlog.keys import format_verifier_key
from tests.fakes.audit_material import JournalBuilder, log_heads, write_folder
from tests.fakes.evidence_material import EvidenceLog
from tests.fakes.log_builder import START_MS


@pytest.fixture
def keys(tmp_path: Path) -> AuditorKeys:
    made = create_auditor_key(tmp_path / "auditor.key", "jane")
    write_public_key(tmp_path / "auditor.key", made)
    return made


@pytest.fixture
def made(tmp_path: Path) -> EvidenceLog:
    made = EvidenceLog()
    made.admin("s/ReadLog", START_MS)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def make(tmp_path: Path, made: EvidenceLog, *more: str) -> Result:
    write_folder(tmp_path / "folder", made.log)
    folder, key, out = (str(tmp_path / name) for name in ("folder", "auditor.key", "out"))
    period = ("--from", "2026-01-01", "--to", "2026-01-01")
    return run("evidence", "--folder", folder, "--key", key, *period, "--out", out, *more)


def verify(tmp_path: Path, key: str, *more: str) -> Result:
    return run("verify-evidence", str(tmp_path / "out"), "--public-key", key, *more)


def test_evidence_that_is_clean_exits_0_and_verifies_with_the_public_key(
    tmp_path: Path, made: EvidenceLog, keys: AuditorKeys
) -> None:
    result = make(tmp_path, made, "--seed", "s1", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["seed"], told["auditor"], told["finding_count"]) == ("s1", "jane", 0)
    public = format_verifier_key(keys.signing.verifier_key)
    assert verify(tmp_path, public).exit_code == 0
    checked = verify(tmp_path, str(tmp_path / "auditor.key.pub"), "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["findings"] == []


def test_evidence_with_a_finding_exits_1_and_prints_it(tmp_path: Path, made: EvidenceLog, keys: AuditorKeys) -> None:
    made.log.append(made.log.directive("a"))
    made.log.entries[0], made.log.entries[1] = made.log.entries[1], made.log.entries[0]
    result = make(tmp_path, made)
    assert result.exit_code == 1
    assert "LOG_ROOT_DIFFERS" in result.output
    (tmp_path / "out" / "report.html").write_text("")
    checked = verify(tmp_path, format_verifier_key(keys.signing.verifier_key))
    assert checked.exit_code == 1
    assert "FILE_CHANGED" in checked.output


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--from", "yesterday"), "--from"),
        (("--to", "2025-01-01"), "--to"),
        (("--from", "2020-01-01"), "at most 1100 days"),
        (("--from", "1960-01-01"), "1970"),
        (("--seed", "a b"), "--seed"),
        (("--generated-at", "now"), "--generated-at"),
        (("--supply", "sbom"), "--supply"),
        (("--supply", "poem=/etc/hostname"), "--supply"),
        (("--supply", "sbom=/does/not/exist"), "--supply"),
        (("--certificates", "/does/not/exist"), "--certificates"),
        (("--known-identifiers", "/does/not/exist"), "--known-identifiers"),
        (("--key", "/does/not/exist"), "KEY_FILE_MISSING"),
        (("--folder", "/does/not/exist"), "FOLDER_UNUSABLE"),
    ],
)
def test_evidence_with_an_option_that_cannot_be_used_exits_2_and_makes_nothing(
    tmp_path: Path, made: EvidenceLog, keys: AuditorKeys, more: tuple[str, ...], named: str
) -> None:
    result = make(tmp_path, made, *more)
    assert result.exit_code == 2
    assert named in result.output
    assert not (tmp_path / "out").exists()


def test_evidence_holds_what_verify_found_and_says_open_where_it_was_left_out(
    tmp_path: Path, made: EvidenceLog, keys: AuditorKeys
) -> None:
    # The last head is one that the sidecar never signed.
    made.enrol("pod-1")
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    log_heads(made.log, [replace(journal.head(at_ms=START_MS), decisions=5)], START_MS)
    found = json.loads(make(tmp_path, made, "--json").stdout)
    (tmp_path / "out").rename(tmp_path / "with-verify")
    without = json.loads(make(tmp_path, made, "--json", "--skip-checks").stdout)
    assert found["finding_count"] > 0
    review = json.loads((tmp_path / "with-verify/data/5.35_5.36.json").read_text())
    done = [["verify", "done"], ["replay", "not done"], ["reconcile", "done"]]
    assert [row[:2] for row in review["tables"]["checks"]["rows"]] == done
    assert {finding["reason"] for finding in without["findings"]} >= {"HEAD_NOT_AUTHENTIC", "NO_HEADS"}


def test_verify_evidence_with_another_key_or_none_exits_2(tmp_path: Path, made: EvidenceLog, keys: AuditorKeys) -> None:
    make(tmp_path, made)
    other = create_auditor_key(tmp_path / "other.key", "jane")
    assert verify(tmp_path, format_verifier_key(other.signing.verifier_key)).exit_code == 2
    assert verify(tmp_path, "auditor+00000000+AAAA").exit_code == 2
    assert verify(tmp_path, str(tmp_path / "missing.pub")).exit_code == 2


def test_evidence_killed_before_the_last_step_leaves_no_folder_under_its_name(
    tmp_path: Path, made: EvidenceLog, keys: AuditorKeys
) -> None:
    write_folder(tmp_path / "folder", made.log)
    # The process dies without any handler as soon as the manifest is signed: everything but the name is there.
    program = (
        "import os, sys, auditor.evidence.export as export, auditor.cli as cli\n"
        "sign = export.format_manifest\n"
        "export.format_manifest = lambda *given: (sign(*given), os.kill(os.getpid(), 9))\n"
        "cli.app(sys.argv[1:])\n"
    )
    out = tmp_path / "evidence" / "out"
    out.parent.mkdir()
    arguments = ["evidence", "--folder", str(tmp_path / "folder"), "--key", str(tmp_path / "auditor.key")]
    arguments += ["--from", "2026-01-01", "--to", "2026-01-01", "--out", str(out)]
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=root, env=os.environ, check=False, capture_output=True
    )
    assert killed.returncode == -9
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".out.")] == []
    assert run(*arguments).exit_code == 0
    assert out.is_dir()
