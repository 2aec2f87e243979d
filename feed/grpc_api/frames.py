"""Frames of entries, made once for all streams that are at the same place."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from consentry.feed.v1 import feed_pb2

from feed.grpc_api.feed_codec import encode_entries
from feed.ports import FeedHead, Log, StoredEntry

MAX_FRAME_ENTRIES: Final = 1_000
MAX_FRAME_BYTES: Final = 1024 * 1024

_MAX_KEPT_FRAMES: Final = 64
#: What protobuf adds to an entry's payload, and the opening, at most.
_ENTRY_OVERHEAD_BYTES: Final = 64

_Place = tuple[int, int, bytes]


class FrameCache:
    """Reads and encodes runs of entries; streams that ask for the same one share it.

    Frames end at multiples of `MAX_FRAME_ENTRIES`, so that sidecars which catch up from different places soon share theirs.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._frames: OrderedDict[_Place, asyncio.Task[feed_pb2.SubscribeResponse]] = OrderedDict()
        self._last_erasure_seq = 0

    async def frame(self, from_seq: int, target: FeedHead) -> feed_pb2.SubscribeResponse:
        """The frame that begins with `from_seq`, on the way to a head that the log has reached.

        Returns:
            At most 1,000 entries and, unless a single one is larger, 1 MiB; with the head's checkpoint if it ends there.

        Raises:
            CorruptLog, LogStoreError: The entries cannot be read.
        """
        if self._log.head.last_erasure_seq != self._last_erasure_seq:
            self._last_erasure_seq = self._log.head.last_erasure_seq
            self._frames.clear()
        aligned_end = (from_seq + MAX_FRAME_ENTRIES - 1) // MAX_FRAME_ENTRIES * MAX_FRAME_ENTRIES
        last_seq = min(aligned_end, target.size)
        note = target.checkpoint_note if last_seq == target.size else b""
        place = (from_seq, last_seq, note)
        making = self._frames.get(place)
        if making is None:
            # A task of its own: a stream that ends must not take the frame from the others.
            making = self._frames[place] = asyncio.create_task(self._make(*place))
            making.add_done_callback(lambda task: self._forget_failed(place, task))
            while len(self._frames) > _MAX_KEPT_FRAMES:
                self._frames.popitem(last=False)
        else:
            self._frames.move_to_end(place)
        return await asyncio.shield(making)

    async def _make(self, from_seq: int, last_seq: int, note: bytes) -> feed_pb2.SubscribeResponse:
        entries = _cut(await self._log.read_entries(from_seq, last_seq - from_seq + 1))
        return encode_entries(entries, note if entries[-1].seq == last_seq else b"")

    def _forget_failed(self, place: _Place, task: asyncio.Task[feed_pb2.SubscribeResponse]) -> None:
        # Fetching the error also keeps asyncio from reporting it when every stream that asked has gone.
        if (task.cancelled() or task.exception() is not None) and self._frames.get(place) is task:
            del self._frames[place]


def _cut(entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
    """The first entries, as many as fit into a frame; at least one."""
    total_bytes = 0
    for count, entry in enumerate(entries):
        total_bytes += entry.size_bytes + len(entry.traceparent) + _ENTRY_OVERHEAD_BYTES
        if count and total_bytes > MAX_FRAME_BYTES:
            return entries[:count]
    return entries
