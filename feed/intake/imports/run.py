"""An import from the first row to the report: many rows under way at once, verdicts in the order of the file.

Each row has an idempotency key made of the file and the row's place in it. So a run that was broken off is resumed by running it
again, and a file that was imported already changes nothing.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from feed.errors import FeedError
from feed.intake.imports.rows import DirectiveRow, Row, RowReason, Verdict, VerdictKind, make_request
from feed.intake.requests import RecordDirective

MAX_ROWS_UNDER_WAY = 1_000
MAX_BATCH_ROWS = 200
_MAX_BATCH_CHARACTERS = 64 * 1024
"""Of identifiers: bounds the message whatever stands in the cells."""
_PROGRESS_ROWS = 500


class ImportInterrupted(FeedError):
    """The feed stopped answering before the last row. The same import, run again, goes on where it stopped."""

    reason = "IMPORT_INTERRUPTED"


class Outcome(NamedTuple):
    """What the feed made of one request.

    Attributes:
        rejection: Stable reason of a refusal; empty where it was recorded.
        is_replay: It had been recorded before.
    """

    rejection: str = ""
    is_replay: bool = False


class DirectiveRecorder(Protocol):
    """Where an import sends its requests."""

    def record(self, batches: AsyncIterator[Sequence[RecordDirective]]) -> AsyncGenerator[Sequence[Outcome], None]:
        """Record every request of every batch.

        Args:
            batches: None is empty; no more than `MAX_BATCH_ROWS` requests each. Read on while outcomes are awaited.

        Returns:
            For each batch, in order, one outcome for each of its requests, in order; durable when it comes.
        """
        ...


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Counts of rows.

    Attributes:
        recorded: Now in the log; of a dry run, those that would be.
        replayed: Were in the log already, from an earlier run.
        skipped: Said nothing.
        rejected: Could not be used, or were refused.
        without_zone: Of those recorded or replayed: with a time without a zone, taken as UTC.
        reasons: Rows for each reason of a verdict.
    """

    recorded: int
    replayed: int
    skipped: int
    rejected: int
    without_zone: int
    reasons: Mapping[str, int]

    @property
    def rows(self) -> int:
        """All rows."""
        return self.recorded + self.replayed + self.skipped + self.rejected


def make_import_id(file_digest: bytes, purpose: str) -> str:
    """Names an import: the same file for the same purpose is the same import.

    Args:
        file_digest: SHA-256 of the file (`Survey.file_digest`).
        purpose: What the operator named, or empty.
    """
    return hashlib.sha256(file_digest + purpose.encode()).hexdigest()[:32]


