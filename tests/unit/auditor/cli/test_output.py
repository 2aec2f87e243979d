"""What commands print: the same content for people, for programs and for spreadsheets, and no colour where nobody looks."""

import csv
import io
import json

import pytest
import typer

from auditor.cli.output import OutputFormat, Report, Table, choose_format, neutralise_cell, print_report
from auditor.findings import MAX_LISTED, Finding, Findings, Severity

HOSTILE = '=HYPERLINK("http://example.com")'


def make_report() -> Report:
    findings = Findings()
    findings.add(Finding("TORN_TAIL", "the segment ends within a frame", Severity.NOTE, "pod-1", "a.journal"))
    findings.add(
        Finding("FRAME_CHANGED", "not the frame [red] that was written", sidecar_id="pod-1", place="a.journal")
    )
    table = Table(
        "Sidecars", ("sidecar_id", "at_ms", "decisions"), [("pod-1", 1_767_225_600_000, 1_000), (HOSTILE, None, -1)]
    )
    return Report("Verified", {"decisions": 1_000, "root_hash": b"\x01"}, findings, [table], ["All told."])


def printed(report: Report, output_format: OutputFormat, capsys: pytest.CaptureFixture[str]) -> str:
    print_report(report, output_format)
    return capsys.readouterr().out


def test_report_as_json_holds_figures_findings_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(make_report(), OutputFormat.JSON, capsys))
    assert shown["decisions"] == 1_000
    assert shown["root_hash"] == "01"
    assert (shown["finding_count"], shown["note_count"]) == (1, 1)
    assert [found["reason"] for found in shown["findings"]] == ["FRAME_CHANGED", "TORN_TAIL"]
    assert shown["sidecars"][0] == {"sidecar_id": "pod-1", "at_ms": 1_767_225_600_000, "decisions": 1_000}


def test_report_as_csv_is_no_formula_for_a_spreadsheet(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(printed(make_report(), OutputFormat.CSV, capsys))))
    assert rows[0] == ["sidecar_id", "at_ms", "decisions"]
    assert rows[2] == [f"'{HOSTILE}", "", "-1"]
    assert [neutralise_cell(text) for text in ("@a", "-5.5", "a=b", None)] == ["'@a", "-5.5", "a=b", ""]


def test_report_for_people_has_no_colour_in_a_file_and_shows_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = printed(make_report(), OutputFormat.PEOPLE, capsys)
    assert "\x1b" not in shown
    assert "not the frame [red] that was written" in shown
    assert "2026-01-01 00:00:00.000" in shown
    assert "1 finding, 1 note" in shown


def test_findings_beyond_the_limit_are_counted_and_not_kept() -> None:
    findings = Findings()
    findings.add(*(Finding("MANY", str(number)) for number in range(MAX_LISTED + 5)))
    assert len(findings.listed) == MAX_LISTED
    assert findings.counts[Severity.FINDING] == MAX_LISTED + 5
    assert not findings.is_clean


def test_choose_format_of_both_is_refused() -> None:
    with pytest.raises(typer.Exit):
        choose_format(as_json=True, as_csv=True)
