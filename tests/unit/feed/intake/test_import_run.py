import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import TypeAlias

import pytest

from consent.vocabulary.directive import Kind, Proof
from feed.errors import LogWriteFailed, UnreadableImport
from feed.intake.imports.rows import DirectiveRow, Row, RowReason, Verdict, VerdictKind, make_request
from feed.intake.imports.run import (
    MAX_BATCH_ROWS,
    MAX_ROWS_UNDER_WAY,
    ImportInterrupted,
    Outcome,
    make_import_id,
    run_import,
)
from feed.intake.imports.verdicts import VerdictWriter
from feed.intake.requests import RecordDirective

IMPORT_ID = make_import_id(bytes(32), "")


def directive(line: int, *, without_zone: bool = False) -> DirectiveRow:
    return DirectiveRow(line, "email", f"p{line}@example.com", "marketing", Kind.OPT_OUT, 0, without_zone)


def set_aside(line: int, kind: VerdictKind = VerdictKind.REJECT) -> Verdict:
    return Verdict(line, kind, RowReason.ACTION_UNKNOWN, "action")


Batches: TypeAlias = AsyncIterator[Sequence[RecordDirective]]


class Ledger:
    """Answers with what it was told, and knows the keys it has seen.

    It reads on until it has `delay` requests before it answers the first batch.
    """

    def __init__(self, refusals: dict[int, str] | None = None, delay: int = 1) -> None:
        self.refusals = refusals or {}
        self.delay = delay
        self.keys: dict[str, RecordDirective] = {}
        self.sizes: list[int] = []
        self.most_waiting = 0

    async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
        waiting: list[list[Outcome]] = []
        async for batch in batches:
            self.sizes.append(len(batch))
            waiting.append([self._answer(request) for request in batch])
            count = sum(map(len, waiting))
            self.most_waiting = max(self.most_waiting, count)
            if count >= self.delay:
                yield waiting.pop(0)
        for outcomes in waiting:
            yield outcomes

    def _answer(self, request: RecordDirective) -> Outcome:
        line = int(request.idempotency_key.rpartition(":")[2])
        if line in self.refusals:
            return Outcome(self.refusals[line])
        is_replay = request.idempotency_key in self.keys
        self.keys[request.idempotency_key] = request
        return Outcome(is_replay=is_replay)


async def test_run_import_verdicts_come_in_the_order_of_the_file() -> None:
    rows: list[Row] = [
        set_aside(2),
        directive(3),
        set_aside(4, VerdictKind.SKIP),
        directive(5),
        directive(6),
        set_aside(7),
    ]
    seen: list[Verdict] = []
    await run_import(rows, Ledger({5: "RECORD_EXISTS"}, delay=3), IMPORT_ID, on_verdict=seen.append)
    assert [verdict.line for verdict in seen] == [2, 3, 4, 5, 6, 7]
    assert [verdict.kind for verdict in seen] == ["reject", "record", "skip", "reject", "record", "reject"]
    assert seen[3].reason == "RECORD_EXISTS"


async def test_run_import_report_counts_every_row_once() -> None:
    ledger = Ledger({5: "RECORD_EXISTS"})
    rows: list[Row] = [directive(2), directive(3, without_zone=True), set_aside(4, VerdictKind.SKIP), directive(5)]
    report = await run_import([*rows, set_aside(6)], ledger, IMPORT_ID)
    assert (report.recorded, report.replayed, report.skipped, report.rejected, report.rows) == (2, 0, 1, 2, 5)
    assert report.without_zone == 1
    assert report.reasons == {"ACTION_UNKNOWN": 2, "RECORD_EXISTS": 1, "TIME_WITHOUT_ZONE": 1}


async def test_run_import_again_sends_the_same_keys_and_nothing_new() -> None:
    ledger = Ledger()
    rows = [directive(2), directive(3)]
    await run_import(rows, ledger, IMPORT_ID)
    report = await run_import(rows, ledger, IMPORT_ID)
    assert (report.recorded, report.replayed, len(ledger.keys)) == (0, 2, 2)


