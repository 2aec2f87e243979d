"""5.33: the log's tree against its signed checkpoint; 5.35, 5.36: the checks that were run over the same folder."""

from typing import Final

from auditor.errors import AuditorError
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time
from auditor.evidence.reading import JournalsRead, LogRead
from auditor.evidence.scope import Scope
from auditor.findings import Finding, Severity
from auditor.folder import AuditFolder
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.errors import EventLogError

RECORDS, REVIEWS = "5.33", "5.35_5.36"
CHECK_NAMES: Final = ("verify", "replay", "reconcile")
_INDISPENSABLE: Final = "verify"
_MAX_FINDINGS: Final = 200


def known_until_ms(scope: Scope, checkpoint_note: bytes) -> int:
    """Up to when the copy of the log can say that something has *not* happened, Unix ms: its checkpoint's time, or the export's."""
    try:
        return min(verify_checkpoint(checkpoint_note, scope.trust, None).time_ms, scope.generated_at_ms)
    except EventLogError:
        return scope.generated_at_ms


def add_log_integrity(report: Report, scope: Scope, log: LogRead, checkpoint_note: bytes) -> None:
    """Compare the root of all entries with the one that log and cosigners have signed."""
    section = report[RECORDS]
    section.add_source(
        f"copy of the event log: {log.size} entries, complete; its newest signed checkpoint; the trust file"
    )
    section.add_figure("entries of the log", log.size)
    section.add_figure("root of all entries, SHA-256", log.root_hash.hex())
    for finding in log.findings[:_MAX_FINDINGS]:
        section.add_finding(finding)
    try:
        verified = verify_checkpoint(checkpoint_note, scope.trust, None)
    except EventLogError as error:
        text = "the newest checkpoint of the copy is not signed as the trust file demands"
        section.add_finding(Finding(error.reason, text))
        section.add_figure("root equals that of the signed checkpoint", "not checked")
        return
    is_equal = (verified.checkpoint.size, verified.checkpoint.root_hash) == (log.size, log.root_hash)
    section.add_figure("checkpoint signed at", format_time(verified.time_ms))
    section.add_figure("cosigned by", ", ".join(verified.cosigner_names))
    section.add_figure("root equals that of the signed checkpoint", "yes" if is_equal else "no")
    if not is_equal:
        section.add_finding(
            Finding("LOG_ROOT_DIFFERS", "the entries are not those that the signed checkpoint commits to")
        )
    if verified.time_ms < scope.period.end_ms:
        text = "the copy of the log ends before the period does"
        section.add_finding(Finding("PERIOD_NOT_COVERED", text, Severity.NOTE, place=format_time(verified.time_ms)))


def add_journal_integrity(report: Report, journals: JournalsRead) -> None:
    """What of the journals could be read."""
    section = report[RECORDS]
    section.add_source(f"journals: {journals.segments} segments in the audit folder, complete")
    section.add_figure("segments that could be opened", journals.segments - journals.unopened)
    section.add_figure("segments without a key", journals.unopened)
    for finding in journals.findings[:_MAX_FINDINGS]:
        section.add_finding(finding)
    if journals.unopened:
        text = f"Decisions in {journals.unopened} segments: no key opens them"
        report["8.15"].add_open(text, "whoever operates the sidecars: segment keys sealed to this auditor")
    if not journals.segments:
        report["8.15"].add_open("Decisions: the audit folder holds no journal", "whoever operates the sidecars")


def run_checks(report: Report, scope: Scope, folder: AuditFolder) -> None:
    """Run the checks at hand over the folder; one that is not at hand, or could not be done, is said so."""
    section = report[REVIEWS]
    rows = list[tuple[Cell, ...]]()
    for name in CHECK_NAMES:
        check = scope.checks.get(name)
        if check is None:
            section.add_open(
                f"Result of {name}: it was not part of this export", f"an auditor: consentry-auditor {name}"
            )
            continue
        try:
            findings = list(check(folder))
        except AuditorError as error:
            text = f"{name} could not be done: {error.reason}"
            # What the others need, such as replay keys, an auditor may rightly lack; the files must verify.
            severity = Severity.FINDING if name == _INDISPENSABLE else Severity.NOTE
            section.add_finding(Finding("CHECK_NOT_DONE", text, severity))
            section.add_open(f"Result of {name}: {text}", f"an auditor: consentry-auditor {name}")
            rows.append((name, "not done", None, None))
            continue
        serious = sum(finding.severity is Severity.FINDING for finding in findings)
        rows.append((name, "done", serious, len(findings) - serious))
        target = report[RECORDS] if name == "verify" else section
        for finding in findings[:_MAX_FINDINGS]:
            target.add_finding(finding)
        if len(findings) > _MAX_FINDINGS:
            text = f"{len(findings) - _MAX_FINDINGS} further findings of {name} are not listed"
            target.add_finding(Finding("MORE_FINDINGS", text))
    if rows:
        section.add_source("this export: checks that were run over the same audit folder")
    section.add_table("checks", "Checks run for this evidence", ("check", "state", "findings", "notes"), rows)
