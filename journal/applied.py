"""Entries of the log that came into force at a sidecar, as its journal keeps them. docs/decision-record.md has the layout."""

from dataclasses import dataclass
from typing import Final

from consent import encoding as wire
from journal.errors import CorruptJournal

FORMAT_VERSION: Final = 1
MAX_ENTRIES: Final = 1_000
"""Of one batch: what catches up with a long outage is not traced entry by entry beyond this."""


@dataclass(frozen=True, slots=True)
class AppliedEntry:
    """An entry that belongs to a trace.

    Attributes:
        seq: Its number in the log.
        event_type: Type byte of its event.
        trace_id: 16 bytes.
        parent_span_id: 8 bytes: of the span that its `traceparent` names.
        trace_flags: One byte.
    """

    seq: int
    event_type: int
    trace_id: bytes
    parent_span_id: bytes
    trace_flags: int


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """Entries that came into force in one step.

    Attributes:
        origin: Name of the log.
        started_ms: Unix ms by the sidecar's clock, when they had been verified.
        at_ms: When they were in force.
        log_size: Entries held with them.
        entries: Those that belong to a trace, at most `MAX_ENTRIES`.
    """

    origin: str
    started_ms: int
    at_ms: int
    log_size: int
    entries: tuple[AppliedEntry, ...]


_ENTRY: Final = wire.record(
    AppliedEntry,
    (
        ("seq", wire.U64),
        ("event_type", wire.U8),
        ("trace_id", wire.raw(16)),
        ("parent_span_id", wire.raw(8)),
        ("trace_flags", wire.U8),
    ),
)
_BATCH: Final = wire.record(
    AppliedBatch,
    (
        ("origin", wire.STRING),
        ("started_ms", wire.TIME),
        ("at_ms", wire.TIME),
        ("log_size", wire.U64),
        ("entries", wire.sequence(_ENTRY)),
    ),
)


def format_applied(batch: AppliedBatch) -> bytes:
    """The content of an APPLIED frame.

    Raises:
        ValueError: More than `MAX_ENTRIES` entries, or a field is out of range.
    """
    if len(batch.entries) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} entries")
    return bytes((FORMAT_VERSION,)) + _BATCH.write(batch)


def parse_applied(content: bytes) -> AppliedBatch:
    """Read the content of an APPLIED frame.

    Raises:
        CorruptJournal: Not what `format_applied` writes.
    """
    if content[:1] != bytes((FORMAT_VERSION,)):
        raise CorruptJournal("applied entries of a version that is not known here")
    try:
        batch: AppliedBatch = wire.read_whole(_BATCH, content[1:])
    except wire.Truncated as error:
        raise CorruptJournal(f"applied entries: {error}") from None
    if len(batch.entries) > MAX_ENTRIES:
        raise CorruptJournal("applied entries: too many")
    return batch
