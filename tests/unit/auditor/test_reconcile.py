"""Reconciliation: each mismatch between what was answered, recorded, exported and asked for is found, and nothing else is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

from auditor.cli import app
from auditor.errors import FolderUnusable
from auditor.folder import AuditFolder
from auditor.keys import KEY_USE
from auditor.reconcile.report import ReconcileReport
from auditor.reconcile.run import POSITION_FILE_NAME, Claims, reconcile
from consent.decision_record import CallRecord, format_question, format_record, item_id
from consent.event import DisposalEvent, PolicyEvent, RetireEvent
from consent.eventlog.journal_head import DisposalGround, HeadKind, JournalDisposal, WeakestMode, sign_disposal
from consent.policy import format_policy, policy_from_mapping
from hosting.key_files import create_key_file
from sidecar.journal.position import Position, save_positions
from sidecar.telemetry.spans import project
from tests.fakes.audit_material import AUDITOR, JournalBuilder, enrol, log_heads, write_folder
from tests.fakes.journal_material import NOW_MS, QUESTION, make_call
from tests.fakes.log_builder import ORIGIN, LogBuilder

HOUR_MS = 3_600_000
START_HOUR = NOW_MS // HOUR_MS


class Office:
    """A log, and the journal of one enrolled sidecar that answers in `caller`'s name, minute by minute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = LogBuilder()
        self.log.append(self.log.next_epoch())
        enrol(self.log)
        self.journal = JournalBuilder(folder, ORIGIN)
        self.now_ms = NOW_MS
        self.calls: list[CallRecord] = []

    def make(self, items: int = 1, caller: str = "mailer") -> CallRecord:
        call = make_call(len(self.calls) * 1000, items)
        question = format_question(QUESTION if caller == QUESTION.caller else parse_and_rename(caller))
        moment = self.now_ms + len(self.calls) % 1000
        call_id = moment.to_bytes(6, "big") + (len(self.calls) << 32).to_bytes(10, "big")
        return call._replace(call_id=call_id, now_ms=moment, question=question)

    def answer(self, items: int = 1, caller: str = "mailer") -> None:
        call = self.make(items, caller)
        self.calls.append(call)
        self.journal.write([format_record(call)], items)

    def head(self, kind: HeadKind = HeadKind.PERIODIC, *, is_logged: bool = True, **fields: object) -> None:
        head = self.journal.head(kind, self.now_ms, **fields)
        if is_logged:
            log_heads(self.log, [head], self.now_ms)
        self.log.now_ms = self.now_ms

    def live(self, minutes: int, calls: int = 2, **fields: Any) -> None:
        for _ in range(minutes):
            for _ in range(calls):
                self.answer(**fields)
            self.now_ms += 60_000
            self.head()

    def open(self) -> AuditFolder:
        return write_folder(self.folder, self.log)

    def ship(self, until_frame: int | None = None) -> None:
        """Say that the shipper has passed the whole journal, or what of it is there now."""
        size = self.journal.path.stat().st_size
        place = Position(0, size, 0, b"", 0)
        save_positions(self.journal.directory / POSITION_FILE_NAME, {self.journal.chain_id: place})

    def write_spans(self, path: Path, calls: Sequence[CallRecord]) -> Path:
        """What a collector's file exporter writes."""
        resource = Resource({"service.name": "consentry-sidecar", "service.instance.id": "pod-1"})
        lines = []
        for call in calls:
            message = MessageToDict(encode_spans(project(call, resource)))
            lines.append(json.dumps(message))
        path.write_text("\n".join(lines) + "\n")
        return path

    @property
    def ids(self) -> list[str]:
        return [
            str(UUID(bytes=item_id(call.call_id, index))) for call in self.calls for index in range(len(call.items))
        ]


def parse_and_rename(caller: str) -> Any:
    from dataclasses import replace

    return replace(QUESTION, caller=caller)


def reasons_of(report: ReconcileReport) -> set[str]:
    return set(report.reasons)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "audit")


def test_reconcile_of_an_honest_sidecar_counts_everything_and_finds_nothing(office: Office) -> None:
    office.live(70, calls=2)
    office.answer(items=3)
    office.now_ms += 1000
    office.head(HeadKind.FINAL)
    office.ship()
    report = reconcile(office.open())
    assert report.reasons == {}
    first, second = report.hours["pod-1", START_HOUR], report.hours["pod-1", START_HOUR + 1]
    assert (first.answered, first.journalled, first.exported) == (118, 118, 118)
    assert (second.answered, second.journalled, second.unrecorded, second.uncovered) == (25, 25, 0, 0)
    assert report.total().answered == 143
    assert report.recorded == {("mailer", START_HOUR): 120, ("mailer", START_HOUR + 1): 23}


