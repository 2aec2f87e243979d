"""Puts entries that were logged once back into a store: folded, hashed and committed as they were."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from consent.errors import ConsentError
from consent.event import parse_event
from feed.errors import CorruptArchive, CorruptLog, FeedError
from feed.log_store.port import LogStore, StoredHead
from feed.log_store.segments import Frame
from feed.sequencer.batch_builder import BatchBuilder
from feed.sequencer.state_changes import tokens_of

_BATCH_ENTRIES: Final = 2_000
_BATCH_REQUESTS: Final = 5_000


async def replay_frame(store: LogStore, before: StoredHead, frame: Frame) -> StoredHead:
    """Commit a frame as one batch and return the head after it.

    Raises:
        CorruptArchive: An entry cannot have been logged there.
        LogStoreError: It cannot be written.
    """
    try:
        tokens = {token for entry in frame.entries for token in tokens_of(parse_event(entry.event_bytes))}
        records = await store.find_clusters(tokens) if tokens else {}
        builder = BatchBuilder(before, records, {}, frame.checkpoint_time_ms, None)
        builder.replay(frame.entries)
    except CorruptLog:
        raise
    except (ConsentError, FeedError) as error:
        raise CorruptArchive(f"the entries from {frame.from_seq} on cannot be folded: {error}") from None
    batch = builder.build(frame.checkpoint_note, frame.checkpoint_time_ms)
    await store.commit(replace(batch, replayed_requests=dict(frame.requests)))
    return batch.head


def join_frames(frames: Iterable[Frame], size: int) -> Iterator[Frame]:
    """Frames joined to larger ones, up to the checkpoint of a size, which is the last one's: fewer and larger commits."""
    joined: Frame | None = None
    for frame in frames:
        if joined is None:
            joined = frame
        else:
            joined = Frame(
                joined.from_seq,
                [*joined.entries, *frame.entries],
                [*joined.requests, *frame.requests],
                frame.checkpoint_note,
                frame.checkpoint_time_ms,
            )
        is_end = joined.size == size and bool(frame.checkpoint_note)
        if is_end or len(joined.entries) >= _BATCH_ENTRIES or len(joined.requests) >= _BATCH_REQUESTS:
            yield joined
            joined = None
        if is_end:
            return
