from io import BytesIO

import pytest

from consent.vocabulary.directive import Kind
from feed.errors import InvalidRequest, PurposeUnknown, UnreadableImport
from feed.intake.imports.delimited import MAX_LINE_BYTES
from feed.intake.imports.reading import ImportOptions, read_rows
from feed.intake.imports.survey import survey_file
from tests.unit.feed.intake.files import OPTIONS, PLAIN_HEADER, directives, read_all, read_plain, verdicts

MAILCHIMP_HEADER = "Email Address,Vorname,UNSUB_TIME,UNSUB_REASON,UNSUB_REASON,LEID,EUID,NOTES\n"
NEWSLETTER = ImportOptions(OPTIONS.known_purposes, purpose="marketing.email")


def test_plain_row_becomes_a_directive() -> None:
    (row,) = directives(read_plain(" Anna@EXAMPLE.com ;marketing;opt_out;2026-05-30T05:58:55Z"))
    assert (row.line, row.namespace, row.value) == (2, "email", " Anna@EXAMPLE.com ")
    assert (row.purpose, row.kind, row.occurred_at_ms) == ("marketing", Kind.OPT_OUT, 1_780_120_735_000)
    assert not row.without_zone


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("opt_out", Kind.OPT_OUT),
        (" Opt_Out ", Kind.OPT_OUT),
        ("unsubscribe", Kind.OPT_OUT),
        ("withdraw", Kind.WITHDRAW),
        ("refuse", Kind.REFUSE),
        ("object", Kind.OBJECT),
        ("revoke_by_controller", Kind.REVOKE_BY_CONTROLLER),
        ("grant", Kind.GRANT),
    ],
)
def test_plain_action_words_are_understood(word: str, kind: Kind) -> None:
    (row,) = directives(read_plain(f"a@example.com;*;{word};"))
    assert row.kind is kind


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ("a@example.com;marketing;;", (2, "skip", "NO_ACTION", "action")),
        ("nonsense;nonsense;;nonsense", (2, "skip", "NO_ACTION", "action")),
        ("\n;;;", (2, "skip", "BLANK_LINE", "")),
        ("a@example.com;marketing;yes;", (2, "reject", "ACTION_UNKNOWN", "action")),
        ("a@example.com;marketing;opt_in;", (2, "reject", "ACTION_UNKNOWN", "action")),
        ("a@example.com;nonsense;opt_out;", (2, "reject", "PURPOSE_UNKNOWN", "purpose")),
        ("a@example.com; ;opt_out;", (2, "reject", "PURPOSE_MISSING", "purpose")),
        (" ;marketing;opt_out;", (2, "reject", "IDENTIFIER_MISSING", "email")),
        ("not-an-address;marketing;opt_out;", (2, "reject", "INVALID_IDENTIFIER", "email")),
        ("a@example.com;marketing;opt_out;03.02.2026", (2, "reject", "TIME_AMBIGUOUS", "occurred_at")),
        ("a@example.com;marketing;opt_out;soon", (2, "reject", "TIME_UNREADABLE", "occurred_at")),
        ("a@example.com;marketing;opt_out;1970-01-01", (2, "reject", "TIME_TOO_EARLY", "occurred_at")),
        ("a@example.com;marketing;opt_out", (2, "reject", "COLUMN_COUNT", "")),
        ("a@example.com;marketing;opt_out;;", (2, "reject", "COLUMN_COUNT", "")),
    ],
)
def test_plain_row_that_cannot_be_used_is_set_aside_by_line_reason_and_column(
    row: str, verdict: tuple[int, str, str, str]
) -> None:
    assert verdicts(read_plain(row))[0] == verdict


def test_plain_namespace_column_says_what_each_identifier_is() -> None:
    content = (
        "namespace,identifier,purpose,action\nphone,+49 30 123456,*,opt_out\nuser,u-7,*,object\nPhone,1,*,opt_out\n"
    )
    rows = read_all(content)
    assert [(row.namespace, row.value) for row in directives(rows)] == [("phone", "+49 30 123456"), ("user", "u-7")]
    assert verdicts(rows) == [(4, "reject", "INVALID_IDENTIFIER", "identifier")]


