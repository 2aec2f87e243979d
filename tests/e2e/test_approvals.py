"""A policy and the people who approve it, with the programs as operators run them."""

from pathlib import Path

from tests.e2e.deployment import ORIGIN, Deployment, short_folder
from tests.e2e.processes import run_command

POLICY_FILE = Path(__file__).with_name("policy.yaml")


def test_policy_is_refused_without_two_people_and_taken_with_their_approvals() -> None:
    with short_folder("approve") as folder, Deployment(folder) as there:
        there.set_up()
        there.start_feed()
        first, second = there.approver_keys
        refused = there.run_feed("policy", "publish", POLICY_FILE, "--sign-with", first)
        assert (refused.returncode, "1 of the 2 approvers" in refused.stderr) == (1, True)
        assert there.feed_status().policy_version == 0
        approvals: list[str | Path] = []
        for key in (first, second):
            approval = folder / f"{key.stem}.approval"
            trust = (
                "--trust-file",
                there.site / "trust" / "trust.note",
                "--root-key-file",
                there.site / "trust" / "root.pub",
            )
            options = ("--key", key, *trust, "--out", approval, "--yes")
            done = run_command("consentry-feed", "policy", "approve", POLICY_FILE, *options, environ=there.environ)
            assert done.returncode == 0, done.stderr
            assert f"log {ORIGIN}" in done.stderr
            approvals += ["--approval", approval]
        done = there.run_feed("policy", "publish", POLICY_FILE, *approvals)
        assert done.returncode == 0, done.stderr
        assert there.feed_status().policy_version == 1
