"""Trails: an answer leads to the entry that decided it, and an entry to where it is in force, without a token or an identifier in sight."""

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from auditor.cli import main
from auditor.findings import Severity
from auditor.keys import KEY_USE
from auditor.trail.answers import DECISION_COLUMNS, TrailAnswer, trace_decision, trace_entry, trace_subject, trace_trace
from auditor.trail.subject import read_subject
from auditor.trail.wording import explain_event, explain_reason
from consent.decision_record import CallRecord, Item, format_record, item_id, parse_record
from consent.event import ReceiptsEvent, ReceivedEvent
from consent.eventlog.acknowledgement import sign_ack
from consent.vocabulary.reason import Effect, Reason
from hosting.key_files import create_key_file
from journal.applied import AppliedBatch, AppliedEntry, format_applied
from journal.format import FrameKind
from tests.fakes.audit_material import AUDITOR, sidecar_key
from tests.fakes.audited_installation import Installation
from tests.fakes.journal_material import NOW_MS, TRACE_ID
from tests.fakes.log_builder import token_of

PSEUDONYM = bytes(range(100, 116))
REQUEST = bytes(range(16))


class Told(Installation):
    """An installation in which a person opts out, two sidecars learn of it, and one denies for it.

    Attributes:
        seq: The opt-out's.
        call: The denial's record.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        log = self.log
        received = ReceivedEvent(
            origin=log.origin, source="web", request_id=REQUEST, received_at_ms=NOW_MS + 5_000, request_type=1
        )
        log.append(received, log.directive("ada", request_id=REQUEST, occurred_at_ms=NOW_MS + 4_000))
        self.seq = log.size
        self.acknowledge("pod-1", NOW_MS + 6_000)
        batch = AppliedBatch(log.origin, NOW_MS + 5_900, NOW_MS + 5_950, log.size, (self.applied(),))
        self.current.write_frame(bytes((FrameKind.APPLIED,)) + format_applied(batch))
        self.call = self.deny(NOW_MS + 7_000)
        self.deny(NOW_MS + 9_000)
        self.head(self.current)

    def acknowledge(self, sidecar_id: str, at_ms: int) -> None:
        log = self.log
        receipt = sign_ack(sidecar_key(sidecar_id), log.origin, log.size, log.frontier.root_hash(), at_ms)
        log.append(ReceiptsEvent(origin=log.origin, source="feed", receipts=(receipt,)))

    def applied(self) -> AppliedEntry:
        return AppliedEntry(self.seq, 1, TRACE_ID, bytes(8), 1)

    def deny(self, at_ms: int) -> CallRecord:
        call = parse_record(self.record(items=3))
        denial = Item((PSEUDONYM,), True, Effect.DENY, Reason.OPT_OUT, self.seq, 0)
        call = call._replace(now_ms=at_ms, items=(call.items[0], denial, call.items[2]))
        self.current.write([format_record(call)], 3)
        return call


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told") / "audit")


def rows_of(answer: TrailAnswer, title: str) -> list[dict[str, object]]:
    (found,) = (table for table in answer.tables if table[0] == title)
    return [dict(zip(found[1], row, strict=True)) for row in found[2]]


def test_trail_of_an_entry_proves_it_and_tells_since_when_it_is_in_force(told: Told) -> None:
    answer = trace_entry(told.write(), told.seq)
    assert answer.findings.is_clean
    assert answer.figures["entry_type"] == "DIRECTIVE"
    assert answer.figures["received_at_ms"] == NOW_MS + 5_000
    assert answer.figures["proven_in_log_of"] == told.log.size
    first, second = rows_of(answer, "Sidecars")
    assert first["sidecar_id"] == "pod-1"
    assert first["in_force_at_ms"] == NOW_MS + 6_000
    assert first["applied_at_ms"] == NOW_MS + 5_950
    assert first["first_denial_at_ms"] == NOW_MS + 7_000
    assert first["first_denial_id"] == str(UUID(bytes=item_id(told.call.call_id, 1)))
    assert (second["sidecar_id"], second["in_force_at_ms"]) == ("pod-2", None)
    assert answer.figures["in_force_everywhere_at_ms"] is None
    assert any("Not yet acknowledged by: pod-2" in sentence for sentence in answer.text)


def test_trail_of_a_requests_arrival_is_that_of_its_outcome(told: Told) -> None:
    assert trace_entry(told.write(), told.seq - 1).figures["entry"] == str(told.seq)


def test_trail_of_an_entry_without_a_key_says_what_the_log_proves(told: Told) -> None:
    answer = trace_entry(told.write(None), told.seq)
    assert answer.findings.is_clean
    assert answer.findings.counts[Severity.NOTE] > 0
    assert rows_of(answer, "Sidecars")[0]["in_force_at_ms"] == NOW_MS + 6_000


def test_trail_of_a_decision_leads_to_the_entry_that_decided_it(told: Told) -> None:
    answer = trace_decision(told.write(), item_id(told.call.call_id, 1))
    (row,) = rows_of(answer, "Decisions")
    assert tuple(row) == DECISION_COLUMNS
    assert (row["effect"], row["reason"], row["deciding_seq"]) == ("DENY", "OPT_OUT", told.seq)
    assert row["caller"] == "mailer"
    assert answer.figures["entry"] == str(told.seq)
    assert "because the person has opted out of this purpose (OPT_OUT)" in " ".join(answer.text)
    assert "an opt-out about analytics, from the source web" in " ".join(answer.text)


def test_trail_of_a_decision_that_no_journal_has_is_a_finding_once_all_were_read(told: Told) -> None:
    unknown = bytes(16)
    answer = trace_decision(told.write(), unknown)
    assert [found.reason for found in answer.findings.listed] == ["DECISION_NOT_RECORDED"]
    answer = trace_decision(told.write(None), unknown)
    assert answer.findings.is_clean
    assert not answer.is_complete


def test_trail_of_a_trace_has_its_decisions_and_its_entries(told: Told) -> None:
    answer = trace_trace(told.write(), TRACE_ID)
    assert answer.figures["decisions"] == len(rows_of(answer, "Decisions")) > 6
    (applied,) = rows_of(answer, "Applied entries")
    assert (applied["seq"], applied["entry"]) == (told.seq, "an opt-out about analytics")
    nothing = trace_trace(told.write(), bytes(16))
    assert nothing.figures["decisions"] == 0


def test_trail_of_an_entry_in_a_log_that_was_changed_is_not_told(told: Told, tmp_path: Path) -> None:
    changed = Told(tmp_path / "audit")
    changed.write()
    entry = changed.log.entries[3]
    changed.log.entries[3] = replace(entry, opening=bytes(32))
    with pytest.raises(Exception, match="not the log that was signed"):
        trace_entry(changed.write(), changed.seq)


def subject_file(path: Path, told: Told) -> Path:
    path.write_text(
        json.dumps({"tokens": [token_of("ada").hex()], "days": {"2026-01-01": [PSEUDONYM.hex()]}, "seqs": [told.seq]})
    )
    return path


def test_trail_of_a_person_is_a_timeline(told: Told, tmp_path: Path) -> None:
    answer = trace_subject(told.write(), read_subject(subject_file(tmp_path / "subject.json", told)))
    timeline = rows_of(answer, "Timeline")
    assert [(row["kind"], row["at_ms"]) for row in timeline] == [
        ("entry", NOW_MS + 5_000),
        ("decision", NOW_MS + 7_000),
        ("decision", NOW_MS + 9_000),
    ]
    assert answer.figures["decisions"] == 2


@pytest.mark.parametrize("content", ["", "[]", '{"tokens": ["00"], "days": {}, "seqs": []}', '{"tokens": []}'])
def test_read_subject_of_another_file_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "subject.json"
    path.write_text(content)
    with pytest.raises(Exception, match="not a result of consentry-feed resolve"):
        read_subject(path)


def test_trail_command_shows_no_token_and_no_pseudonym(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told.write()
    key = tmp_path / "auditor.key"
    create_key_file(key, AUDITOR.private_key.private_bytes_raw() + bytes(32), use=KEY_USE)
    subject = subject_file(tmp_path / "subject.json", told)
    decision = str(UUID(bytes=item_id(told.call.call_id, 1)))
    for asked in ([str(told.seq)], [decision], [TRACE_ID.hex()], ["--subject", str(subject)]):
        for form in ([], ["--json"], ["--csv"]):
            arguments = ["trail", *asked, "-f", str(told.path), "-k", str(key), *form]
            code, said = run(monkeypatch, capsys, *arguments)
            assert code == 0, said
            assert token_of("ada").hex() not in said
            assert PSEUDONYM.hex() not in said
    code, said = run(monkeypatch, capsys, "trail", "ada@example.com", "-f", str(told.path))
    assert code == 2
    assert "ada" not in said


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["consentry-auditor", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out + said.err


def test_every_reason_and_every_kind_of_entry_has_words(told: Told) -> None:
    assert all(explain_reason(reason) for reason in Reason)
    assert all(token_of("ada").hex() not in explain_event(entry.event) for entry in told.log.logged)
