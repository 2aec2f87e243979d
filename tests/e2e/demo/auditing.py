"""Step 16: an auditor, with a key and a trust file and nothing else of ours, checks what happened."""

from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.e2e.demo.stage import Stage, Step, expect, parse_json
from tests.e2e.deployment import SIDECAR_ID
from tests.e2e.processes import run_command, wait_until

_AUDIT_SECONDS = 60.0
_RECEIPT_SECONDS = 15.0


def audit(stage: Stage) -> Step:
    """Step 16."""
    place = stage.deployment.folder / "auditor"
    config = _set_up(stage, place)
    verified = _run(stage, "verify", "--fetch", "-c", config)
    expect(verified["finding_count"] == 0, f"verify found {verified['findings']}")
    replayed = _run(stage, "replay", "-c", config)
    expect((replayed["finding_count"], replayed["differs"]) == (0, 0), f"replay found {replayed['findings']}")
    shown = _explain(stage, config)
    evidence = place / "evidence"
    today = _today()
    exported = _run(
        stage, "evidence", "-c", config, "--from", today, "--to", today, "--out", evidence, "--seed", "demo"
    )
    expect(exported["finding_count"] == 0, f"the evidence has findings: {exported['findings']}")
    public_key = place / "auditor.key.pub"
    checked = _run(stage, "verify-evidence", evidence, "--public-key", public_key)
    expect(checked["finding_count"] == 0, f"verify-evidence found {checked['findings']}")
    count = replayed["same"]
    stage.figures["Decisions decided again from the log, and different"] = f"{count:,} and 0"
    crashes = sum(found["reason"] in ("CRASHED", "TORN_TAIL") for found in verified["findings"])
    return Step(
        [
            (
                f"`consentry-auditor verify`: {verified['log_entries']:,} entries, {verified['journal_heads']} signed heads of"
                f" {verified['chains']} journals and {verified['decisions']:,} records, clean"
            ),
            f"The kill of step 12 is a note ({crashes}), not a finding: the sidecar signed for what its end had left",
            f"`replay`, with keys that the administrator had to hand out, which the log says: {count:,} decisions the same",
            shown,
            f"`evidence`: {exported['files']} signed files by ISO/IEC 27001 control, and a report to print",
        ]
    )


def _set_up(stage: Stage, place: Path) -> Path:
    there, today = stage.deployment, _today()
    sources = ["--feed", there.address("feed-audit"), "--sidecar", f"{SIDECAR_ID}={there.address('sidecar-audit')}"]
    trust = there.site / "trust" / "trust.note"
    made = run_command(
        "consentry-auditor", "init", place, "--trust", trust, "--name", "jane", *sources, environ=there.environ
    )
    expect(made.returncode == 0, f"consentry-auditor init: {made.stderr}")
    options = ("--auditor", place / "auditor.key.pub", "--from", today, "--to", today)
    given = there.run_feed("replay-keys", *options, "--out", place / "audit" / "replay.keys")
    expect(given.returncode == 0, f"consentry-feed replay-keys: {given.stderr}")
    return place / "auditor.yaml"


def _explain(stage: Stage, config: Path) -> str:
    """One answer to one person, as an auditor sees it."""
    assert stage.traced is not None
    assert stage.first_opt_out is not None
    seq, told = stage.first_opt_out.token.seq, dict[str, Any]()

    def is_in_force() -> bool:
        # The killed feed has forgotten what it had not logged; the sidecar has not, and says it again.
        told.update(_run(stage, "trail", seq, "--fetch", "-c", config))
        expect(told["finding_count"] == 0, f"trail found {told['findings']}")
        return bool(told["in_force_everywhere_at_ms"])

    wait_until(is_in_force, "the log has the sidecar's word that the opt-out is in force", _RECEIPT_SECONDS)
    return f"`trail {seq}`: {told['entry_is']}, proven, and in force at every enrolled sidecar"


def _run(stage: Stage, *arguments: Any) -> dict[str, Any]:
    done = run_command(
        "consentry-auditor",
        *map(str, arguments),
        "--json",
        environ=stage.deployment.environ,
        timeout_seconds=_AUDIT_SECONDS,
    )
    expect(done.returncode in (0, 1), f"consentry-auditor {arguments[0]}: {_say(done)}")
    return parse_json(done.stdout, f"consentry-auditor {arguments[0]}")


def _say(done: CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}: {done.stderr.strip()}"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
