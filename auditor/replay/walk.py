"""The records of all chains, in the order of the log sizes that they were decided at, so that the log is folded once."""

import heapq
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from typing import NamedTuple

from auditor.errors import SegmentKeyMissing
from auditor.journals import SidecarJournal
from consent.decision_record import CallRecord, MalformedRecord, Situation, parse_record, parse_situation
from journal.errors import CorruptSegment
from journal.format import FrameKind

OnBytes = Callable[[int], None]
"""Told how many bytes more were read."""

read_situation = lru_cache(maxsize=1024)(parse_situation)


class CallIn(NamedTuple):
    """A call, and what the sidecar held when it was decided."""

    call: CallRecord
    situation: Situation


class ChainWalk:
    """Goes through the records of one chain. A chain's file is open only while it is being gone through.

    Args:
        journal: Whose it is.
        chain_id: 16 bytes.
        on_bytes: Told of progress.

    Attributes:
        sidecar_id: Whose it is.
        chain_id: As given.
        highest: Largest log size so far.
        went_back: Decisions at a smaller size than one before them.
        error: What ended the walk early: a missing key, a damaged segment, or a record that this version cannot read.
    """

    def __init__(self, journal: SidecarJournal, chain_id: bytes, on_bytes: OnBytes = lambda _: None) -> None:
        self.sidecar_id = journal.sidecar_id
        self.chain_id = chain_id
        self.highest = 0
        self.went_back = 0
        self.error: SegmentKeyMissing | CorruptSegment | MalformedRecord | OSError | None = None
        self._journal = journal
        self._on_bytes = on_bytes

    def first(self) -> CallIn | None:
        """The first record, without going on from there; None where there is none, and then `error` may say why."""
        found = next(calls := self._read(lambda _: None), None)
        calls.close()
        return found

    def __iter__(self) -> Iterator[CallIn]:
        """Every record, from the first on."""
        for found in self._read(self._on_bytes):
            size = found.situation.log_size
            if size < self.highest:
                self.went_back += len(found.call.items)
            else:
                self.highest = size
            yield found

    def _read(self, on_bytes: OnBytes) -> Generator[CallIn, None, None]:
        self.error = None
        try:
            for number in sorted(self._journal.chains().get(self.chain_id, {})):
                for frame in self._journal.frames((self.chain_id, number)):
                    on_bytes(frame.end - frame.offset)
                    if frame.kind == FrameKind.RECORDS:
                        for record in frame.records:
                            call = parse_record(record)
                            yield CallIn(call, read_situation(call.situation))
        except (SegmentKeyMissing, CorruptSegment, MalformedRecord, OSError) as error:
            self.error = error


def merge_walks(walks: list[ChainWalk]) -> Iterator[tuple[ChainWalk, CallIn]]:
    """The records of many chains, by log size and then by time. Of one chain they stay in their order.

    A record whose log size goes back comes where it stands in its chain.
    """
    heap: list[tuple[int, int, int, CallIn]] = []
    running: dict[int, Iterator[CallIn]] = {}
    for index, walk in enumerate(walks):
        first = walk.first()
        if first is not None:
            heap.append((first.situation.log_size, first.call.now_ms, index, first))
    heapq.heapify(heap)
    while heap:
        *_, index, found = heapq.heappop(heap)
        walk = walks[index]
        if index not in running:
            running[index] = iter(walk)
            found = next(running[index], found)
        yield walk, found
        for found in running[index]:
            key = (walk.highest, found.call.now_ms, index)
            if heap and heap[0][:3] < key:
                heapq.heappush(heap, (*key, found))
                break
            yield walk, found
        else:
            # It is at its end: its file is closed, and it takes no more place.
            del running[index]
