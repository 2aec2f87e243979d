"""What each section of the evidence says, on small logs and journals whose truth is known."""

from dataclasses import replace
from pathlib import Path

import pytest

from auditor.errors import FolderUnusable
from auditor.evidence.collection import collect_evidence
from auditor.evidence.model import Cell, Report
from auditor.findings import Finding
from auditor.folder import AuditFolder
from auditor.progress import no_progress
from auditor.verify import verify_folder
from consent.event import DirectiveFlag, EnrolEvent, JournalHeadsEvent, OverrideEvent
from consent.eventlog.acknowledgement import Receipt, sign_ack
from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode
from consent.vocabulary.directive import Kind
from journal.access import AccessNote, format_access
from journal.format import FrameKind
from tests.fakes.audit_material import AUDITOR, JournalBuilder, log_heads, sidecar_key, write_folder
from tests.fakes.evidence_material import (
    DAY_MS,
    SETTINGS,
    EvidenceLog,
    build_folder,
    scope_of,
    start_frame,
)
from tests.fakes.journal_material import make_record
from tests.fakes.log_builder import START_MS, token_of

Rows = list[tuple[Cell, ...]]


@pytest.fixture
def made() -> EvidenceLog:
    log = EvidenceLog()
    log.log.now_ms = START_MS + 31 * DAY_MS
    return log


def export(tmp_path: Path, made: EvidenceLog, **fields: object) -> Report:
    folder = write_folder(tmp_path / "folder", made.log)
    return collect_evidence(folder, scope_of(folder, **fields), no_progress).report


def figure(report: Report, slug: str, label: str) -> Cell:
    return {found.label: found.value for found in report[slug].figures}[label]


def rows(report: Report, slug: str, name: str) -> Rows:
    section = report[slug]
    return list(next(table.rows for table in (*section.tables, *section.samples) if table.name == name))


def reasons(report: Report) -> list[str]:
    return [finding.reason for finding in report.findings()]


def test_enforcement_measures_each_opt_out_to_the_last_of_the_sidecars_enrolled_then(
    tmp_path: Path, made: EvidenceLog
) -> None:
    made.enrol("pod-1")
    made.enrol("pod-2")
    made.request("a", START_MS)
    made.request("b", START_MS + 1000, kind=int(Kind.OBJECT))
    made.acknowledge("pod-1", START_MS + 1500)
    made.enrol("pod-3", START_MS + 2000)
    made.acknowledge("pod-2", START_MS + 4000)
    report = export(tmp_path, made)
    assert figure(report, "5.31", "in force at every sidecar") == 2
    assert rows(report, "5.31", "percentiles") == [("other opt-outs", 1, 4, 4, 4, 4), ("objections", 1, 3, 3, 3, 3)]
    assert [(row[0], row[3]) for row in rows(report, "5.31", "slowest")] == [(4, 4), (6, 3)]


def test_enforcement_counts_no_grant_no_import_and_nothing_from_outside_the_period(
    tmp_path: Path, made: EvidenceLog
) -> None:
    made.enrol("pod-1")
    made.request("a", START_MS, kind=int(Kind.GRANT))
    made.request("b", START_MS, flags=int(DirectiveFlag.IMPORTED))
    made.request("c", START_MS - 1)
    made.request("d", START_MS + 31 * DAY_MS)
    made.acknowledge("pod-1", START_MS + 31 * DAY_MS)
    assert figure(export(tmp_path, made), "5.31", "in force at every sidecar") == 0


def test_enforcement_names_who_lacks_an_opt_out_and_finds_it_once_the_deadline_is_over(
    tmp_path: Path, made: EvidenceLog
) -> None:
    made.enrol("pod-1")
    made.enrol("pod-2")
    seq = made.request("a", START_MS)
    made.acknowledge("pod-1", START_MS + 100)
    folder = write_folder(tmp_path / "folder", made.log)

    def look(days: float) -> Report:
        scope = scope_of(folder, generated_at_ms=START_MS + int(days * DAY_MS))
        return collect_evidence(folder, scope, no_progress).report

    # 2026-01-01 is a Thursday: the tenth business day after it is the 15th, and its end the 16th.
    early, late = look(14.99), look(15)
    assert rows(early, "5.31", "pending") == [(seq, "2026-01-01 00:00:00Z", "pod-2")]
    assert "OPT_OUT_OVERDUE" not in reasons(early)
    assert "OPT_OUT_OVERDUE" in reasons(late)


