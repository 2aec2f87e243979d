"""Collecting: one pass over everything in the audit folder, then what is known about the whole."""

from collections.abc import Mapping
from typing import NamedTuple

from auditor.evidence.certificates import add_certificates
from auditor.evidence.collectors.access import AccessCollector
from auditor.evidence.collectors.deletion import DeletionCollector
from auditor.evidence.collectors.duties import DutiesCollector
from auditor.evidence.collectors.enforcement import EnforcementCollector
from auditor.evidence.collectors.heads import HeadsCollector
from auditor.evidence.collectors.interruptions import InterruptionsCollector
from auditor.evidence.collectors.key_register import KeyCollector
from auditor.evidence.collectors.privacy import PrivacyCollector
from auditor.evidence.collectors.records import RecordsCollector
from auditor.evidence.collectors.settings import SettingsCollector
from auditor.evidence.events import Collector
from auditor.evidence.integrity import add_journal_integrity, add_log_integrity, known_until_ms, run_checks
from auditor.evidence.model import Report
from auditor.evidence.reading import LogRead, prove_entries, read_journals, read_log
from auditor.evidence.samples import CHECKPOINT, HEAD_SAMPLES, LOG_SAMPLES, format_head_samples, format_log_samples
from auditor.evidence.scan import scan_folder
from auditor.evidence.scope import Scope
from auditor.evidence.supplied import add_supplied
from auditor.findings import Finding
from auditor.folder import AuditFolder
from auditor.progress import Progress


class Collected(NamedTuple):
    """What the audit folder and the supplied files say.

    Attributes:
        report: All sections.
        log: What the pass over the log leaves.
        files: Samples, the checkpoint and supplied files, by path in the evidence folder.
    """

    report: Report
    log: LogRead
    files: Mapping[str, bytes]


def collect_evidence(folder: AuditFolder, scope: Scope, progress: Progress) -> Collected:
    """Collect everything that an export says.

    Plan: 1. read log and journals once; 2. integrity, checks, supplied files; 3. search the files; 4. samples with their proofs.

    Raises:
        AuditorError: The audit folder, or something given, cannot be read.
    """
    report = Report(scope.finder)
    checkpoint_note = folder.log.checkpoint_note()
    # 1. One pass over everything.
    heads, records = HeadsCollector(scope), RecordsCollector(scope)
    enforcement = EnforcementCollector(scope, known_until_ms(scope, checkpoint_note))
    collectors: list[Collector] = [
        DutiesCollector(scope), SettingsCollector(scope), AccessCollector(scope), enforcement, InterruptionsCollector(scope),
        heads, DeletionCollector(scope), KeyCollector(scope), PrivacyCollector(scope), records,
    ]  # fmt: skip
    log = read_log(folder, scope.period, collectors, progress)
    journals = read_journals(folder, scope.period, collectors, progress)
    for collector in collectors:
        collector.write(report)
    # 2. What is known about the whole.
    add_log_integrity(report, scope, log, checkpoint_note)
    add_journal_integrity(report, journals)
    run_checks(report, scope, folder)
    files = add_supplied(report, scope)
    add_certificates(report, scope)
    # 3. The audit folder as it lies on the disk.
    _search_folder(report, scope, folder, progress)
    # 4. What was drawn.
    files |= _sample_files(report, scope, folder, log, heads, records)
    files[CHECKPOINT] = checkpoint_note
    return Collected(report, log, files)


def _sample_files(
    report: Report, scope: Scope, folder: AuditFolder, log: LogRead, heads: HeadsCollector, records: RecordsCollector
) -> dict[str, bytes]:
    """Every sampled entry with its proof, those that sections drew too."""
    entries = sorted(records.entries.drawn(), key=lambda row: int(row[0] or 0))
    seqs = {int(row[0] or 0) for row in entries}
    for section in report:
        for table in section.samples:
            if table.columns[0] == "seq":
                seqs |= {int(row[0] or 0) for row in table.rows}
    proven = prove_entries(folder, seqs, log.size)
    section = report["8.15"]
    section.add_sample(
        "log-entries",
        f"Entries of the log, {records.entries.describe()} drawn by the seed, and {len(proven)} with the samples of other "
        f"sections: inclusion proofs in {LOG_SAMPLES}",
        ("seq", "type", "about"),
        entries,
    )
    drawn = heads.sample.drawn()
    columns = ("seq", "sidecar_id", "chain", "number", "kind", "time", "decisions")
    section.add_sample(
        "journal-heads",
        f"Signed journal heads, {heads.sample.describe()} drawn by the seed: signatures in {HEAD_SAMPLES}",
        columns,
        ([head[name] for name in columns] for head in drawn),
    )
    return {
        LOG_SAMPLES: format_log_samples(proven, log.size, log.root_hash),
        HEAD_SAMPLES: format_head_samples(scope.trust.origin, drawn),
    }


def _search_folder(report: Report, scope: Scope, folder: AuditFolder, progress: Progress) -> None:
    section = report["5.34_8.11"]
    rows = list(scan_folder(folder.path, scope.finder, progress))
    section.add_source(
        "search: every file of the audit folder, its name too; every file made for this evidence before it was signed"
    )
    section.add_table("found-in-files", "Found in files of the audit folder", ("file", "what", "times"), rows)
    for path, kind, _ in rows:
        section.add_finding(Finding("IDENTIFIER_IN_CLEAR", f"{kind} in clear in a file", place=path))
    section.add_figure("files made for this evidence in which something was found", 0)