def test_reconcile_of_answers_without_records_names_the_head(office: Office) -> None:
    office.live(3)
    office.head(answered=9)
    office.head(answered=12)
    report = reconcile(office.open())
    (found,) = report.findings.listed
    assert found.reason == "ANSWERED_NOT_RECORDED"
    assert "head 3: 9 decisions were answered, 6 are recorded" in found.text


def test_reconcile_of_unrecorded_answers_that_were_permitted_is_a_note(office: Office) -> None:
    office.live(2)
    office.head(answered=7, unrecorded=3)
    report = reconcile(office.open())
    assert report.findings.is_clean
    assert reasons_of(report) == {"UNRECORDED"}
    assert report.total().unrecorded == 3


def test_reconcile_of_records_whose_call_was_cut_off_is_a_note(office: Office) -> None:
    office.live(2)
    office.head(answered=3)
    report = reconcile(office.open())
    assert report.findings.is_clean
    assert reasons_of(report) == {"RECORDED_NOT_ANSWERED"}


def test_reconcile_of_answers_ahead_of_their_records_is_no_finding_in_mode_async_until_the_end(office: Office) -> None:
    office.live(1)
    office.head(answered=5, weakest_mode=WeakestMode.ASYNC)
    assert "ANSWERED_NOT_RECORDED" not in reconcile(office.open()).reasons
    office.head(HeadKind.FINAL, answered=5, weakest_mode=WeakestMode.ASYNC)
    assert reasons_of(reconcile(office.open())) == {"ANSWERED_NOT_RECORDED"}


def test_reconcile_of_a_journal_that_was_cut_or_taken_away_names_what_is_missing(office: Office) -> None:
    office.live(2)
    before = office.journal.path.stat().st_size
    office.live(2)
    content = office.journal.path.read_bytes()
    office.journal.path.write_bytes(content[:before])
    report = reconcile(office.open())
    (found,) = report.findings.listed
    assert found.reason == "RECORDS_MISSING"
    assert "head 2 says 6 decisions are recorded, and 4 are found" in found.text
    office.journal.path.unlink()
    assert reasons_of(reconcile(office.open())) == {"RECORDS_MISSING"}


def test_reconcile_of_disposed_segments_takes_their_count_from_the_log(office: Office) -> None:
    office.live(3)
    office.journal.begin_segment()
    office.live(1)
    disposal = JournalDisposal(
        sidecar_id="pod-1",
        chain_id=office.journal.chain_id,
        first_segment=0,
        last_segment=0,
        chain_hash=bytes(32),
        decisions=6,
        oldest_ms=NOW_MS,
        newest_ms=NOW_MS,
        ground=DisposalGround.AGE,
        disposed_at_ms=NOW_MS,
    )
    signed = sign_disposal(disposal, office.journal.key, ORIGIN)
    office.log.append(DisposalEvent(origin=ORIGIN, source="feed", received_at_ms=NOW_MS, disposals=(signed,)))
    office.journal.path.with_name(office.journal.path.name.replace("00000001", "00000000")).unlink()
    report = reconcile(office.open())
    assert report.reasons == {}
    assert (report.total().answered, report.total().journalled, report.total().exported) == (8, 8, 6)


def test_reconcile_of_records_behind_the_last_head_and_not_shipped_is_told(office: Office) -> None:
    office.live(2)
    office.ship()
    office.answer(items=4)
    report = reconcile(office.open())
    assert reasons_of(report) == {"NOT_EXPORTED"}
    assert report.findings.is_clean
    total = report.total()
    assert (total.answered, total.journalled, total.uncovered, total.exported) == (4, 8, 4, 4)


def test_reconcile_of_heads_that_only_the_journal_holds_counts_them(office: Office) -> None:
    office.live(2)
    office.answer()
    office.head(is_logged=False, answered=9)
    assert reasons_of(reconcile(office.open())) == {"ANSWERED_NOT_RECORDED"}


def test_reconcile_without_keys_compares_counts_and_says_that_nothing_was_read(office: Office) -> None:
    office.live(3)
    write_folder(office.folder, office.log)
    report = reconcile(write_folder(office.folder, office.log, None))
    assert reasons_of(report) == {"SEGMENT_KEY_MISSING"}
    assert (report.unread, report.total().answered, report.total().journalled) == (1, 6, 6)