def test_plain_lines_are_those_of_the_file_although_cells_hold_line_breaks() -> None:
    content = 'email;purpose;action\n"a@example.com\n";marketing;opt_out\nb@example.com;marketing;maybe\n'
    rows = read_all(content)
    assert directives(rows)[0].line == 2
    assert verdicts(rows) == [(4, "reject", "ACTION_UNKNOWN", "action")]


def test_plain_file_of_another_system_s_line_ends_is_read() -> None:
    assert len(directives(read_all("email;purpose;action\r\na@example.com;*;opt_out\r\n"))) == 1


def test_plain_file_with_a_purpose_from_the_operator_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^purpose"):
        read_all(PLAIN_HEADER, NEWSLETTER)


def test_mailchimp_row_is_an_opt_out_of_what_the_operator_names() -> None:
    (row,) = directives(
        read_all(
            MAILCHIMP_HEADER + 'a@example.com,=Anna,2026-02-22 04:21:55,NORMAL,,1,e1,"called us\nsecond, ""line"""\n',
            NEWSLETTER,
        )
    )
    assert (row.namespace, row.value, row.purpose, row.kind) == (
        "email",
        "a@example.com",
        "marketing.email",
        Kind.OPT_OUT,
    )
    assert (row.occurred_at_ms, row.without_zone) == (1_771_734_115_000, True)


def test_mailchimp_file_needs_a_purpose_from_the_operator() -> None:
    with pytest.raises(InvalidRequest, match="name the purpose"):
        read_all(MAILCHIMP_HEADER)
    with pytest.raises(PurposeUnknown):
        read_all(MAILCHIMP_HEADER, ImportOptions(OPTIONS.known_purposes, purpose="nonsense"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PLAIN_HEADER.encode() + b"a@example.com;;;\nzo\xeb@example.com;;;\n", "line 3 is not UTF-8"),
        (PLAIN_HEADER.encode() + b'a@example.com;;;\n"b@example.com;;;\n\n', "line 3: a quoted cell is not closed"),
        (PLAIN_HEADER.encode() + b'"a"@example.com;;;\n', "line 2: a quoted cell goes on after"),
        (PLAIN_HEADER.encode() + b'"' + b"a@example.com;;;\n" * 9000, "line 2: a cell is far too long"),
        (PLAIN_HEADER.encode() + b"a@example.com;*;opt_out;\rb@example.com;*;opt_out;\n", "line 2: the row cannot"),
        (PLAIN_HEADER.encode() + b"x" * (MAX_LINE_BYTES + 1), "line 2 has more than"),
    ],
)
def test_survey_of_a_file_that_cannot_be_read_on_names_line_and_cause(content: bytes, text: str) -> None:
    with pytest.raises(UnreadableImport, match=text) as caught:
        survey_file(BytesIO(content))
    assert "example.com" not in str(caught.value)


def test_survey_counts_rows_and_names_the_file_by_its_content() -> None:
    content = (PLAIN_HEADER + "a@example.com;*;opt_out;\n\nb@example.com;*;opt_out;\n").encode()
    survey = survey_file(BytesIO(content))
    assert survey.row_count == 3
    assert survey.file_digest != survey_file(BytesIO(content + b"\n")).file_digest
    assert survey == survey_file(BytesIO(content))


def test_rows_are_read_only_as_they_are_asked_for() -> None:
    content = BytesIO((PLAIN_HEADER + "a@example.com;*;opt_out;\n" * 100_000).encode())
    survey = survey_file(content)
    content.seek(0)
    next(read_rows(content, survey.shape, OPTIONS))
    assert content.tell() < 1000


def test_rows_do_not_show_what_stands_in_them() -> None:
    assert "anna" not in repr(read_plain("anna@example.com;*;opt_out;"))
