"""The provided suppression files, each handled as its README says."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import normalise
from feed.errors import UnreadableImport
from feed.intake.imports.reading import ImportOptions
from tests.unit.feed.intake.files import OPTIONS, directives, read_all, verdicts


@pytest.fixture(scope="module")
def samples(shared_directory: Path) -> Path:
    return shared_directory / "data" / "imports"


def test_sample_plain_rows_come_to_what_its_readme_says(samples: Path) -> None:
    content = (samples / "plain.csv").read_bytes()
    source = list(csv.reader(content.decode().splitlines(), delimiter=";"))[1:]
    rows = read_all(content)
    reasons = Counter(reason for _, _, reason, _ in verdicts(rows))
    said = [(email, purpose, action) for email, purpose, action, _ in source if action]
    assert reasons["NO_ACTION"] == sum(1 for row in source if not row[2])
    assert reasons["ACTION_UNKNOWN"] == sum(1 for _, _, action in said if action == "yes")
    understood = [(email.strip(), purpose) for email, purpose, action in said if action != "yes"]
    assert reasons["PURPOSE_UNKNOWN"] == sum(1 for _, purpose in understood if purpose == "nonsense")
    usable = [email for email, purpose in understood if purpose != "nonsense"]
    assert reasons["IDENTIFIER_MISSING"] == usable.count("")
    assert reasons["INVALID_IDENTIFIER"] == usable.count("not-an-address")
    assert len(directives(rows)) + sum(reasons.values()) == len(source)


def test_sample_plain_ambiguous_dates_are_rejected_and_no_others(samples: Path) -> None:
    content = (samples / "plain.csv").read_bytes()
    lines = content.decode().splitlines()
    rows = read_all(content, ImportOptions({"nonsense", *OPTIONS.known_purposes}))
    rejected = {line for line, _, reason, _ in verdicts(rows) if reason == "TIME_AMBIGUOUS"}
    assert rejected
    for line in rejected:
        day, month, _ = map(int, lines[line - 1].rpartition(";")[2].split("."))
        assert max(day, month) <= 12
        assert day != month
    assert not {reason for _, _, reason, _ in verdicts(rows)} & {"TIME_UNREADABLE", "TIME_TOO_EARLY", "COLUMN_COUNT"}
    read = {row.line: row for row in directives(rows)}
    assert {bool(row.occurred_at_ms) for row in read.values()} == {True, False}
    assert {row.without_zone for row in read.values()} == {True, False}


def test_sample_plain_addresses_are_read_as_the_normal_form_decides(samples: Path) -> None:
    rows = directives(read_all((samples / "plain.csv").read_bytes()))
    normal = {normalise(row.namespace, row.value) for row in rows}
    assert any("+news@" in address for address in normal)
    assert all(address == address.strip().lower() for address in normal)


def test_sample_mailchimp_every_row_is_an_opt_out_of_the_purpose_named(samples: Path) -> None:
    content = (samples / "mailchimp_unsubscribed.csv").read_bytes()
    rows = read_all(content, ImportOptions(OPTIONS.known_purposes, purpose="marketing"))
    table = list(csv.reader(content.decode("utf-8-sig").splitlines(keepends=True)))
    assert len(directives(rows)) == len(rows) == len(table) - 1 > 100
    assert [row.value for row in directives(rows)] == [cells[0] for cells in table[1:]]
    assert {(row.purpose, row.kind, row.without_zone) for row in directives(rows)} == {
        ("marketing", Kind.OPT_OUT, True)
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("latin1.csv", "line 2 is not UTF-8"),
        ("truncated.csv", "line 2: a quoted cell is not closed"),
        ("unknown_shape.csv", "line 1: unknown shape"),
        ("mailgun_unsubscribes.csv", "Mailgun"),
        ("sendgrid_global_unsubscribes.json", "SendGrid"),
        ("sendgrid_group_42.json", "SendGrid"),
        ("ses_headerless.csv", "Amazon SES"),
        ("ses_suppression.ndjson", "Amazon SES"),
        ("telnyx_optouts.csv", "Telnyx"),
        ("transcend_preferences.csv", "Transcend"),
    ],
)
def test_sample_that_cannot_be_imported_says_line_and_cause_and_nobody_s_name(
    samples: Path, name: str, text: str
) -> None:
    with pytest.raises(UnreadableImport, match=text) as caught:
        read_all((samples / name).read_bytes())
    assert "line " in str(caught.value)
    assert "@" not in str(caught.value)
