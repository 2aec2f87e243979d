"""Steps 1 to 9: a policy, what people say, and what becomes of it."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

from consentry_client import Acceptance, ConsistencyToken, DecidingEvent, Identifier, Proof, email

from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import commit, hash_leaf, leaf_data
from consent.eventlog.proof import verify_inclusion
from hosting.trust_files import load_trust
from tests.e2e.demo.stage import (
    ADA,
    ADAS_ACCOUNT,
    GRACE,
    KATHERINE,
    POLICY_FILE,
    SITUATION,
    Stage,
    Step,
    expect,
    find_suppression_file,
    parse_json,
)
from tests.e2e.deployment import EVIDENCE, ORIGIN, SIDECAR_ID, TENANT
from tests.e2e.processes import run_command

_WAIT_SECONDS = 5.0
_POLL_LIMIT_SECONDS = 10.0


def start(stage: Stage) -> Step:
    """Step 1."""
    there = stage.deployment
    options = ["--tenant", TENANT, "--origin", ORIGIN, "--sidecar", SIDECAR_ID, "--port", str(there.port)]
    _done(run_command("consentry-feed", "init", there.site, *options, environ=there.environ), "consentry-feed init")
    for program in there.programs:
        program.start()
    for program in (there.feed, there.sidecar):
        program.wait_for_line(" listening ")
    there.receiver.wait_for_line("")
    return Step(
        [
            (
                "`consentry-feed init` made keys, a trust file, certificates and settings;"
                f" feed (process {there.feed.pid}), sidecar ({there.sidecar.pid}, with its shipper) and an OTLP receiver run"
            ),
            f"Sidecar and feed meet at 127.0.0.1:{there.port} with mutual TLS; checks go over a Unix socket",
        ]
    )


def publish_policy(stage: Stage) -> Step:
    """Step 2."""
    there = stage.deployment
    done = _done(there.run_feed("policy", "publish", POLICY_FILE, *there.sign_with, "--json"), "policy publish")
    version = parse_json(done.stdout, "policy publish")["version"]
    there.wait_until_ready()
    status = stage.client.status()
    expect(status.policy_version == version == 1, f"the sidecar has policy version {status.policy_version}")
    return Step([f"Policy version {version} is in force at {status.sidecar_id}, which is ready now"])


def import_suppressions(stage: Stage) -> Step:
    """Step 3."""
    there, file = stage.deployment, find_suppression_file()
    people = read_addresses(file)
    stage.identifiers += [person.value for person in people]
    command = ("import", file, "--purpose", "newsletter", "--json")
    dry = parse_json(_done(there.run_feed(*command, "--dry-run"), "import --dry-run", 0, 1).stdout, "import")
    report = parse_json(_done(there.run_feed(*command), "import", 0, 1).stdout, "import")
    counts = {name: report[name] for name in ("recorded", "skipped", "rejected")}
    expect(counts["recorded"] > 0, f"nothing was recorded: {counts}")
    expect(dry["recorded"] == report["recorded"], "the dry run had promised another number")
    everything = ConsistencyToken(ORIGIN, there.feed_status().log_size)
    shown = stage.show(people[0], "newsletter", "DENY OPT_OUT", min_token=everything, wait_seconds=_WAIT_SECONDS)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Step(
        [
            f"{file.name}, as Mailchimp exports it: {told}; a dry run had said the same",
            f"{report['without_zone']} rows had times without a zone, which counted as UTC and were marked",
            shown,
        ]
    )


def allow(stage: Stage) -> Step:
    """Step 4."""
    before = stage.ask(ADA, "newsletter")
    expect(str(before.reason) == "NO_CONSENT_SUBJECT_UNKNOWN", f"before any word of hers: {before.reason}")
    _grant(stage, ADA, "newsletter")
    for purpose in ("newsletter", "product_tips", "loyalty_letters"):
        _grant(stage, GRACE, purpose)
    _grant(stage, KATHERINE, "newsletter")
    token = _grant(stage, KATHERINE, "delivery_updates").token
    shown = [stage.show(ADA, "newsletter", "ALLOW GRANTED", min_token=token, wait_seconds=_WAIT_SECONDS)]
    shown += [stage.show(KATHERINE, purpose, "ALLOW GRANTED") for purpose in ("newsletter", "delivery_updates")]
    return Step([f"Before her consent, Ada, newsletter: {before.effect} {before.reason}", *shown])


def opt_out(stage: Stage) -> Step:
    """Step 5: only the acceptance; the next step starts to count from here."""
    acceptance = stage.web.opt_out(ADA, "newsletter")
    stage.accepted_at = time.perf_counter()
    stage.first_opt_out = acceptance
    return Step([f"In the log, durably, as entry {acceptance.token.seq}; reference {acceptance.request_id}"])


def deny(stage: Stage) -> Step:
    """Step 6."""
    acceptance = stage.first_opt_out
    assert acceptance is not None
    allowed = 0
    while stage.ask(ADA, "newsletter"):
        allowed += 1
        expect(time.perf_counter() - stage.accepted_at < _POLL_LIMIT_SECONDS, "still allowed")
    elapsed_ms = (time.perf_counter() - stage.accepted_at) * 1000
    stage.figures["From acceptance to denial"] = f"{elapsed_ms:.1f} ms"
    shown = stage.show(ADA, "newsletter", "DENY OPT_OUT")
    with_token = stage.ask(ADA, "newsletter", min_token=acceptance.token, wait_seconds=_WAIT_SECONDS)
    expect(with_token.deciding_seq == acceptance.token.seq, f"entry {with_token.deciding_seq} decided")
    return Step(
        [
            f"{shown}, {elapsed_ms:.1f} ms after the acceptance ({allowed} answers in between were still ALLOW)",
            f"Asked with the acceptance's token {acceptance.token}: entry {with_token.deciding_seq} decided",
        ]
    )


def opt_out_of_parent(stage: Stage) -> Step:
    """Step 7."""
    before = stage.ask(GRACE, "newsletter")
    expect(before.allowed, f"before: {before.reason}")
    token = stage.web.opt_out(GRACE, "marketing").token
    options = {"min_token": token, "wait_seconds": _WAIT_SECONDS}
    children = ("newsletter", "product_tips", "loyalty_letters")
    shown = [stage.show(GRACE, purpose, "DENY OPT_OUT_PARENT", **options) for purpose in children]
    return Step(["Grace had consented to three purposes below `marketing`, and opts out of `marketing`", *shown])


def link(stage: Stage) -> Step:
    """Step 8."""
    token = _grant(stage, ADAS_ACCOUNT, "newsletter").token
    before = stage.ask(ADAS_ACCOUNT, "newsletter", min_token=token, wait_seconds=_WAIT_SECONDS)
    expect(before.allowed, f"before: {before.reason}")
    token = stage.accounts.link(ADAS_ACCOUNT, ADA, Proof.AUTHENTICATED, evidence=EVIDENCE).token
    shown = stage.show(ADAS_ACCOUNT, "newsletter", "DENY OPT_OUT", min_token=token, wait_seconds=_WAIT_SECONDS)
    return Step([f"Ada's account, newsletter, before the link: {before.effect} {before.reason}", f"{shown}, after it"])


def explain(stage: Stage) -> Step:
    """Step 9."""
    there = stage.deployment
    address = there.address("sidecar-admin")
    arguments = ("--email", "-", "--purpose", "newsletter", "--jurisdiction", "DE", "--explain", "--json")
    done = run_command("consentry", "check", *arguments, "--address", address, given=ADA.value, environ=there.environ)
    told = parse_json(_done(done, "consentry check --explain", 1).stdout, "consentry check --explain")
    stage.decision_ids.add(told["decision_id"])
    fired = [rule["rule"] for rule in told["rules"] if rule["fired"]]
    expect((told["effect"], told["reason"], fired) == ("DENY", "OPT_OUT", [11]), f"explained as {told['reason']}")
    with there.client("sidecar-admin") as admin:
        explanation = admin.explain(ADA, "newsletter", context=SITUATION)
    stage.decision_ids.add(str(explanation.decision.decision_id))
    event = explanation.deciding_event
    expect(event is not None and event.seq == told["deciding_seq"], "the deciding event did not come")
    assert event is not None
    verify_proof(stage, event)
    rules = ", ".join(str(rule["rule"]) for rule in told["rules"])
    return Step(
        [
            (
                f"`consentry check --explain`: {told['effect']} {told['reason']}; rules {rules} were tried, rule 11 fired:"
                f" {told['rules'][-1]['note']}"
            ),
            (
                f"Entry {event.seq} decided; its proof of {len(event.inclusion_proof)} hashes leads to the root of the"
                f" {event.tree_size} entries that the log's keys have signed: checked here, with the trust file alone"
            ),
        ]
    )


def verify_proof(stage: Stage, event: DecidingEvent) -> None:
    """Check the proof as an outsider would: from the event's bytes to a root that trusted keys have signed.

    Raises:
        EventLogError: It does not hold.
    """
    trust_folder = stage.deployment.site / "trust"
    trust = load_trust(trust_folder / "trust.note", trust_folder / "root.pub")
    signed = verify_checkpoint(event.checkpoint, trust, None).checkpoint
    leaf_hash = hash_leaf(leaf_data(event.event_bytes[1], commit(event.opening, event.event_bytes)))
    expect((signed.size, signed.root_hash) == (event.tree_size, event.root_hash), "the checkpoint is of another tree")
    verify_inclusion(leaf_hash, event.seq - 1, event.tree_size, event.inclusion_proof, event.root_hash)


def read_addresses(file: Path) -> list[Identifier]:
    """The e-mail addresses of a Mailchimp export; what is none is left out."""
    with file.open(encoding="utf-8-sig", newline="") as table:
        header, *rows = csv.reader(table)
    column = header.index("Email Address")
    return [email(row[column]) for row in rows if "@" in row[column]]


def _grant(stage: Stage, person: Identifier, purpose: str) -> Acceptance:
    return stage.accounts.grant(person, purpose, proof=Proof.DOUBLE_OPT_IN, notice_version=1, evidence=EVIDENCE)


def _done(done: CompletedProcess[str], what: str, *codes: int) -> CompletedProcess[str]:
    allowed: Sequence[int] = codes or (0,)
    expect(done.returncode in allowed, f"{what}: exit code {done.returncode}: {done.stderr.strip()}")
    return done
