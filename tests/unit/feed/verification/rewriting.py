"""What somebody can do who holds the key of a log's file, and not the keys that sign."""

import asyncio
from pathlib import Path

from consent.event import Event, format_event
from consent.eventlog.merkle import Frontier, hash_entry
from feed.log_store.reader import LogPlace, LogReader
from feed.log_store.tree import node_position
from feed.ports import StoredEntry
from tests.fakes.feed_log import KEYS, ORIGIN, TENANT, open_store, read_all, seed
from tests.unit.feed.verification.stored_logs import change


def rewrite_entry(directory: Path, seq: int, event: Event, *, with_tree: bool) -> None:
    """Put another event in the place of one, sealed as the feed seals; on demand with every stored node made to fit."""
    asyncio.run(_rewrite(directory, seq, event, with_tree=with_tree))


async def _rewrite(directory: Path, seq: int, event: Event, *, with_tree: bool) -> None:
    store = await open_store(directory)
    entries = await read_all(store)
    entries[seq - 1] = StoredEntry(seq, event.TYPE, seed("opening"), format_event(event))
    await store.close()
    # Under a key that the file knows: the store's own new one is written down with its first commit only.
    with LogReader.open(LogPlace(directory, ORIGIN, TENANT, KEYS.kek)) as reader:
        row = reader._rows.entry_row(entries[seq - 1])
    change(directory, f"UPDATE entry SET sealed = x'{row[2].hex()}' WHERE seq = {seq}")
    if with_tree:
        frontier = Frontier()
        nodes = [
            node
            for entry in entries
            for node in frontier.append(hash_entry(entry.type_byte, entry.opening, entry.event_bytes))
        ]
        change(
            directory,
            *(f"UPDATE node SET hash = x'{node_hash.hex()}' WHERE position = {node_position(level, index)}"
              for level, index, node_hash in nodes),
        )  # fmt: skip
