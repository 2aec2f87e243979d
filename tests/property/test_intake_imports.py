"""Whatever a file holds: it is refused as a whole by line and cause, or every row of it comes to a directive or to a verdict."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consent.errors import InvalidIdentifier
from consent.event import format_event, parse_event
from consent.policy import policy_from_mapping
from consent.vocabulary.subject import normalise
from feed.errors import FeedError, UnreadableImport
from feed.intake.imports.reading import ACTIONS, ImportOptions, read_rows
from feed.intake.imports.rows import DirectiveRow, Row, RowReason, Verdict
from feed.intake.imports.run import ImportReport, Outcome, make_import_id, run_import
from feed.intake.imports.shapes import ShapeName
from feed.intake.imports.survey import survey_file
from feed.intake.imports.times import StatedTime, parse_stated_time
from feed.intake.imports.verdicts import VerdictWriter
from feed.intake.occurrence import EARLIEST_MS, LATEST_MS
from feed.intake.requests import RecordDirective
from feed.ports import Accepted
from tests.unit.feed.intake.desk import IMPORT, Desk

PURPOSES = frozenset({"marketing", "newsletter"})
POLICY = policy_from_mapping({"purposes": {name: {} for name in PURPOSES}})
HEADERS = [
    b"email;purpose;action;occurred_at\n",
    b"\xef\xbb\xbfaction,identifier,namespace,purpose\r\n",
    b"Email Address,X,UNSUB_TIME,LEID\n",
]

cells = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["a@example.com", " A@EXAMPLE.com", "b@example.com", "marketing", "newsletter", "*", "", "=1+1"]),
    st.sampled_from([*ACTIONS, "yes", "2026-05-30T05:58:55Z", "20260122T111244", "29.06.2026", "03.02.2026", "email"]),
)
tables = st.lists(st.lists(cells, max_size=5), max_size=12)


def write_table(rows: list[list[str]], delimiter: str, header: bytes) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return header + text.getvalue().encode()


def read(content: bytes) -> list[Row]:
    stream = io.BytesIO(content)
    survey = survey_file(stream)
    stream.seek(0)
    purpose = "" if survey.shape.name is ShapeName.PLAIN else "marketing"
    rows = list(read_rows(stream, survey.shape, ImportOptions(PURPOSES, purpose)))
    assert len(rows) == survey.row_count
    return rows


@given(st.binary(max_size=300), st.sampled_from([b"", *HEADERS]))
@example(b"\x00;\x00;\x00;\x00\n", HEADERS[0])
@example(b'"', HEADERS[0])
@example(b"a;b;c;d\re;f;g;h", HEADERS[0])
def test_import_of_arbitrary_bytes_is_refused_by_line_or_read_to_its_end(content: bytes, header: bytes) -> None:
    refusal = ""
    rows: list[Row] = []
    try:
        rows = read(header + content)
    except UnreadableImport as error:
        refusal = str(error)
    assert not refusal or "line " in refusal
    for row in rows:
        assert row.line >= 2
        if isinstance(row, DirectiveRow):
            normalise(row.namespace, row.value)


@given(tables, st.sampled_from(list(zip(";,,", HEADERS, strict=True))))
def test_import_verdicts_are_in_order_and_hold_nothing_of_the_file(
    table: list[list[str]], kind: tuple[str, bytes]
) -> None:
    rows = read(write_table(table, *kind))
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    written = io.StringIO(newline="")
    writer = VerdictWriter(written)
    for row in rows:
        if isinstance(row, Verdict):
            writer.write(row)
            assert row.reason in set(RowReason)
    known = {*RowReason, "skip", "reject", "", "email", "identifier", "purpose", "action", "occurred_at"}
    said = {word for line in list(csv.reader(io.StringIO(written.getvalue())))[1:] for word in line[1:]}
    assert said <= known


@given(
    st.text(max_size=40) | st.from_regex(r"[0-9]{1,4}[-.]?[0-9]{2}[-.]?[0-9]{2,4}[T ]?[0-9:+Z.]{0,16}"), st.booleans()
)
def test_time_of_any_text_is_a_time_or_a_reason(cell: str, is_denial: bool) -> None:
    stated = parse_stated_time(cell, is_denial=is_denial)
    assert isinstance(stated, StatedTime | RowReason)


@given(st.integers(EARLIEST_MS, LATEST_MS - 86_400_000), st.integers(-1439, 1439), st.sampled_from("T "))
def test_time_written_in_iso_8601_is_read_as_it_was_meant(at_ms: int, offset_minutes: int, separator: str) -> None:
    zone = timezone(timedelta(minutes=offset_minutes))
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone)
    assert parse_stated_time(moment.isoformat(separator), is_denial=True) == StatedTime(at_ms, without_zone=False)


class DeskRecorder:
    """An import's recorder that is the intake itself; it breaks after so many rows."""

    def __init__(self, desk: Desk, breaks_after: int | None = None) -> None:
        self.desk = desk
        self.left = breaks_after

    async def record(
        self, batches: AsyncIterator[Sequence[RecordDirective]]
    ) -> AsyncGenerator[Sequence[Outcome], None]:
        async for batch in batches:
            yield [await self._answer(request) for request in batch]

    async def _answer(self, request: RecordDirective) -> Outcome:
        if self.left == 0:
            raise ConnectionResetError
        self.left = None if self.left is None else self.left - 1
        (outcome,) = await self.desk.recorder.record_directives(IMPORT, [request])
        if isinstance(outcome, FeedError | InvalidIdentifier):
            return Outcome(outcome.reason)
        assert isinstance(outcome, Accepted)
        return Outcome(is_replay=outcome.is_replay)


@given(tables, st.integers(0, 8))
def test_import_broken_off_and_run_again_leaves_the_log_of_one_undisturbed_run(
    table: list[list[str]], breaks_after: int
) -> None:
    content = write_table(table, ";", HEADERS[0])

    async def run(desk: Desk, breaks_after: int | None = None) -> ImportReport:
        return await run_import(read(content), DeskRecorder(desk, breaks_after), make_import_id(bytes(32), ""))

    def logged(desk: Desk) -> list[bytes]:
        events = [parse_event(entry.event_bytes) for entry in desk.log.entries]
        return [format_event(event)[26:] for event in events]  # without type, epoch and the random request id

    async def compare() -> None:
        undisturbed, disturbed = await Desk().open(POLICY), await Desk().open(POLICY)
        report = await run(undisturbed)
        try:
            await run(disturbed, breaks_after)
        except ConnectionResetError:
            resumed = await run(disturbed)
            assert resumed.replayed <= breaks_after
        again = await run(disturbed)
        assert logged(disturbed) == logged(undisturbed)
        assert (again.recorded, again.replayed) == (0, report.recorded)
        assert (again.rejected, again.skipped) == (report.rejected, report.skipped)

    asyncio.run(compare())


@pytest.mark.parametrize("header", HEADERS)
def test_import_headers_of_these_tests_are_recognised(header: bytes) -> None:
    assert read(header) == []
