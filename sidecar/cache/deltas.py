"""Deltas: what came since the last merge, one sealed run of events for each batch, and their fold over the table."""

import struct
from collections.abc import Callable, Iterable, Iterator

from consent import encoding as wire
from consent.errors import MalformedState
from consent.event import Event, parse_event
from consent.state import Cluster, fold_event
from sidecar.ports import LoggedEvent

FindCluster = Callable[[bytes], Cluster | None]

_ENTRY = wire.pair(wire.U64, wire.BLOB)


def format_delta(events: Iterable[LoggedEvent]) -> bytes:
    """(seq, event bytes) of each event that can change an answer."""
    return b"".join(_ENTRY.write((logged.seq, logged.event_bytes)) for logged in events if logged.changes_answers)


def parse_delta(delta_bytes: bytes) -> Iterator[tuple[int, Event]]:
    """Read them back.

    Raises:
        MalformedState: Not a run of entries.
        MalformedEvent, UnknownEventType: An entry's event cannot be read.
    """
    at = 0
    while at < len(delta_bytes):
        try:
            (seq, event_bytes), at = _ENTRY.read(delta_bytes, at)
        except (wire.Truncated, struct.error):
            raise MalformedState("a delta is cut short") from None
        yield seq, parse_event(event_bytes)


def fold_events(
    events: Iterable[tuple[int, Event]], find: FindCluster, policy_drops: tuple[int, ...]
) -> dict[bytes, Cluster]:
    """Fold events over a state that stays as it is.

    Args:
        events: (seq, event) in order.
        find: Looks up the state before them.
        policy_drops: As `fold_event`. Drops after an event's seq change nothing about it, so the newest list serves for all.

    Returns:
        The new cluster of every token concerned.
    """
    changed: dict[bytes, Cluster] = {}

    def find_newest(token: bytes) -> Cluster | None:
        return changed.get(token) or find(token)

    for seq, event in events:
        changed.update(fold_event(event, seq, find_newest, policy_drops))
    return changed
