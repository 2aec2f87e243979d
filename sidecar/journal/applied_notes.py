"""Notes in the journal of which traced entries came into force: what their spans are made from."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from hosting.clock import Clock
from hosting.telemetry.trace_context import parse_traceparent
from journal.applied import MAX_ENTRIES, AppliedBatch, AppliedEntry, format_applied
from journal.format import FrameKind
from sidecar.errors import JournalUnavailable
from sidecar.ports import LoggedEvent, VerifiedBatch

logger = logging.getLogger(__name__)


class FrameJournal(Protocol):
    """Keeps frames; `sidecar.journal.writer.FileJournal` is one."""

    def note(self, kind: FrameKind, content: bytes) -> None:
        """Keep a frame. Raises JournalUnavailable."""
        ...


class AppliedNotes:
    """Notes batches after they came into force.

    A journal that cannot take a note stops nothing: that an entry is in force matters more than its span, and the log holds the
    sidecar's receipt for it.

    Args:
        journal: Takes the notes.
        clock: The time.
        origin: Name of the log.
    """

    def __init__(self, journal: FrameJournal, clock: Clock, origin: str) -> None:
        self._journal = journal
        self._clock = clock
        self._origin = origin
        self._is_failing = False

    def note(self, batch: VerifiedBatch, started_ms: int) -> None:
        """Note a batch that is in force now; one without traced entries leaves no note.

        Args:
            batch: What came.
            started_ms: Unix ms when it had been verified.
        """
        entries = tuple(islice(_find_traced(batch.events), MAX_ENTRIES))
        if not entries:
            return
        applied = AppliedBatch(self._origin, started_ms, self._clock.now_ms(), batch.head.size, entries)
        try:
            self._journal.note(FrameKind.APPLIED, format_applied(applied))
        except JournalUnavailable as error:
            if not self._is_failing:
                fields = {"reason": error.reason, "log_size": applied.log_size}
                logger.warning("entries came into force that the journal could not note", extra={"fields": fields})
            self._is_failing = True
        else:
            self._is_failing = False


def _find_traced(events: Iterable[LoggedEvent]) -> Iterator[AppliedEntry]:
    """Of the entries that change answers those that belong to a trace."""
    for logged in events:
        # Few have one, and what the feed sends beside an entry is not trusted.
        if logged.traceparent and logged.changes_answers:
            context = parse_traceparent(logged.traceparent)
            if context is not None:
                yield AppliedEntry(logged.seq, logged.event_bytes[1], context.trace_id, context.span_id, context.flags)