def test_reconcile_of_spans_finds_the_missing_the_changed_the_repeated_and_the_strange(
    office: Office, tmp_path: Path
) -> None:
    for items in (1, 3, 700, 1, 1):
        office.answer(items)
    office.now_ms += 1000
    office.head()
    folder = office.open()
    every = office.write_spans(tmp_path / "all.json", office.calls)
    report = reconcile(folder, Claims(spans=(every,)))
    assert report.reasons == {}
    assert report.spans is not None
    assert (report.spans.decisions, report.spans.missing) == (706, 0)
    repeated = reconcile(folder, Claims(spans=(every, office.write_spans(tmp_path / "again.json", office.calls[:2]))))
    assert repeated.reasons == {"SPANS_REPEATED": 1}
    assert repeated.findings.is_clean
    fewer = reconcile(folder, Claims(spans=(office.write_spans(tmp_path / "fewer.json", office.calls[1:]),)))
    assert fewer.reasons == {"SPAN_MISSING": 1}
    assert office.ids[0] in fewer.findings.listed[0].text
    changed = tmp_path / "changed.json"
    changed.write_text(every.read_text().replace('"OPT_OUT"', '"PROHIBITED"', 1))
    assert reasons_of(reconcile(folder, Claims(spans=(changed,)))) == {"SPAN_UNLIKE_RECORD"}
    assert "SPANS_DIFFER" in reconcile(folder, Claims(spans=(every, changed))).reasons
    strange = office.write_spans(tmp_path / "strange.json", [*office.calls, office.make()])
    report = reconcile(folder, Claims(spans=(strange,)))
    assert report.reasons == {"SPAN_WITHOUT_RECORD": 1}
    assert not report.findings.is_clean


def test_reconcile_of_spans_that_the_shipper_has_not_come_to_are_waiting(office: Office, tmp_path: Path) -> None:
    office.live(1)
    office.ship()
    shipped = list(office.calls)
    office.live(1)
    report = reconcile(office.open(), Claims(spans=(office.write_spans(tmp_path / "spans.json", shipped),)))
    assert reasons_of(report) == {"NOT_EXPORTED", "SPANS_WAITING"}
    assert report.spans is not None
    assert (report.spans.waiting, report.spans.missing) == (2, 0)


@pytest.mark.parametrize("line", ["not json", "[]", '{"resourceSpans": [{"scopeSpans": 7}]}', '{"resourceSpans": 1}'])
def test_reconcile_of_a_file_that_holds_no_spans_cannot_be_made(office: Office, tmp_path: Path, line: str) -> None:
    office.live(1)
    (tmp_path / "spans.json").write_text(line)
    with pytest.raises(FolderUnusable, match="line 1"):
        reconcile(office.open(), Claims(spans=(tmp_path / "spans.json",)))


def test_reconcile_of_claimed_counts_tells_both_directions_apart(office: Office, tmp_path: Path) -> None:
    office.live(61, calls=1)
    office.live(1, calls=4, caller="shop")
    claims = tmp_path / "calls.csv"
    claims.write_text("caller,hour_utc,decisions\nmailer,2026-01-01T00:00Z,60\nmailer,2026-01-01T01:20+00:00,1\n")
    folder = office.open()
    assert reconcile(folder, Claims(calls=claims)).reasons == {}
    claims.write_text("caller,hour_utc,decisions\nmailer,2026-01-01T00,61\n")
    report = reconcile(folder, Claims(calls=claims))
    assert report.reasons == {"CALLS_NOT_RECORDED": 1, "CALLS_NOT_CLAIMED": 1}
    assert [(row.claimed, row.recorded) for row in report.calls] == [(61, 60), (0, 1)]
    assert not report.findings.is_clean


@pytest.mark.parametrize(
    "content", ["who,when,what\n", "caller,hour_utc,decisions\nshop,yesterday,1\n", "caller,hour_utc,decisions\nshop\n"]
)
def test_reconcile_of_claims_of_another_form_cannot_be_made(office: Office, tmp_path: Path, content: str) -> None:
    (tmp_path / "calls.csv").write_text(content)
    office.live(1)
    with pytest.raises(FolderUnusable, match="caller,hour_utc,decisions"):
        reconcile(office.open(), Claims(calls=tmp_path / "calls.csv"))


def test_reconcile_of_claimed_ids_names_those_that_are_not_recorded(office: Office, tmp_path: Path) -> None:
    office.live(5)
    office.live(1, caller="shop")
    ids, mailers = tmp_path / "ids", office.ids[:10]
    ids.write_text("\n".join(mailers) + "\n")
    folder = office.open()
    assert reconcile(folder, Claims(call_ids=ids)).reasons == {}
    ids.write_text("\n".join([*mailers[:4], *mailers[5:], "0199d2b0-0000-7000-8000-000000000001"]))
    report = reconcile(folder, Claims(call_ids=ids))
    assert report.reasons == {"CALLS_NOT_RECORDED": 1, "CALLS_NOT_CLAIMED": 1}
    assert "0199d2b0-0000-7000-8000-000000000001" in report.findings.listed[0].text
    ids.write_text("somebody@example.com\n")
    with pytest.raises(FolderUnusable, match="line 1 is no decision id") as caught:
        reconcile(folder, Claims(call_ids=ids))
    assert "somebody" not in str(caught.value)


