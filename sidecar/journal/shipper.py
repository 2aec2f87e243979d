"""Shipping what the journal holds as spans: at least once, none missing, however long the receiver is away."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from consent.decision_record import CallRecord, MalformedRecord, parse_record
from hosting.clock import Clock
from journal.applied import AppliedBatch, parse_applied
from journal.errors import CorruptJournal, JournalError, TornTail
from journal.format import FrameKind
from journal.reader import FrameAt
from sidecar.errors import KeyServiceError, SidecarError
from sidecar.journal.export_thread import ExportThread, Outcome
from sidecar.journal.position import MalformedPosition, Position, load_positions, save_positions
from sidecar.journal.shipper_status import STATUS_FILE_NAME, StatusKeeper
from sidecar.journal.tail import Tail
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

Project = Callable[[CallRecord], Sequence[ReadableSpan]]
ProjectApplied = Callable[[AppliedBatch], Sequence[ReadableSpan]]

MAX_SPANS: Final = 512
MAX_EVENTS: Final = 8_000
"""Spans, and events on them, of one export: some two megabytes, where receivers commonly refuse more than four."""

MAX_LONE_REFUSALS: Final = 8
"""So often a receiver may reject the same single span, with growing pauses in between, before it is passed over."""

_IDLE_SECONDS: Final = 0.05
_READ_DECISIONS: Final = 4 * MAX_SPANS


class Delays(Protocol):
    """How long to wait after each failure; `sidecar.sync.backoff.Backoff` is one."""

    def next_seconds(self) -> float:
        """The next delay."""
        ...

    def reset(self) -> None:
        """Start over after a success."""
        ...


class Shipper:
    """Tails the journal and exports spans. Runs in a process of its own, at the lowest priority.

    Args:
        directory: The journal's.
        keys: Opens its segments.
        exporter: Where spans go; closed with the shipper.
        position_path: Where it keeps how far it is, `POSITION_FILE_NAME` in the journal's directory by default elsewhere.
        clock: The time.
        project: Makes the spans of a call.
        delays: How long it waits after failures.
        project_applied: Makes the spans of entries that came into force; without it there are none.

    Attributes:
        refused_spans: How many were passed over because the receiver rejects them; each is named in the log.
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyProvider,
        exporter: SpanExporter,
        position_path: Path,
        clock: Clock,
        *,
        project: Project,
        delays: Delays,
        project_applied: ProjectApplied | None = None,
    ) -> None:
        self._position_path = position_path
        self._clock = clock
        self._project = project
        self._project_applied = project_applied
        self.refused_spans = 0
        self._lone_refusals = 0
        self._delays = delays
        self._positions = _load(position_path)
        self._tail = Tail(directory, keys, clock, self._positions, _report)
        self._unshipped: list[FrameAt] = []
        self._export_thread = ExportThread(exporter)
        self._span_limit = MAX_SPANS
        self._failing_since_ms: int | None = None
        self._status = StatusKeeper(position_path.with_name(STATUS_FILE_NAME), clock)

    def run(self, stop: threading.Event) -> None:
        """Ship until `stop` is set; then comes back within about 2 s, and what was not confirmed is sent again later."""
        while not stop.is_set():
            self._status.save_soon()
            try:
                if not self._ship_some(stop):
                    stop.wait(_IDLE_SECONDS)
            except OSError as error:
                logger.error(
                    "the journal cannot be read or its position kept", extra={"fields": {"cause": error.strerror}}
                )
                stop.wait(self._delays.next_seconds())
            except KeyServiceError as error:
                logger.error("the journal cannot be opened now: %s", error, extra={"fields": {"reason": error.reason}})
                stop.wait(self._delays.next_seconds())

    def drain(self, timeout_seconds: float) -> bool:
        """Ship what there is, for at most about this long. Whether everything was shipped."""
        stop = threading.Event()
        timer = threading.Timer(timeout_seconds, stop.set)
        timer.daemon = True
        timer.start()
        try:
            while not stop.is_set():
                if not self._ship_some(stop):
                    return not stop.is_set()
        except OSError as error:
            logger.error("the journal cannot be drained", extra={"fields": {"cause": error.strerror}})
        except KeyServiceError as error:
            logger.error("the journal cannot be drained: %s", error, extra={"fields": {"reason": error.reason}})
        finally:
            timer.cancel()
        return False

    def close(self) -> None:
        """Let go of journal and receiver."""
        self._tail.close()
        self._export_thread.close()

    def _ship_some(self, stop: threading.Event) -> bool:
        """Ship what is new, up to a limit; False where nothing was, or `stop` came first."""
        frames = self._unshipped or self._tail.read(_READ_DECISIONS)
        if not frames:
            return False
        # Kept until they are confirmed: the tail does not read them twice.
        self._unshipped = frames
        spans = [span for frame in frames for record in frame.records for span in self._spans_of(frame, record)]
        if not self._export_all(spans, stop):
            return False
        self._unshipped = []
        self._move_positions(frames)
        return True

    def _spans_of(self, frame: FrameAt, record: bytes) -> Sequence[ReadableSpan]:
        try:
            if frame.kind == FrameKind.RECORDS:
                return self._project(parse_record(record))
            if frame.kind == FrameKind.APPLIED and self._project_applied is not None:
                return self._project_applied(parse_applied(record))
        except (MalformedRecord, CorruptJournal) as error:
            place = {"chain": frame.chain_id.hex(), "segment": frame.segment, "frame": frame.frame}
            logger.error("a record cannot be shipped", extra={"fields": place | {"reason": error.reason}})
        return ()

    def _export_all(self, spans: list[ReadableSpan], stop: threading.Event) -> bool:
        at = 0
        while at < len(spans):
            if stop.is_set():
                return False
            chunk = _take(spans, at, self._span_limit)
            outcome = self._export_thread.export(chunk, stop)
            if outcome is Outcome.TAKEN:
                at += len(chunk)
                self._status.note_taken(len(chunk))
                self._note_success()
            elif outcome is Outcome.REFUSED and len(chunk) == 1 and self._is_refused_for_good(chunk[0]):
                at += 1
            else:
                self._status.note_failure()
                self._note_failure(outcome)
                stop.wait(self._delays.next_seconds())
        return True

    def _is_refused_for_good(self, span: ReadableSpan) -> bool:
        """Whether to pass over a span: rejected alone again and again, it would keep all others from leaving.

        The pauses in between are the longest ones by then, so a receiver that rejects everything loses few before somebody looks.
        """
        self._lone_refusals += 1
        if self._lone_refusals < MAX_LONE_REFUSALS:
            return False
        self._lone_refusals = 0
        self.refused_spans += 1
        named = {"span": span.name}
        if span.context is not None:
            named |= {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
        logger.error("the span receiver rejects a span; the journal alone holds it", extra={"fields": named})
        return True

    def _note_success(self) -> None:
        self._lone_refusals = 0
        self._span_limit = min(MAX_SPANS, self._span_limit * 2)
        self._delays.reset()
        if self._failing_since_ms is not None:
            away_ms = self._clock.boot_ms() - self._failing_since_ms
            logger.warning("the span receiver takes spans again", extra={"fields": {"away_ms": away_ms}})
            self._failing_since_ms = None

    def _note_failure(self, outcome: Outcome) -> None:
        # A receiver that refuses a size takes a smaller one; one that is away does not mind.
        self._span_limit = max(1, self._span_limit // 2)
        if self._failing_since_ms is None:
            self._failing_since_ms = self._clock.boot_ms()
            logger.warning(
                "the span receiver does not take spans; they wait in the journal",
                extra={"fields": {"outcome": outcome.value}},
            )

    def _move_positions(self, frames: Sequence[FrameAt]) -> None:
        for frame in frames:
            earlier = self._positions.get(frame.chain_id)
            decisions = frame.decisions + (earlier.decisions if earlier else 0)
            self._positions[frame.chain_id] = Position(
                frame.segment, frame.end, frame.frame + 1, frame.chain_hash, decisions
            )
        for chain_id in self._positions.keys() - self._tail.chain_ids:
            del self._positions[chain_id]
        save_positions(self._position_path, self._positions)


def _take(spans: Sequence[ReadableSpan], start: int, limit: int) -> list[ReadableSpan]:
    """The next spans of one export: at least one, at most `limit`, with at most `MAX_EVENTS` events together."""
    taken = [spans[start]]
    events = len(spans[start].events)
    for span in spans[start + 1 : start + limit]:
        events += len(span.events)
        if events > MAX_EVENTS:
            break
        taken.append(span)
    return taken


def _load(position_path: Path) -> dict[bytes, Position]:
    try:
        return load_positions(position_path)
    except MalformedPosition as error:
        logger.error("everything is shipped again", extra={"fields": {"reason": error.reason}})
        return {}


def _report(fault: JournalError | SidecarError) -> None:
    """Say what reading found, once; a torn end is what a crash leaves, everything else somebody must look at."""
    level = logging.WARNING if isinstance(fault, TornTail) else logging.ERROR
    logger.log(level, "journal: %s", fault, extra={"fields": {"reason": fault.reason}})
