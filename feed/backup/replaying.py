"""Puts entries that were logged once back into a store: folded, hashed and committed as they were."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from consent.errors import ConsentError
from consent.event import ErasureEvent, EventType, KeyEpochEvent
from feed.errors import CorruptArchive, CorruptLog, FeedError, ForeignLog
from feed.log_store.port import LogStore, StoredHead
from feed.log_store.segments import Frame
from feed.ports import StoredEntry, erase_payload
from feed.sequencer.batch_builder import BatchBuilder
from feed.sequencer.state_changes import tokens_of
from feed.signing.subject_keys import SubjectKeys

_BATCH_ENTRIES: Final = 2_000
_BATCH_REQUESTS: Final = 5_000


async def replay_frame(store: LogStore, before: StoredHead, frame: Frame, subject_keys: SubjectKeys) -> StoredHead:
    """Commit a frame and return the head after it.

    In one batch, unless a key epoch begins within it, which an archive's frame of one commit never has. What an ERASURE in it names
    loses its payload again, wherever it was read from.

    Raises:
        CorruptArchive: An entry cannot have been logged there.
        ForeignLog: A key epoch begins whose subject key is not at hand.
        LogStoreError: It cannot be written.
    """
    try:
        erased_seqs = _find_erased(frame)
        entries = [_without_payload(entry) if entry.seq in erased_seqs else entry for entry in frame.entries]
        # Those of earlier frames, which are in the store already.
        erased = [
            entry
            for seq in sorted(seq for seq in erased_seqs if seq < frame.from_seq)
            for entry in await store.read_entries(seq, 1)
            if entry.event_bytes
        ]
        *earlier, last = _split(replace(frame, entries=entries))
        for part in earlier:
            before = await _commit(store, before, part, subject_keys)
        return await _commit(store, before, last, subject_keys, erased)
    except (CorruptLog, ForeignLog):
        raise
    except (ConsentError, FeedError) as error:
        raise CorruptArchive(f"the entries from {frame.from_seq} on cannot be folded: {error}") from None


async def _commit(
    store: LogStore,
    before: StoredHead,
    frame: Frame,
    subject_keys: SubjectKeys,
    erased: Iterable[StoredEntry] = (),
) -> StoredHead:
    events = [entry.load_event() for entry in frame.entries]
    staged_state_sum = b""
    if events and isinstance(events[0], KeyEpochEvent) and events[0].epoch:
        rekeyer = subject_keys.find_rekeyer(events[0])
        if rekeyer is None:
            raise ForeignLog(
                f"the subject key of epoch {events[0].epoch} is missing, or not the one that the log commits to"
            )
        staged_state_sum = await store.stage_rekeyed(before, rekeyer)
    tokens = {token for event in events for token in tokens_of(event)}
    records = await store.find_clusters(tokens) if tokens else {}
    builder = BatchBuilder(before, records, {}, frame.checkpoint_time_ms, None)
    builder.replay(frame.entries)
    batch = builder.build(frame.checkpoint_note, frame.checkpoint_time_ms)
    batch = batch.with_change(staged_state_sum, tuple(erased))
    await store.commit(replace(batch, replayed_requests=dict(frame.requests)))
    return batch.head


def _find_erased(frame: Frame) -> set[int]:
    """Seqs that ERASUREs of the frame name."""
    erased: set[int] = set()
    for entry in frame.entries:
        if entry.type_byte == EventType.ERASURE:
            event = entry.load_event()
            if isinstance(event, ErasureEvent):
                erased.update(seq for seq in event.seqs if seq < entry.seq)
    return erased


def _without_payload(entry: StoredEntry) -> StoredEntry:
    return erase_payload(entry) if entry.event_bytes else entry


def _split(frame: Frame) -> list[Frame]:
    """The frame in parts, so that each KEY_EPOCH that changes the whole state stands alone; what is the commit's is in the last one."""
    epochs = [index for index, entry in enumerate(frame.entries) if _begins_epoch(entry)]
    starts = sorted({0, *epochs, *(index + 1 for index in epochs)} - {len(frame.entries)}) or [0]
    parts = [
        Frame(frame.from_seq + start, frame.entries[start:end])
        for start, end in zip(starts, [*starts[1:], len(frame.entries)], strict=True)
    ]
    parts[-1] = replace(frame, from_seq=parts[-1].from_seq, entries=parts[-1].entries)
    return parts


def _begins_epoch(entry: StoredEntry) -> bool:
    if entry.type_byte != EventType.KEY_EPOCH:
        return False
    event = entry.load_event()
    return isinstance(event, KeyEpochEvent) and event.epoch > 0


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