async def test_run_import_keys_differ_by_file_and_purpose_and_hold_no_identifier() -> None:
    ledger = Ledger()
    for import_id in (IMPORT_ID, make_import_id(bytes(31) + b"1", ""), make_import_id(bytes(32), "marketing")):
        await run_import([directive(2)], ledger, import_id)
    assert len(ledger.keys) == 3
    assert all("example" not in key and len(key) <= 128 for key in ledger.keys)


async def test_run_import_dry_run_sends_nothing_and_judges_every_row() -> None:
    seen: list[Verdict] = []
    report = await run_import([directive(2), set_aside(3)], None, IMPORT_ID, on_verdict=seen.append)
    assert (report.recorded, report.rejected) == (1, 1)
    assert seen == [Verdict(2, VerdictKind.RECORD), set_aside(3)]


async def test_run_import_has_a_bounded_number_of_rows_under_way() -> None:
    rows = (directive(line) for line in range(2, 5_002))
    ledger = Ledger(delay=MAX_ROWS_UNDER_WAY)
    report = await run_import(rows, ledger, IMPORT_ID)
    assert report.recorded == 5_000
    assert ledger.most_waiting == MAX_ROWS_UNDER_WAY


async def test_run_import_long_run_of_rejected_rows_behind_a_waiting_one_is_bounded_too() -> None:
    taken = 0
    taken_while_waiting = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        yield directive(2)
        for line in range(3, 10_000):
            taken += 1
            yield set_aside(line)

    class Slow:
        async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
            nonlocal taken_while_waiting
            assert len(await anext(batches)) == 1
            rest = asyncio.ensure_future(anext(batches, None))
            for _ in range(100):
                await asyncio.sleep(0)
            taken_while_waiting = taken
            yield [Outcome()]
            await rest

    report = await run_import(rows(), Slow(), IMPORT_ID)
    assert 0 < taken_while_waiting <= MAX_ROWS_UNDER_WAY
    assert (report.recorded, report.rejected) == (1, 9_997)


async def test_run_import_file_that_breaks_off_is_an_error_after_what_was_sent_has_its_verdict() -> None:
    def rows() -> Iterator[Row]:
        yield directive(2)
        yield directive(3)
        raise UnreadableImport("line 4 is not UTF-8")

    seen: list[Verdict] = []
    with pytest.raises(UnreadableImport, match="line 4"):
        await run_import(rows(), Ledger(delay=2), IMPORT_ID, on_verdict=seen.append)
    assert [verdict.line for verdict in seen] == [2, 3]


@pytest.mark.parametrize("answers", [[[Outcome()] * 200], []])
@pytest.mark.parametrize("read", [1, 4])
async def test_run_import_feed_that_stops_answering_is_an_error(read: int, answers: list[list[Outcome]]) -> None:
    class Broken:
        async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
            for _ in range(read):
                await anext(batches, None)
            for outcomes in answers:
                yield outcomes

    seen: list[Verdict] = []
    with pytest.raises(ImportInterrupted, match="run the same import again"):
        await run_import(map(directive, range(2, 500)), Broken(), IMPORT_ID, on_verdict=seen.append)
    assert len(seen) == sum(map(len, answers))


@pytest.mark.parametrize("answers", [[1], [3], [2, 1], [0]])
async def test_run_import_answers_to_something_else_are_an_error_and_no_verdict(answers: list[int]) -> None:
    class Confused:
        async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
            async for _ in batches:
                pass
            for count in answers:
                yield [Outcome()] * count

    seen: list[Verdict] = []
    with pytest.raises(ImportInterrupted, match="not those to what it was asked"):
        await run_import([directive(2), directive(3)], Confused(), IMPORT_ID, on_verdict=seen.append)
    assert len(seen) == (2 if answers[0] == 2 else 0)


