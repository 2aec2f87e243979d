"""Export: every record as it is, what was asked for and no more of it, and no mark of a person unless it is wanted."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from auditor.cli import app
from auditor.export.decisions import EVERYTHING, FIELDS, MARKS, DecisionExport, DecisionFilter, format_field_table
from auditor.export.events import EVENT_FIELDS, format_event_table, list_events
from auditor.folder import AuditFolder
from auditor.keys import KEY_USE
from auditor.log_copy import CopiedEntry, LogCopyWriter
from consent.decision_record import format_question, format_record, item_id
from consent.vocabulary.directive import Kind
from hosting.key_files import create_key_file
from tests.fakes.audit_material import AUDITOR, JournalBuilder, enrol, write_folder
from tests.fakes.journal_material import NOW_MS, QUESTION, SITUATION, make_call
from tests.fakes.log_builder import ORIGIN, LogBuilder, token_of
from tests.unit.docs.pages import read_page

RunExport = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> AuditFolder:
    """Two sidecars: one with single decisions by two callers, one with a batch."""
    path, log = tmp_path / "audit", LogBuilder()
    log.append(log.next_epoch(), log.directive("ada"), log.directive("ada", kind=int(Kind.GRANT), proof=2))
    enrol(log)
    first = JournalBuilder(path, ORIGIN, "pod-1")
    shop = format_question(replace(QUESTION, caller="=shop", purposes=("analytics",), recipient="ada@example.com"))
    for number in range(6):
        call = make_call(number)
        first.write([format_record(call._replace(question=shop) if number % 2 else call)])
    second = JournalBuilder(path, ORIGIN, "pod-2")
    second.write([format_record(make_call(100, items=4))], 4)
    return write_folder(path, log)


@pytest.fixture
def run_export(folder: AuditFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> RunExport:
    key_file = tmp_path / "auditor.key"
    create_key_file(key_file, AUDITOR.private_key.private_bytes_raw() + bytes(32), use=KEY_USE)

    def run(*options: str) -> tuple[int, str, str]:
        arguments = ["export", "--folder", str(folder.path), "--key", str(key_file), *options]
        with pytest.raises(SystemExit) as caught:
            app(arguments, prog_name="consentry-auditor")
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def ids_of(folder: AuditFolder, wanted: DecisionFilter) -> list[str]:
    return [row["decision_id"] for row in DecisionExport(folder, wanted).rows()]


def decision_id(number: int, index: int = 0) -> str:
    return str(UUID(bytes=item_id(make_call(number).call_id, index)))


def test_export_holds_every_decision_with_its_record(folder: AuditFolder) -> None:
    export = DecisionExport(folder)
    rows = list(export.rows())
    assert [row["decision_id"] for row in rows] == [
        *(decision_id(number) for number in range(6)),
        *(decision_id(100, index) for index in range(4)),
    ]
    assert export.count == 10
    assert export.unread == []
    assert rows[2] == {
        "decision_id": decision_id(2),
        "call_id": decision_id(2),
        "sidecar_id": "pod-1",
        "decided_at_ms": NOW_MS + 2,
        "caller": "mailer",
        "is_caller_permitted": True,
        "purposes": ["marketing.email", "analytics"],
        "jurisdictions": ["DE"],
        "age_band": 3,
        "sec_gpc": False,
        "data_categories": [],
        "min_seq": 0,
        "is_well_formed": True,
        "effect": "ALLOW",
        "reason": "GRANTED",
        "valid_until_ms": NOW_MS + 60_000,
        "log_origin": SITUATION.origin,
        "log_size": 42,
        "root_hash": SITUATION.root_hash.hex(),
        "policy_version": 7,
        "checkpoint_time_ms": NOW_MS - 1_500,
        "age_ms": 1_500,
        "is_intact": True,
        "latency_us": 250,
        "trace_id": make_call(2).trace_id.hex(),
        "parent_span_id": make_call(2).parent_span_id.hex(),
        "span_id": make_call(2).span_id.hex(),
        "place": rows[2]["place"],
    }
    assert rows[2]["place"].endswith("/0/2/0")


def test_export_marks_a_person_only_on_demand(folder: AuditFolder) -> None:
    plain = json.dumps(list(DecisionExport(folder).rows()))
    marked = list(DecisionExport(folder, EVERYTHING, with_marks=True).rows())
    assert tuple(marked[0]) == (*FIELDS, *MARKS)
    pseudonym = make_call(1).items[0].pseudonyms[0].hex()
    assert pseudonym not in plain
    assert "ada@example.com" not in plain
    assert "deciding_seq" not in plain
    assert (marked[1]["pseudonyms"], marked[1]["deciding_seq"], marked[1]["recipient"]) == (
        [pseudonym],
        12,
        "ada@example.com",
    )


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"from_ms": NOW_MS + 4}, [4, 5, 100, 100, 100, 100]),
        ({"to_ms": NOW_MS + 2}, [0, 1]),
        ({"sidecars": {"pod-2"}}, [100, 100, 100, 100]),
        ({"callers": {"=shop"}}, [1, 3, 5]),
        ({"purposes": {"marketing.email"}, "sidecars": {"pod-1"}}, [0, 2, 4]),
        ({"effects": {"DENY"}, "sidecars": {"pod-1"}}, [0, 3]),
        ({"reasons": {"OPT_OUT", "GRANTED"}, "to_ms": NOW_MS + 1}, [0]),
        ({"sidecars": {"pod-9"}}, []),
    ],
)
def test_export_filters_let_through_what_matches_all_of_them(
    folder: AuditFolder, wanted: dict[str, Any], numbers: list[int]
) -> None:
    fields = {name: frozenset(value) if isinstance(value, set) else value for name, value in wanted.items()}
    found = ids_of(folder, DecisionFilter(**fields))  # type: ignore[arg-type]
    assert [int(text.replace("-", "")[:16], 16) for text in found] == numbers


def test_export_of_one_decision_of_a_batch(folder: AuditFolder) -> None:
    wanted = DecisionFilter(decision_ids=frozenset({item_id(make_call(100).call_id, 2)}))
    assert ids_of(folder, wanted) == [decision_id(100, 2)]


def test_export_of_events_names_no_token_and_says_what_is_gone(folder: AuditFolder) -> None:
    rows = list(list_events(folder.log))
    assert [(row["seq"], row["type"], row["purpose"], row["kind"], row["source"]) for row in rows] == [
        (1, "KEY_EPOCH", "", "", ""),
        (2, "DIRECTIVE", "analytics", "opt_out", "web"),
        (3, "DIRECTIVE", "analytics", "grant", "web"),
        (4, "ENROL", "", "", "feed"),
    ]
    assert token_of("ada").hex() not in json.dumps(rows)
    assert tuple(rows[0]) == tuple(EVENT_FIELDS)
    assert [row["seq"] for row in list_events(folder.log, purposes=frozenset({"analytics"}))] == [2, 3]
    assert [row["seq"] for row in list_events(folder.log, from_ms=NOW_MS, to_ms=NOW_MS + 1)] == [2, 3, 4]
    assert list(list_events(folder.log, to_ms=NOW_MS)) == []


def test_export_of_events_that_were_erased_or_are_not_known_here(tmp_path: Path, folder: AuditFolder) -> None:
    writer = LogCopyWriter(tmp_path / "log.copy")
    writer.append(
        [
            CopiedEntry(1, 0x01, b"", b"", bytes(32)),
            CopiedEntry(2, 0x7F, bytes(32), b"\x01\x7f"),
            CopiedEntry(3, 0x01, bytes(32), b"\x01\x01"),
        ]
    )
    writer.close()
    log = AuditFolder(tmp_path, folder.trust).log
    assert [(row["type"], row["state"]) for row in list_events(log)] == [
        ("DIRECTIVE", "erased"),
        ("127", "unreadable"),
        ("DIRECTIVE", "unreadable"),
    ]


def test_export_command_writes_json_lines_and_csv_that_no_spreadsheet_executes(run_export: RunExport) -> None:
    code, said, told = run_export("--sidecar", "pod-1")
    rows = [json.loads(line) for line in said.splitlines()]
    assert (code, len(rows), told) == (0, 6, "6 decisions exported\n")
    code, said, _ = run_export("--format", "csv", "--sidecar", "pod-1", "--effect", "allow")
    read = list(csv.DictReader(io.StringIO(said)))
    assert [row["caller"] for row in read] == ["'=shop", "mailer", "mailer", "'=shop"]
    assert (read[1]["purposes"], read[1]["sec_gpc"]) == ("marketing.email analytics", "false")
    assert tuple(read[0]) == tuple(FIELDS)


def test_export_command_leaves_a_whole_file_for_its_owner_alone_or_none(
    run_export: RunExport, folder: AuditFolder, tmp_path: Path
) -> None:
    out = tmp_path / "export.jsonl"
    assert run_export("--out", str(out))[0] == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert len(out.read_text().splitlines()) == 10
    code, _, complaint = run_export("--out", str(tmp_path / "missing" / "export.jsonl"))
    assert code == 2
    assert "No such file" in complaint
    log = folder.path / "log.copy"
    log.write_bytes(log.read_bytes()[:-70])
    assert run_export("--events", "--out", str(tmp_path / "events.jsonl"))[0] == 2
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["export.jsonl"]


def test_export_command_says_what_it_could_not_read(run_export: RunExport, folder: AuditFolder) -> None:
    (folder.path / "journals" / "pod-1" / "segment-keys.json").unlink()
    code, said, complaint = run_export()
    assert (code, len(said.splitlines())) == (2, 4)
    assert "not read to its end: pod-1" in complaint


@pytest.mark.parametrize(
    "options",
    [
        ("--from", "yesterday"),
        ("--effect", "maybe"),
        ("--reason", "because"),
        ("--decision-id", "somebody@example.com"),
        ("--events", "--caller", "shop"),
    ],
)
def test_export_command_refuses_what_it_cannot_mean_without_repeating_it(
    run_export: RunExport, options: tuple[str, ...]
) -> None:
    code, said, complaint = run_export(*options)
    assert (code, said) == (2, "")
    assert options[1] not in complaint or options[1].startswith("--")


def test_export_command_takes_times_in_iso_8601(run_export: RunExport) -> None:
    code, said, _ = run_export("--from", "2026-01-01T00:00:00.004Z", "--to", "2026-01-01T00:00:00.006")
    assert (code, len(said.splitlines())) == (0, 2)
    code, said, _ = run_export("--events", "--to", "2026-01-01", "--format", "csv")
    assert (code, said) == (0, f"{','.join(EVENT_FIELDS)}\n")


def test_export_fields_are_those_of_the_documentation() -> None:
    page = read_page("docs/reconcile.md")
    assert format_field_table() in page
    assert format_event_table() in page