async def run_import(
    rows: Iterable[Row],
    recorder: DirectiveRecorder | None,
    import_id: str,
    *,
    on_verdict: Callable[[Verdict], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import rows.

    Args:
        rows: Of `read_rows`.
        recorder: Where requests go; None for a dry run, which sends nothing.
        import_id: Of `make_import_id`.
        on_verdict: Called for each row, in the order of the file, once its fate is known.
        on_progress: Called every few hundred rows, and at the end, with the number of rows whose fate is known.

    Raises:
        ImportInterrupted: The feed stopped answering.
        UnreadableImport, FeedError: What reading a row, or the recorder, raised; everything sent before has its verdict.
    """
    tally = _Tally(on_verdict, on_progress)
    if recorder is None:
        for row in rows:
            tally.count(_judge(row, Outcome()) if isinstance(row, DirectiveRow) else row)
    else:
        await _Session(rows, import_id, tally).run(recorder)
    return tally.report()


def _judge(row: DirectiveRow, outcome: Outcome) -> Verdict:
    if outcome.rejection:
        return Verdict(row.line, VerdictKind.REJECT, outcome.rejection)
    return Verdict(row.line, VerdictKind.RECORD, RowReason.TIME_WITHOUT_ZONE if row.without_zone else "")


class _Session:
    """Rows on their way: those that wait for their outcome, and between them verdicts that wait for their turn."""

    def __init__(self, rows: Iterable[Row], import_id: str, tally: "_Tally") -> None:
        self._rows = rows
        self._import_id = import_id
        self._tally = tally
        self._under_way: deque[Row] = deque()
        self._batch: list[RecordDirective] = []
        self._batch_characters = 0
        self._sent_sizes: deque[int] = deque()
        self._has_room = asyncio.Event()
        self._is_read_to_the_end = False
        self._read_error: Exception | None = None

    async def run(self, recorder: DirectiveRecorder) -> None:
        async with aclosing(recorder.record(self._batches())) as answers:
            async for outcomes in answers:
                self._settle(outcomes)
        if self._read_error is not None:
            raise self._read_error
        if self._under_way or not self._is_read_to_the_end:
            raise ImportInterrupted("the feed stopped answering; run the same import again to go on")

    async def _batches(self) -> AsyncIterator[list[RecordDirective]]:
        # Whoever reads this may be a foreign task that would swallow the error, so it is kept for `run`.
        try:
            for number, row in enumerate(self._rows):
                while len(self._under_way) >= MAX_ROWS_UNDER_WAY:
                    # What is not sent yet is never answered, so it must not wait for room that only answers make.
                    if self._batch:
                        yield self._take_batch()
                    else:
                        self._has_room.clear()
                        await self._has_room.wait()
                if self._add(row):
                    yield self._take_batch()
                if number % _PROGRESS_ROWS == 0:
                    # A long run without a request to send must not stop everything else.
                    await asyncio.sleep(0)
            self._is_read_to_the_end = True
        except Exception as error:  # noqa: BLE001 - raised again by `run`
            self._read_error = error
        if self._batch:
            yield self._take_batch()

    def _add(self, row: Row) -> bool:
        """Take one more row under way; returns whether the batch is full."""
        self._under_way.append(row)
        if not isinstance(row, DirectiveRow):
            self._settle_leading_verdicts()
            return False
        self._batch.append(make_request(row, f"{self._import_id}:{row.line}"))
        self._batch_characters += len(row.value)
        return len(self._batch) >= MAX_BATCH_ROWS or self._batch_characters >= _MAX_BATCH_CHARACTERS

    def _take_batch(self) -> list[RecordDirective]:
        batch, self._batch, self._batch_characters = self._batch, [], 0
        self._sent_sizes.append(len(batch))
        return batch

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        if not self._sent_sizes or len(outcomes) != self._sent_sizes.popleft():
            raise ImportInterrupted("the feed's answers are not those to what it was asked")
        for outcome in outcomes:
            row = self._pop_directive()
            self._tally.count(_judge(row, outcome), is_replay=outcome.is_replay)
        self._settle_leading_verdicts()
        self._has_room.set()

    def _pop_directive(self) -> DirectiveRow:
        while isinstance(row := self._under_way.popleft(), Verdict):
            self._tally.count(row)
        return row

    def _settle_leading_verdicts(self) -> None:
        while self._under_way and isinstance(row := self._under_way[0], Verdict):
            self._under_way.popleft()
            self._tally.count(row)


class _Tally:
    """Counts verdicts and passes them on."""

    def __init__(self, on_verdict: Callable[[Verdict], None] | None, on_progress: Callable[[int], None] | None) -> None:
        self._on_verdict = on_verdict
        self._on_progress = on_progress
        self._kinds: Counter[VerdictKind] = Counter()
        self._reasons: Counter[str] = Counter()
        self._replayed = 0
        self._rows = 0

    def count(self, verdict: Verdict, *, is_replay: bool = False) -> None:
        self._rows += 1
        self._kinds[verdict.kind] += 1
        self._replayed += is_replay
        if verdict.reason:
            self._reasons[str(verdict.reason)] += 1
        if self._on_verdict is not None:
            self._on_verdict(verdict)
        if self._on_progress is not None and self._rows % _PROGRESS_ROWS == 0:
            self._on_progress(self._rows)

    def report(self) -> ImportReport:
        if self._on_progress is not None:
            self._on_progress(self._rows)
        return ImportReport(
            recorded=self._kinds[VerdictKind.RECORD] - self._replayed,
            replayed=self._replayed,
            skipped=self._kinds[VerdictKind.SKIP],
            rejected=self._kinds[VerdictKind.REJECT],
            without_zone=self._reasons[RowReason.TIME_WITHOUT_ZONE],
            reasons=dict(sorted(self._reasons.items())),
        )
