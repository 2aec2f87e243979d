"""The log's entries as rows, without any token: what was said when, and by whom, and about nobody."""

from collections.abc import Iterator
from typing import Final

from auditor.export.decisions import Row
from auditor.log_copy import CopiedEntry, LogCopy
from auditor.progress import Progress, no_progress
from consent.errors import ConsentError
from consent.event import EventType
from consent.vocabulary.directive import Kind

EVENT_FIELDS: Final = {
    "seq": "place in the log",
    "type": "name of the type, or its number where it is not known here",
    "state": "`present`, `erased`, or `unreadable`",
    "at_ms": "Unix ms of what it tells, none where it tells no time",
    "source": "who said so",
    "request_id": "joins the entries of one request, hexadecimal; empty for none",
    "key_epoch": "of the tokens in it",
    "purpose": "that it is about",
    "kind": "of a directive",
    "detail": "version of a policy, name of a sidecar, action and outcome of an administrator",
}
"""Name and meaning of every field."""

_TIMES: Final = (
    "occurred_at_ms",
    "received_at_ms",
    "rejected_at_ms",
    "enrolled_at_ms",
    "retired_at_ms",
    "raised_at_ms",
)
_DETAILS: Final = ("version", "sidecar_id", "epoch", "rejection", "action", "outcome", "alert", "about")
_ALL_BUT_CONTENT: Final = 64
_TYPES: Final = {int(known): known.name for known in EventType}
_KINDS: Final = {int(known): known.name.lower() for known in Kind}


def list_events(
    log: LogCopy,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    purposes: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Iterator[Row]:
    """Every entry of a copy.

    Args:
        log: The copy.
        from_ms: Unix ms of the first one wanted; with a limit, entries that tell no time are left out.
        to_ms: Unix ms behind the last one wanted.
        purposes: Only what is about one of these; empty for everything.
        progress: Told how far it is, in bytes, about.

    Raises:
        MalformedLogCopy, FolderUnusable: The copy cannot be read; everything before that has been yielded.
    """
    total = log.size_bytes
    done = told = 0
    for entry in log.entries():
        done += len(entry.event_bytes) + _ALL_BUT_CONTENT
        if done - told >= total // 200:
            told = done
            progress("log", min(done, total), total)
        row = _describe(entry)
        if purposes and row["purpose"] not in purposes:
            continue
        if _is_within(row["at_ms"], from_ms, to_ms):
            yield row


def _is_within(at_ms: int | None, from_ms: int | None, to_ms: int | None) -> bool:
    if from_ms is None and to_ms is None:
        return True
    return at_ms is not None and (from_ms is None or at_ms >= from_ms) and (to_ms is None or at_ms < to_ms)


def _describe(entry: CopiedEntry) -> Row:
    row: Row = dict.fromkeys(EVENT_FIELDS, "")
    row |= {
        "seq": entry.seq,
        "type": _TYPES.get(entry.type_byte, str(entry.type_byte)),
        "state": "present",
        "at_ms": None,
        "key_epoch": None,
    }
    if not entry.event_bytes:
        return row | {"state": "erased"}
    try:
        event = entry.read_event()
    except ConsentError:
        return row | {"state": "unreadable"}
    kind = getattr(event, "kind", None)
    details = [f"{name}={value}" for name in _DETAILS if (value := getattr(event, name, None)) is not None]
    return row | {
        "at_ms": next((getattr(event, name) for name in _TIMES if hasattr(event, name)), None),
        "source": event.source,
        "request_id": event.request_id.hex() if any(event.request_id) else "",
        "key_epoch": event.key_epoch,
        "purpose": getattr(event, "purpose", ""),
        "kind": "" if kind is None else _KINDS.get(kind, str(kind)),
        "detail": " ".join(details),
    }


def format_event_table() -> str:
    """The fields as a Markdown table."""
    rows = ["| field | meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{name}` | {meaning} |" for name, meaning in EVENT_FIELDS.items())]) + "\n"
