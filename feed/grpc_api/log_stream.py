"""The whole log as it travels to an auditor: every entry in its order, and last the checkpoint that signs them."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from typing import Final

from consentry.feed.v1 import audit_pb2

from feed.errors import InvalidRequest
from feed.grpc_api.feed_codec import encode_entry
from feed.ports import Log, StoredEntry

MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""Of the entries in a message, unless a single one is larger."""

_PAGE_ENTRIES: Final = 500
#: What protobuf adds to an entry's payload, and the opening, at most.
_ENTRY_OVERHEAD_BYTES: Final = 64


async def stream_log(log: Log, from_seq: int) -> AsyncGenerator[audit_pb2.ReadLogResponse]:
    """Every entry from `from_seq` on; the last message has no entry, and the checkpoint of all that were sent.

    One page is in memory at a time, and the next one is read when the receiver has taken it. The checkpoint is that of the log as it is
    now, or a later one where payloads were erased meanwhile: whoever meets an entry without its payload also gets the ERASURE that
    names it.

    Raises:
        InvalidRequest: The log has fewer entries.
        CorruptLog, LogStoreError: An entry is damaged, or cannot be read.
    """
    head = log.head
    if not 1 <= from_seq <= head.size + 1:
        raise InvalidRequest("from_seq: the log has fewer entries")
    seq = from_seq
    while seq <= head.size:
        page = await log.read_entries(seq, min(_PAGE_ENTRIES, head.size - seq + 1))
        if log.head.last_erasure_seq > head.size:
            head = log.head
        for run in _cut(page):
            entries = [encode_entry(replace(entry, traceparent="")) for entry in run]
            yield audit_pb2.ReadLogResponse(from_seq=run[0].seq, entries=entries)
        seq = page[-1].seq + 1
    yield audit_pb2.ReadLogResponse(from_seq=seq, checkpoint=head.checkpoint_note)


def _cut(page: Sequence[StoredEntry]) -> Iterator[Sequence[StoredEntry]]:
    """Runs of entries, each as long as fits into a message; at least one entry."""
    start = total_bytes = 0
    for index, entry in enumerate(page):
        entry_bytes = entry.size_bytes + _ENTRY_OVERHEAD_BYTES
        if total_bytes and total_bytes + entry_bytes > MAX_MESSAGE_BYTES:
            yield page[start:index]
            start, total_bytes = index, 0
        total_bytes += entry_bytes
    yield page[start:]