def test_enforcement_calls_nothing_overdue_that_may_have_come_after_the_end_of_the_copy(
    tmp_path: Path, made: EvidenceLog
) -> None:
    made.enrol("pod-1")
    made.request("a", START_MS)
    made.log.now_ms = START_MS + 14 * DAY_MS
    report = export(tmp_path, made)
    assert figure(report, "5.31", "not yet acknowledged by every sidecar") == 1
    assert reasons(report) == ["NO_HEADS", "PERIOD_NOT_COVERED"]


def test_enforcement_after_a_retirement_waits_for_the_others_only(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    made.enrol("pod-2")
    made.request("a", START_MS)
    made.acknowledge("pod-1", START_MS + 100)
    made.retire("pod-2", START_MS + 5000)
    report = export(tmp_path, made)
    assert rows(report, "5.31", "percentiles")[0] == ("other opt-outs", 1, 0.1, 0.1, 0.1, 0.1)


def test_enforcement_after_the_deadline_is_a_finding(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    made.request("a", START_MS)
    made.acknowledge("pod-1", START_MS + 15 * DAY_MS)
    report = export(tmp_path, made)
    assert figure(report, "5.31", "in force after the deadline") == 1
    assert "OPT_OUT_LATE" in reasons(report)


def test_enforcement_believes_no_receipt_that_another_key_signed(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    made.request("a", START_MS)
    forged = sign_ack(sidecar_key("pod-2"), made.log.origin, made.size, bytes(32), START_MS + 1)
    made.add_receipts(replace(forged, sidecar_id="pod-1"))
    report = export(tmp_path, made)
    assert figure(report, "5.31", "in force at every sidecar") == 0
    assert "RECEIPT_NOT_AUTHENTIC" in reasons(report)


def test_enforcement_that_lets_go_of_what_is_finished_counts_all(
    tmp_path: Path, made: EvidenceLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditor.evidence.collectors.enforcement._COMPACT_AFTER", 8)
    made.enrol("pod-1")
    made.enrol("pod-2")
    for start in range(0, 100, 10):
        for number in range(start, start + 10):
            made.request("a", START_MS + number)
        made.acknowledge("pod-1", START_MS + 1000)
        made.acknowledge("pod-2", START_MS + 10_000, size=made.size - 5)
    made.acknowledge("pod-2", START_MS + 20_000)
    report = export(tmp_path, made)
    assert figure(report, "5.31", "in force at every sidecar") == 100
    delays = [row[3] for row in rows(report, "5.31", "slowest")]
    assert [delay for delay in delays if isinstance(delay, float) and delay > 15]


def test_duties_without_approvals_is_a_finding_that_names_the_entry(tmp_path: Path, made: EvidenceLog) -> None:
    made.request("a", START_MS)
    override = OverrideEvent(
        origin=made.log.origin,
        token=token_of("a"),
        objection_seq=1,
        occurred_at_ms=START_MS,
        purpose="analytics",
        ground="x",
    )
    made.log.append(override, override)
    last = made.log.entries[-1]
    made.log.entries[-1] = replace(last, attestations=last.attestations[:1])
    report = export(tmp_path, made)
    approvals = rows(report, "5.3", "approvals")
    assert [row[5:] for row in approvals] == [
        ("approver.example/ada, approver.example/grace", "enough approvers"),
        ("approver.example/ada", "APPROVALS_MISSING"),
    ]
    (finding,) = [finding for finding in report.findings() if finding.reason == "APPROVALS_MISSING"]
    assert finding.place == "seq 4"


def test_duties_of_an_actor_with_two_roles_are_not_separated(tmp_path: Path, made: EvidenceLog) -> None:
    made.admin("s/ReadLog", START_MS, role="AUDITOR", actor="carol.example")
    made.admin("s/EraseSubject", START_MS, "ROLE_NOT_PERMITTED", actor="carol.example")
    assert "DUTIES_NOT_SEPARATED" not in reasons(export(tmp_path / "refused", made))
    made.admin("s/EraseSubject", START_MS, actor="carol.example")
    assert "DUTIES_NOT_SEPARATED" in reasons(export(tmp_path / "done", made))


def test_access_counts_refused_and_privileged_calls_apart(tmp_path: Path, made: EvidenceLog) -> None:
    made.admin("s/BackUpLog", START_MS - 1)
    made.admin("s/EraseSubject", START_MS, "ROLE_NOT_PERMITTED", role="SOURCE", actor="shop", count=41)
    made.admin("s/EraseSubject", START_MS, "ROLE_NOT_PERMITTED", role="SOURCE", actor="shop")
    made.admin("s/ReadLog", START_MS, role="AUDITOR", actor="auditor.example", detail="audit of January")
    made.reject("shop", START_MS)
    report = export(tmp_path, made)
    refused = [("s/EraseSubject", "SOURCE", "shop", "ROLE_NOT_PERMITTED", 42)]
    assert rows(report, "5.15_8.3", "refused-calls")[:1] == refused
    assert rows(report, "5.15_8.3", "refused-requests") == [("shop", "CALLER_NOT_PERMITTED", 1)]
    assert figure(report, "8.2_8.5", "privileged calls that succeeded") == 1
    readers = rows(report, "8.15", "readers")
    assert [(row[2], row[4], row[7]) for row in readers] == [("s/ReadLog", "auditor.example", "audit of January")]


def test_access_to_segment_keys_is_shown_as_the_journal_notes_it(tmp_path: Path, made: EvidenceLog) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    note = AccessNote(START_MS, "auditor.example", "jane", bytes(32), 7)
    journal.write_frame(bytes((FrameKind.ACCESS,)) + format_access(note))
    (row,) = rows(export(tmp_path, made), "8.15", "key-accesses")
    assert (row[0], *row[2:]) == ("pod-1", "2026-01-01 00:00:00Z", "auditor.example", "jane", "00" * 32, 7)


def test_identities_follow_enrolment_new_keys_and_retirement(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1", START_MS - 1)
    made.enrol("pod-1", START_MS)
    made.enrol("pod-2", START_MS)
    made.retire("pod-1", START_MS)
    report = export(tmp_path, made)
    identities = [row[2:] for row in rows(report, "5.16-5.18", "identities")]
    assert identities == [("pod-1", "new key"), ("pod-2", "enrolled"), ("pod-1", "retired")]
    assert [(row[0], row[4]) for row in rows(report, "8.24", "sidecar-keys")] == [
        ("pod-1", 2),
        ("pod-1", 4),
        ("pod-2", None),
    ]


def test_entries_that_no_honest_feed_logs_do_not_end_the_export(tmp_path: Path, made: EvidenceLog) -> None:
    enrolment = EnrolEvent(
        origin=made.log.origin, sidecar_id="a b+", public_key=bytes(32), enrolled_at_ms=-(2**63), possession=bytes(64)
    )
    made.log.append(enrolment)
    made.request("a", START_MS)
    made.add_receipts(Receipt("a b+", 3, bytes(32), bytes(32), 2**63 - 1, bytes(64)))
    head = replace(sample_head(), sidecar_id="a b+", at_ms=2**63 - 1)
    log_heads(made.log, [head], 2**63 - 1)
    made.admin("\x00\u202e", 2**63 - 1, "\ud7ff")
    found = reasons(export(tmp_path, made))
    assert {"RECEIPT_NOT_AUTHENTIC", "HEAD_NOT_AUTHENTIC"} <= set(found)


def sample_head() -> JournalHead:
    return JournalHead(
        sidecar_id="pod-1",
        chain_id=bytes(16),
        number=0,
        kind=HeadKind.PERIODIC,
        at_ms=START_MS,
        segment=0,
        frame=0,
        chain_hash=bytes(32),
        decisions=0,
    )


def log_two_heads(
    tmp_path: Path, made: EvidenceLog, seconds: int, kind: HeadKind = HeadKind.PERIODIC
) -> JournalBuilder:
    """A sidecar with two heads that lie so far apart; the first one has the kind."""
    made.enrol("pod-1")
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write([make_record(1)])
    first = journal.head(kind=kind, at_ms=START_MS)
    journal.write([make_record(2), make_record(3)])
    at_ms = START_MS + seconds * 1000
    second = journal.head(at_ms=at_ms)
    log_heads(made.log, [first, second], at_ms + 200)
    return journal


@pytest.mark.parametrize(
    ("seconds", "kind", "explanation", "is_finding"),
    [
        (300, HeadKind.PERIODIC, None, False),
        (301, HeadKind.PERIODIC, "no word", True),
        (301, HeadKind.FINAL, "stopped in order", False),
    ],
)
def test_heads_that_lie_far_apart_are_a_gap_unless_the_sidecar_had_stopped(
    tmp_path: Path, made: EvidenceLog, seconds: int, kind: HeadKind, explanation: str | None, is_finding: bool
) -> None:
    log_two_heads(tmp_path, made, seconds, kind)
    report = export(tmp_path, made)
    assert [row[4] for row in rows(report, "8.15", "gaps")] == ([explanation] if explanation else [])
    assert ("HEADS_SILENT" in reasons(report)) == is_finding
    assert figure(report, "8.6", "decisions in the busiest hour") == 3


def test_heads_of_an_honest_crash_are_no_finding(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    old = JournalBuilder(tmp_path / "folder", made.log.origin, chain_name="old")
    log_heads(made.log, [old.head(at_ms=START_MS)], START_MS)
    new = JournalBuilder(tmp_path / "folder", made.log.origin, chain_name="new")
    later = START_MS + DAY_MS
    recovery = old.head(kind=HeadKind.RECOVERY, at_ms=later, torn_bytes=9)
    log_heads(made.log, [new.head(at_ms=later), recovery], later)
    report = export(tmp_path, made)
    assert [row[4] for row in rows(report, "8.15", "gaps")] == ["crash, recovered at the next start"]
    assert [row[4] for row in rows(report, "5.24-5.30", "crashes")] == [9]
    assert reasons(report) == []


def test_heads_that_fork_go_back_or_are_forged_are_findings(tmp_path: Path, made: EvidenceLog) -> None:
    journal = log_two_heads(tmp_path, made, 10)
    first, second = journal.heads
    forked = journal.head(previous_head_hash=bytes(32), at_ms=second.at_ms)
    forged = replace(journal.head(at_ms=second.at_ms), decisions=99)
    log_heads(made.log, [forked, first, forged], second.at_ms)
    assert reasons(export(tmp_path, made)) == ["HEAD_FORKED", "HEAD_GOES_BACK", "HEAD_NOT_AUTHENTIC"]


def test_heads_tell_weak_modes_and_answers_without_record(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    made.enrol("pod-2")
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    head = journal.head(at_ms=START_MS, weakest_mode=WeakestMode.ASYNC, unrecorded=7)
    log_heads(made.log, [head], START_MS)
    report = export(tmp_path, made)
    assert rows(report, "8.9_8.32", "weak-modes") == [("pod-1", journal.chain_id.hex(), "async")]
    assert rows(report, "8.9_8.32", "unrecorded") == [("pod-1", 7)]
    assert sorted(reasons(report)) == ["ANSWERED_WITHOUT_RECORD", "NO_HEADS", "WEAK_MODE"]


def test_clocks_show_offsets_and_find_one_that_is_ahead(tmp_path: Path, made: EvidenceLog) -> None:
    made.enrol("pod-1")
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    for offset in (300, -1500, 900):
        head = journal.head(at_ms=START_MS + 10_000)
        made.log.append(
            JournalHeadsEvent(origin=made.log.origin, received_at_ms=START_MS + 10_000 + offset, heads=(head,))
        )
    report = export(tmp_path, made)
    assert rows(report, "8.17", "offsets") == [("pod-1", 3, -1.5, 0.3, 0.9)]
    assert "CLOCK_AHEAD" in reasons(report)


def test_settings_show_what_changed_between_starts(tmp_path: Path, made: EvidenceLog) -> None:
    later = {**SETTINGS, "feed": {"address": "feed.example:7700"}}
    for name, settings in (("a", SETTINGS), ("b", later)):
        journal = JournalBuilder(tmp_path / "folder", made.log.origin, chain_name=name)
        journal.write_frame(start_frame(settings=settings))
    report = export(tmp_path, made)
    (change,) = rows(report, "8.9_8.32", "changes")
    assert change[2] == "feed.tls.cert_file"
    assert "/etc/consentry/pod.pem" in change[3:]
    assert ("pod-1", "listeners.0.callers.0.purposes", "analytics") in rows(report, "8.9_8.32", "settings")


def test_settings_on_tcp_without_tls_are_a_finding(tmp_path: Path, made: EvidenceLog) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write_frame(start_frame(settings={"feed": {"address": "feed.example:7700"}}))
    assert "NO_TLS" in reasons(export(tmp_path, made))


def test_settings_show_weak_modes_and_when_certificates_end(tmp_path: Path, made: EvidenceLog) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write_frame(start_frame())
    weak: dict[str, object] = {"mode": "async", "on_unavailable": "allow_and_count", "at_ms": START_MS + DAY_MS}
    certificate: dict[str, object] = {"use": "feed", "sha256": "00" * 32, "not_after_ms": START_MS + 90 * DAY_MS}
    journal.write_frame(start_frame("0.1.0", SETTINGS, **weak, certificates=[certificate]))
    report = export(tmp_path, made)
    changes = {row[2]: row[3:] for row in rows(report, "8.9_8.32", "changes")}
    assert changes["mode"] == ("group", "async")
    assert "at_ms" not in changes
    assert reasons(report) == ["WEAK_MODE", "WEAK_MODE"]
    certificates = rows(report, "5.14_8.20_8.21", "start-certificates")
    assert ("pod-1", "certificates.0.not_after_ms", "2026-04-01 00:00:00Z") in certificates


def test_settings_in_a_start_record_of_another_form_are_a_note(tmp_path: Path, made: EvidenceLog) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write_frame(bytes((FrameKind.START,)) + b"\xff")
    report = export(tmp_path, made)
    assert reasons(report) == ["START_UNREADABLE"]
    assert report.is_clean


def test_alerts_are_paired_and_one_that_goes_on_is_told(tmp_path: Path, made: EvidenceLog) -> None:
    made.alert(START_MS)
    made.alert(START_MS + 90_000, is_over=True)
    made.alert(START_MS + DAY_MS, about="pod-9")
    report = export(tmp_path, made)
    assert [(row[1], row[3], row[4]) for row in rows(report, "8.16", "alerts")] == [
        ("pod-2", "2026-01-01 00:01:30Z", 1.5),
        ("pod-9", "not over", None),
    ]
    assert reasons(report) == ["ALERT_NOT_OVER"]


def test_deletions_list_erasures_and_disposals_without_tokens(tmp_path: Path, made: EvidenceLog) -> None:
    made.admin("s/BackUpLog", START_MS)
    made.erase("a", START_MS)
    made.dispose("pod-1", bytes(16), START_MS)
    report = export(tmp_path, made)
    assert [row[2:4] for row in rows(report, "8.10", "erasures")] == [(1, 0)]
    assert [(row[4], row[5], row[7]) for row in rows(report, "8.10", "disposals")] == [("0 to 3", 400, "AGE")]
    assert [row[2] for row in rows(report, "8.13", "backups")] == ["s/BackUpLog"]


def test_records_count_every_decision_of_the_period_by_day_and_reason(tmp_path: Path, made: EvidenceLog) -> None:
    made.admin("s/BackUpLog", START_MS)
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write([make_record(1, items=4), make_record(DAY_MS), make_record(40 * DAY_MS)])
    report = export(tmp_path, made)
    assert rows(report, "8.15", "answers") == [
        ("2026-01-01", "ALLOW", "GRANTED", 3),
        ("2026-01-01", "DENY", "OPT_OUT", 1),
        ("2026-01-02", "DENY", "OPT_OUT", 1),
    ]
    assert figure(report, "8.15", "decisions read from journals in the period") == 5
    assert len(rows(report, "8.15", "decisions")) == 5


def test_records_of_a_damaged_segment_are_a_finding_and_the_next_segment_is_read(
    tmp_path: Path, made: EvidenceLog
) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write([make_record(1)])
    damaged = journal.path
    journal.begin_segment()
    journal.write([make_record(2)])
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    report = export(tmp_path, made)
    (finding,) = report.findings()
    assert (finding.sidecar_id, finding.place) == ("pod-1", f"{journal.chain_id.hex()}-0")
    assert figure(report, "8.15", "decisions read from journals in the period") == 1


def test_records_without_keys_are_open_and_not_invented(tmp_path: Path, made: EvidenceLog) -> None:
    journal = JournalBuilder(tmp_path / "folder", made.log.origin)
    journal.write([make_record(1)])
    folder = replace(write_folder(tmp_path / "folder", made.log), key=AUDITOR._replace(name="another"))
    report = collect_evidence(folder, scope_of(folder), no_progress).report
    assert figure(report, "5.33", "segments without a key") == 1
    assert any("no key opens them" in point.what for point in report["8.15"].open_points)


def test_log_that_is_not_what_its_checkpoint_commits_to_is_a_finding(tmp_path: Path, made: EvidenceLog) -> None:
    made.reject("shop", START_MS)
    made.reject("shop", START_MS)
    made.log.entries[0], made.log.entries[1] = made.log.entries[1], made.log.entries[0]
    report = export(tmp_path, made)
    assert figure(report, "5.33", "root equals that of the signed checkpoint") == "no"
    assert reasons(report) == ["LOG_ROOT_DIFFERS"]


def test_checks_that_were_given_are_run_and_the_others_are_open(tmp_path: Path, made: EvidenceLog) -> None:
    def check(_: AuditFolder) -> list[Finding]:
        return [Finding("PLANTED", "by a check")]

    report = export(tmp_path, made, checks={"verify": check})
    assert rows(report, "5.35_5.36", "checks") == [("verify", "done", 1, 0)]
    assert [finding.reason for finding in report["5.33"].findings] == ["PLANTED"]
    open_texts = [point.what for point in report["5.35_5.36"].open_points]
    assert "Result of replay: it was not part of this export" in open_texts
    assert "Result of verify: it was not part of this export" not in open_texts


@pytest.mark.parametrize(("name", "is_clean"), [("verify", False), ("replay", True)])
def test_check_that_could_not_be_done_is_open_and_a_finding_where_the_files_did_not_verify(
    tmp_path: Path, made: EvidenceLog, name: str, is_clean: bool
) -> None:
    def check(_: AuditFolder) -> list[Finding]:
        raise FolderUnusable("a file is missing")

    report = export(tmp_path, made, checks={name: check})
    assert reasons(report) == ["CHECK_NOT_DONE"]
    assert report.is_clean == is_clean
    open_texts = [point.what for point in report["5.35_5.36"].open_points]
    assert f"Result of {name}: {name} could not be done: FOLDER_UNUSABLE" in open_texts


def test_folder_with_a_bit_of_everything_is_clean_and_fills_its_sections(tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "folder", days=7)

    def check(opened: AuditFolder) -> tuple[Finding, ...]:
        return verify_folder(opened).findings.listed

    scope = scope_of(folder, generated_at_ms=START_MS + 9 * DAY_MS, checks={"verify": check})
    report = collect_evidence(folder, scope, no_progress).report
    assert {"TORN_TAIL", "CRASHED"} <= set(reasons(report))
    assert report.is_clean
    empty = {section.spec.slug for section in report if not section.sources}
    # These have no source but supplied files.
    assert empty == {"5.37", "8.8_8.28", "8.29"}
