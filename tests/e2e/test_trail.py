"""From a request to proof: an opt-out's trail, verified from files alone, whatever was killed on the way."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import SIDECAR_ID, Deployment, change_settings, short_folder
from tests.e2e.people import make_person
from tests.e2e.processes import run_command, wait_until

POLICY_FILE = Path(__file__).with_name("policy.yaml")


@pytest.fixture
def fresh() -> Iterator[Deployment]:
    """A deployment of its own with a policy in force; nothing is exported."""
    with short_folder("trail") as folder, Deployment(folder) as running:
        running.set_up()
        change_settings(running.feed_settings, {"event_log.resign_seconds": 0.5, "event_log.receipts_seconds": 0.3})
        change_settings(running.sidecar_settings, {"feed.backoff_most_ms": 300, "journal.ship": False})
        running.start_feed()
        running.publish(POLICY_FILE)
        running.start_sidecar()
        running.wait_until_ready()
        yield running


def opt_out(deployment: Deployment) -> int:
    with deployment.patient_intake("intake-web") as intake:
        return intake.opt_out(make_person(), "marketing").token.seq


def ask_trail(deployment: Deployment, seq: int) -> dict[str, Any]:
    asked = deployment.run_feed("trail", str(seq), "--json")
    assert asked.returncode == 0, asked.stderr
    trail: dict[str, Any] = json.loads(asked.stdout)
    return trail


def wait_until_everywhere(deployment: Deployment, seq: int, names: list[str]) -> None:
    def is_everywhere() -> bool:
        trail = ask_trail(deployment, seq)
        known = [sidecar["sidecar_id"] for sidecar in trail["sidecars"]]
        return known == names and trail["in_force_everywhere_at_ms"] is not None

    wait_until(is_everywhere, f"entry {seq} is in force at {names}", timeout_seconds=40)


def verify(deployment: Deployment, file: Path) -> subprocess.CompletedProcess[str]:
    trust = deployment.site / "trust"
    arguments = ("verify-trail", file, "--trust", trust / "trust.note", "--root-key", trust / "root.pub", "--json")
    return run_command("consentry-feed", *arguments, environ=deployment.environ)


@pytest.mark.long(seconds=20)
def test_opt_out_is_proven_in_force_at_two_sidecars_from_files_alone(fresh: Deployment) -> None:
    second = fresh.add_sidecar("sidecar-2").start()
    fresh.wait_until_ready("sidecar-2", second)
    seq = opt_out(fresh)
    wait_until_everywhere(fresh, seq, [SIDECAR_ID, "sidecar-2"])
    file = fresh.folder / "trail.json"
    assert fresh.run_feed("trail", str(seq), "--out", file).returncode == 0
    fleet = json.loads(fresh.run_feed("fleet", "--json").stdout)
    assert fleet["size_in_force_everywhere"] >= seq
    assert fresh.run_feed("sidecars", "retire", "sidecar-2").returncode == 0
    assert [each["sidecar_id"] for each in ask_trail(fresh, seq)["sidecars"]] == [SIDECAR_ID]
    assert (second.stop(), fresh.feed.stop(), fresh.sidecar.stop()) == (0, 0, 0)

    proven = verify(fresh, file)
    assert proven.returncode == 0, proven.stderr
    trail = json.loads(proven.stdout)
    assert (trail["seq"], trail["type"]) == (seq, "DIRECTIVE")
    times = [sidecar["applied_at_ms"] for sidecar in trail["sidecars"]]
    assert len(times) == 2
    assert trail["received_at_ms"] <= max(times) == trail["in_force_everywhere_at_ms"]

    changed = file.with_name("changed.json")
    changed.write_bytes(file.read_bytes().replace(b'"sidecar_id":"sidecar-2"', b'"sidecar_id":"sidecar-3"'))
    refused = verify(fresh, changed)
    assert (refused.returncode, "INVALID_TRAIL" in refused.stderr) == (1, True)
    assert verify(fresh, file.with_name("nowhere.json")).returncode == 2


@pytest.mark.long(seconds=25)
@pytest.mark.parametrize("victim", ["feed", "sidecar"])
def test_kill_right_after_an_opt_out_costs_no_receipt(fresh: Deployment, victim: str) -> None:
    program = {"feed": fresh.feed, "sidecar": fresh.sidecar}[victim]
    seqs = []
    for _ in range(5):
        seqs.append(opt_out(fresh))
        program.kill()
        program.start().wait_for_line(" listening ")
    for seq in seqs:
        wait_until_everywhere(fresh, seq, [SIDECAR_ID])
    file = fresh.folder / "trail.json"
    assert fresh.run_feed("trail", str(seqs[0]), "--out", file).returncode == 0
    assert verify(fresh, file).returncode == 0


@pytest.mark.long(seconds=15)
def test_sidecar_without_a_token_is_approved_by_its_key_and_then_counts(fresh: Deployment) -> None:
    second = fresh.add_sidecar("sidecar-2", {"enrolment_token_file": None}).start()
    fresh.wait_until_ready("sidecar-2", second)
    seq = opt_out(fresh)
    wait_until_everywhere(fresh, seq, [SIDECAR_ID])
    listed = json.loads(fresh.run_feed("sidecars", "list", "--json").stdout)["sidecars"]
    (waiting,) = [each for each in listed if each["enrolment"] == "PENDING"]
    wrong = fresh.run_feed("sidecars", "approve", "sidecar-2", "--key-id", "00000000")
    assert (wrong.returncode, "SIDECAR_UNKNOWN" in wrong.stderr) == (1, True)
    key_id = waiting["waiting_key_id"]
    assert fresh.run_feed("sidecars", "approve", "sidecar-2", "--key-id", key_id).returncode == 0
    wait_until_everywhere(fresh, seq, [SIDECAR_ID, "sidecar-2"])
