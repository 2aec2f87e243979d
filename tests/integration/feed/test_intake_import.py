"""Imports over a real socket into a real log: what a file says is in force, once, however often the import is run."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import grpc
import pytest

from consent.event import DirectiveEvent, DirectiveFlag, parse_event
from consent.vocabulary.directive import Kind
from feed.grpc_api.intake_client import IntakeClient
from feed.intake.imports.reading import ImportOptions, read_rows
from feed.intake.imports.rows import Verdict
from feed.intake.imports.run import (
    MAX_BATCH_ROWS,
    DirectiveRecorder,
    ImportInterrupted,
    ImportReport,
    Outcome,
    make_import_id,
    run_import,
)
from feed.intake.imports.survey import survey_file
from feed.intake.requests import RecordDirective
from tests.fakes.feed_log import verify_everything
from tests.integration.feed.intake_feed import TOKENISER, IntakeFeed, running_intake
from tests.unit.feed.intake.desk import IMPORT, WEB

AFTER_THE_SAMPLES_MS = 1_798_761_600_000
PURPOSES = frozenset({"marketing", "newsletter"})


async def import_bytes(
    recorder: DirectiveRecorder, content: bytes, purpose: str = "", verdicts: list[Verdict] | None = None
) -> ImportReport:
    """What the command does: survey, read, record."""
    stream = BytesIO(content)
    survey = survey_file(stream)
    stream.seek(0)
    rows = read_rows(stream, survey.shape, ImportOptions(PURPOSES, purpose))
    import_id = make_import_id(survey.file_digest, purpose)
    return await run_import(rows, recorder, import_id, on_verdict=None if verdicts is None else verdicts.append)


def plain(count: int) -> bytes:
    rows = (f"person{number}@example.com;marketing;opt_out;2026-01-01T00:00:00Z\n" for number in range(count))
    return b"email;purpose;action;occurred_at\n" + "".join(rows).encode()


async def directives(feed: IntakeFeed) -> list[DirectiveEvent]:
    events = [parse_event(entry.event_bytes) for entry in await verify_everything(feed.log.store)]
    return [event for event in events if isinstance(event, DirectiveEvent)]


async def test_import_of_the_mailchimp_sample_denies_everybody_in_it_once(
    tmp_path: Path, shared_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    content = (shared_directory / "data" / "imports" / "mailchimp_unsubscribed.csv").read_bytes()
    async with running_intake(tmp_path, IMPORT) as feed:
        feed.log.clock.set_wall(AFTER_THE_SAMPLES_MS)
        recorder = IntakeClient(feed.channel)
        first = await import_bytes(recorder, content, "newsletter")
        again = await import_bytes(recorder, content, "newsletter")
        recorded = await directives(feed)
        assert first.recorded == again.replayed == len(recorded) == first.rows
        assert (again.recorded, again.rejected) == (0, 0)
        assert {(event.kind, event.purpose, event.source) for event in recorded} == {
            (Kind.OPT_OUT, "newsletter", "import")
        }
        assert {event.flags for event in recorded} == {DirectiveFlag.IMPORTED | DirectiveFlag.TIME_WITHOUT_ZONE}
        assert TOKENISER.token("email", "Ada.1@example.com") in {event.token for event in recorded}
    said = [caplog.text.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
    assert len(said) > 1
    for identifier in (b"donald.2+news", b"ADA.1@", b"ada.1@"):
        assert not any(identifier in text for text in said)


async def test_import_of_the_plain_sample_comes_to_denials_and_first_grants(
    tmp_path: Path, shared_directory: Path
) -> None:
    content = (shared_directory / "data" / "imports" / "plain.csv").read_bytes()
    verdicts: list[Verdict] = []
    async with running_intake(tmp_path, IMPORT) as feed:
        report = await import_bytes(IntakeClient(feed.channel), content, verdicts=verdicts)
        recorded = await directives(feed)
    assert report.rows == len(verdicts) == content.count(b"\n") - 1
    assert report.recorded == len(recorded) > 0
    assert {event.kind for event in recorded} == {Kind.OPT_OUT, Kind.GRANT}
    assert {event.proof for event in recorded} == {0}


async def test_import_grant_of_somebody_who_said_no_is_refused_in_its_row(tmp_path: Path) -> None:
    content = b"email;purpose;action\nanna@example.com;newsletter;grant\nben@example.com;newsletter;grant\n"
    async with running_intake(tmp_path, IMPORT) as feed:
        recorder = IntakeClient(feed.channel)
        await import_bytes(recorder, b"email;purpose;action\nAnna@example.com ;marketing;object\n")
        verdicts: list[Verdict] = []
        report = await import_bytes(recorder, content, verdicts=verdicts)
        assert [(verdict.line, verdict.kind, verdict.reason) for verdict in verdicts] == [
            (2, "reject", "RECORD_EXISTS"),
            (3, "record", ""),
        ]
        assert (report.recorded, report.rejected) == (1, 1)


async def test_import_broken_off_by_the_feed_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    content = plain(1_800)

    class StopsTheFeed:
        """Stops the server once some rows were answered, as a crash would."""

        def __init__(self, feed: IntakeFeed) -> None:
            self.feed = feed
            self.inner = IntakeClient(feed.channel)

        async def record(
            self, batches: AsyncIterator[Sequence[RecordDirective]]
        ) -> AsyncGenerator[Sequence[Outcome], None]:
            async for outcomes in self.inner.record(batches):
                yield outcomes
                await self.feed.server.stop(0)

    verdicts: list[Verdict] = []
    async with running_intake(tmp_path, IMPORT) as feed:
        with pytest.raises(ImportInterrupted, match="run the same import again"):
            await import_bytes(StopsTheFeed(feed), content, verdicts=verdicts)
        size = feed.log.sequencer.head.size
    assert MAX_BATCH_ROWS <= len(verdicts) < 1_800
    assert size < 3_600
    async with running_intake(tmp_path, IMPORT, publishes=False) as feed:
        report = await import_bytes(IntakeClient(feed.channel), content)
        recorded = await directives(feed)
    assert report.replayed >= len(verdicts)
    assert report.recorded + report.replayed == len(recorded) == len({event.token for event in recorded}) == 1_800


async def test_import_of_the_longest_rows_does_not_break_off(tmp_path: Path) -> None:
    # White space that no identifier keeps, three bytes a character: together they would be more than a message may be.
    header, _, short = plain(200).partition(b"\n")
    long = (f"anna{number}@example.com{chr(0x3000) * 130_000};marketing;opt_out;\n" for number in range(3))
    verdicts: list[Verdict] = []
    async with running_intake(tmp_path, IMPORT) as feed:
        await import_bytes(
            IntakeClient(feed.channel), header + b"\n" + "".join(long).encode() + short, verdicts=verdicts
        )
    assert [verdict.reason for verdict in verdicts] == ["INVALID_REQUEST"] * 3 + [""] * 200


async def test_import_without_a_feed_says_so(tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"unix://{tmp_path}/nobody.sock") as channel:
        with pytest.raises(ImportInterrupted, match=r"does not answer.*UNAVAILABLE"):
            await import_bytes(IntakeClient(channel), plain(1))


async def test_import_at_a_listener_that_takes_none_says_so(tmp_path: Path) -> None:
    async with running_intake(tmp_path, replace(WEB, methods=frozenset({"RecordDirective"}))) as feed:
        with pytest.raises(ImportInterrupted, match=r"takes no imports \(SOURCE_NOT_PERMITTED\)"):
            await import_bytes(IntakeClient(feed.channel), plain(1))


async def test_import_of_a_broken_file_records_nothing(tmp_path: Path) -> None:
    async with running_intake(tmp_path, IMPORT) as feed:
        size = feed.log.sequencer.head.size
        for content in (plain(5) + b"zo\xeb@example.com;*;opt_out;\n", plain(5) + b'"cut'):
            with pytest.raises(Exception, match="line 7"):
                await import_bytes(IntakeClient(feed.channel), content)
        assert feed.log.sequencer.head.size == size