def publish_callers(log: LogBuilder, *callers: str) -> None:
    mapping = {"version": 1, "purposes": {"analytics": {"legal_basis": "consent", "parents": []}}}
    policy = policy_from_mapping(mapping | {"callers": {caller: ["*"] for caller in callers}})
    log.append(PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=format_policy(policy)))


def test_reconcile_names_a_caller_of_the_policy_that_never_asks_or_fell_silent(office: Office) -> None:
    publish_callers(office.log, "mailer", "shop", "warehouse")
    office.live(10, calls=1)
    office.live(10, calls=1, caller="shop")
    for _ in range(26):
        office.now_ms += HOUR_MS
        office.live(1, calls=1)
    report = reconcile(office.open(), gap_seconds=2 * HOUR_MS / 1000)
    assert report.reasons == {"CALLER_SILENT": 2}
    texts = [finding.text for finding in report.findings.listed]
    assert texts[0].startswith("caller shop, which the policy lists, asked nothing for 26 hours")
    assert texts[1].startswith("caller warehouse, which the policy lists, asked nothing for 27 hours")
    assert reconcile(office.open(), gap_seconds=2 * HOUR_MS / 1000, silent_hours=27).reasons == {"CALLER_SILENT": 1}
    assert reconcile(office.open(), gap_seconds=2 * HOUR_MS / 1000, silent_hours=99).reasons == {"PERIOD_TOO_SHORT": 1}


def test_reconcile_tells_a_silent_sidecar_from_one_that_ended_crashed_or_was_retired(office: Office) -> None:
    office.live(2)
    office.now_ms += 900_000
    office.live(2)
    report = reconcile(office.open())
    assert reasons_of(report) == {"HEADS_SILENT"}
    assert "960 s from 2026-01-01T00:02:00Z on" in report.findings.listed[0].text
    assert [(gap.how, gap.until_ms - gap.from_ms) for gap in report.gaps] == [("silent", 960_000)]
    office.head(HeadKind.FINAL)
    office.log.now_ms += 900_000
    assert [gap.how for gap in reconcile(office.open()).gaps] == ["silent", "ended"]
    office.log.append(RetireEvent(origin=ORIGIN, source="feed", sidecar_id="pod-1", retired_at_ms=office.now_ms))
    assert [gap.how for gap in reconcile(office.open()).gaps] == ["silent", "retired"]


def test_reconcile_of_a_crash_with_its_recovery_head_is_a_note(office: Office) -> None:
    office.live(2)
    office.answer()
    office.now_ms += 900_000
    office.head(HeadKind.RECOVERY, answered=4)
    report = reconcile(office.open())
    assert report.findings.is_clean
    assert reasons_of(report) == {"RECORDED_NOT_ANSWERED", "HEADS_PAUSED"}
    assert [gap.how for gap in report.gaps] == ["crashed"]


def test_reconcile_of_a_damaged_journal_says_that_not_all_was_read(office: Office) -> None:
    office.live(2)
    content = bytearray(office.journal.path.read_bytes())
    content[-10] ^= 1
    office.journal.path.write_bytes(content)
    report = reconcile(office.open())
    assert report.unread == 1
    assert "CHAIN_UNREADABLE" in report.reasons


def test_reconcile_of_a_position_that_is_no_json_leaves_the_export_open(office: Office) -> None:
    office.live(1)
    (office.journal.directory / POSITION_FILE_NAME).write_text("{")
    report = reconcile(office.open())
    assert reasons_of(report) == {"POSITION_UNREADABLE"}
    assert report.total().exported is None


def test_reconcile_command_ends_with_0_1_or_2_and_prints_each_form(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = tmp_path / "auditor.key"
    create_key_file(key_file, AUDITOR.private_key.private_bytes_raw() + bytes(32), use=KEY_USE)
    office.live(3)
    office.open()

    def run(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app(["reconcile", "--folder", str(office.folder), *options], prog_name="consentry-auditor")
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    code, said, _ = run("--key", str(key_file), "--json")
    described = json.loads(said)
    assert (code, described["answered"], described["exported"], described["finding_count"]) == (0, 6, None, 0)
    code, said, _ = run("--key", str(key_file), "--csv")
    assert said.splitlines()[1] == f"pod-1,{START_HOUR * HOUR_MS},6,0,6,0,"
    code, _, complaint = run()
    assert code == 2
    assert "1 chains could not be read" in complaint
    office.head(answered=8)
    office.open()
    code, said, _ = run("--key", str(key_file))
    assert code == 1
    assert "ANSWERED_NOT_RECORDED" in said