async def test_run_import_recorder_s_error_passes() -> None:
    class Failing:
        async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
            async for _ in batches:
                raise LogWriteFailed("disk full")
            yield []

    with pytest.raises(LogWriteFailed):
        await run_import([directive(2)], Failing(), IMPORT_ID)


async def test_run_import_rows_are_packed_and_the_rest_is_sent_too() -> None:
    ledger = Ledger()
    rows: list[Row] = [set_aside(line) if line % 10 == 0 else directive(line) for line in range(1, 501)]
    seen: list[Verdict] = []
    await run_import(rows, ledger, IMPORT_ID, on_verdict=seen.append)
    assert ledger.sizes == [MAX_BATCH_ROWS, MAX_BATCH_ROWS, 50]
    assert [verdict.line for verdict in seen] == list(range(1, 501))


async def test_run_import_rows_that_are_long_are_fewer_in_a_batch() -> None:
    ledger = Ledger()
    long = " " * 30_000
    rows = [DirectiveRow(n, "email", f"{long}p@example.com", "marketing", Kind.OPT_OUT, 0, False) for n in range(7)]
    await run_import(rows, ledger, IMPORT_ID)
    assert ledger.sizes == [3, 3, 1]


async def test_run_import_rows_behind_many_rejected_ones_are_sent_before_it_waits_for_room() -> None:
    ledger = Ledger(delay=MAX_ROWS_UNDER_WAY)
    rows: list[Row] = [
        directive(1),
        *map(set_aside, range(2, MAX_ROWS_UNDER_WAY)),
        *map(directive, range(1_000, 1_100)),
    ]

    class Impatient:
        """Answers each batch before it asks for the next, as if nothing else were coming."""

        async def record(self, batches: Batches) -> AsyncGenerator[Sequence[Outcome], None]:
            async for batch in batches:
                ledger.sizes.append(len(batch))
                yield [Outcome()] * len(batch)

    report = await run_import(rows, Impatient(), IMPORT_ID)
    assert ledger.sizes == [2, 99]
    assert (report.recorded, report.rejected) == (101, 998)


async def test_run_import_progress_ends_with_all_rows() -> None:
    seen: list[int] = []
    rows = [directive(line) for line in range(2, 1_602)]
    await run_import(rows, Ledger(), IMPORT_ID, on_progress=seen.append)
    assert seen == [500, 1000, 1500, 1600]


def test_make_request_of_an_imported_grant_proves_nothing() -> None:
    row = DirectiveRow(2, "device", "d1", "marketing", Kind.GRANT, 5, without_zone=True)
    request = make_request(row, "key")
    assert (request.proof, request.assurance, request.granted_by) == (Proof.NONE, 0, 1)
    assert (request.occurred_at_ms, request.without_zone, request.subject.value) == (5, True, "d1")


@pytest.mark.parametrize(
    ("namespace", "of_a_grant", "of_a_denial"),
    [("device", 0, 0), ("email", 1, 1), ("phone", 1, 1), ("user", 1, 2), ("customer-number", 1, 2)],
)
def test_make_request_assurance_is_the_safer_one(namespace: str, of_a_grant: int, of_a_denial: int) -> None:
    for kind, assurance in ((Kind.GRANT, of_a_grant), (Kind.OPT_OUT, of_a_denial), (Kind.OBJECT, of_a_denial)):
        row = DirectiveRow(2, namespace, "v", "marketing", kind, 5, without_zone=False)
        assert make_request(row, "key").assurance == assurance


def test_verdict_file_has_a_line_for_each_row_and_nothing_of_its_content() -> None:
    stream = io.StringIO(newline="")
    writer = VerdictWriter(stream)
    writer.write(Verdict(2, VerdictKind.RECORD))
    writer.write(set_aside(3))
    assert stream.getvalue() == "line,verdict,reason,column\r\n2,record,,\r\n3,reject,ACTION_UNKNOWN,action\r\n"
