"""How many decisions wait to be shipped."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from journal.directory import list_segments
from journal.errors import CorruptJournal
from journal.format import PREFIX_BYTES, FramePrefix, format_segment_name, header_length, parse_prefix
from sidecar.journal.position import MalformedPosition, Position, load_positions

logger = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 20


class Backlog:
    """Counts decisions recorded and not shipped: those of this process, and what earlier ones left behind.

    Args:
        directory: Where the segments are.
        chain_id: This process's chain.
        position_path: Where the shipper keeps its positions.
    """

    def __init__(self, directory: Path, chain_id: bytes, position_path: Path) -> None:
        self._directory = directory
        self._chain_id = chain_id
        self._position_path = position_path
        self._earlier: dict[bytes, int] | None = None
        self._stamp: tuple[int, int] | None = None
        self._positions: dict[bytes, Position] = {}
        self._shipped: dict[bytes, int] = {}
        self._disposed: Counter[bytes] = Counter()

    def count(self, recorded: int) -> int:
        """Decisions not shipped, of `recorded` ones in this process and of those that earlier processes left."""
        self._read_positions()
        totals = {**(self._earlier or {}), self._chain_id: recorded}
        # What is shipped and what is gone both begin with the chain, so the larger one holds the other.
        return sum(
            max(0, total - max(self._shipped.get(chain_id, 0), self._disposed[chain_id]))
            for chain_id, total in totals.items()
        )

    def count_shipped(self) -> int:
        """Decisions of this process that are shipped."""
        self._read_positions()
        return self._shipped.get(self._chain_id, 0)

    def count_bytes(self) -> int:
        """Bytes of all segments beyond what is shipped.

        Raises:
            OSError: The directory cannot be read.
        """
        positions, waiting = self._read_positions(), 0
        for chain_id, sizes in list_segments(self._directory).items():
            at = positions.get(chain_id)
            for number, size_bytes in sizes.items():
                if at is None or number > at.segment:
                    waiting += size_bytes
                elif number == at.segment:
                    waiting += max(0, size_bytes - at.offset)
        return waiting

    def note_disposed(self, chain_id: bytes, decisions: int) -> None:
        """Segments with so many decisions were disposed of: nothing in them waits any more."""
        self._disposed[chain_id] += decisions

    def count_earlier(self) -> None:
        """Count once what earlier processes left; takes a fraction of a second for each million decisions."""
        if self._earlier is not None:
            return
        self._earlier = {}
        try:
            positions = load_positions(self._position_path)
        except (OSError, MalformedPosition):
            positions = {}
        try:
            for chain_id, sizes in list_segments(self._directory).items():
                if chain_id != self._chain_id:
                    self._earlier[chain_id] = self._count_chain(chain_id, sorted(sizes), positions.get(chain_id))
        except OSError as error:
            logger.warning("earlier journals cannot be counted", extra={"fields": {"cause": error.strerror}})

    def _count_chain(self, chain_id: bytes, numbers: list[int], position: Position | None) -> int:
        at = position or Position(segment=0, offset=0, frame=0, chain_hash=b"", decisions=0)
        total = at.decisions
        for number in numbers:
            if number >= at.segment:
                path = self._directory / format_segment_name(chain_id, number)
                total += count_decisions(path, at.offset if number == at.segment else 0)
        return total

    def _read_positions(self) -> dict[bytes, Position]:
        """How far each chain is shipped; the file is read again only when it was replaced."""
        try:
            status = self._position_path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._positions = load_positions(self._position_path)
                # Of a chain that was disposed of the shipper keeps no position, and what it has shipped stays shipped.
                self._shipped |= {chain_id: position.decisions for chain_id, position in self._positions.items()}
                self._stamp = stamp
        except (OSError, MalformedPosition):
            return self._positions
        return self._positions


def count_decisions(path: Path, offset: int) -> int:
    """Decisions in a segment from a frame's first byte on (0 for all), as far as its frames are whole. Needs no key.

    Raises:
        OSError: The file cannot be read.
    """
    decisions = 0
    try:
        for prefix in read_prefixes(path, offset):
            decisions += prefix.decisions
    except CorruptJournal:
        # The shipper stops at the same place, and reports it.
        return decisions
    return decisions


def read_prefixes(path: Path, offset: int) -> Iterator[FramePrefix]:
    """What stands in clear before each whole frame, from a frame's first byte on (0 for all). Needs no key.

    Raises:
        CorruptJournal: What is there is no frame.
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        at = offset or header_length(os.pread(descriptor, _CHUNK_BYTES, 0)) or size_bytes
        chunk, chunk_start = b"", at
        while at + PREFIX_BYTES <= size_bytes:
            start = at - chunk_start
            if start + PREFIX_BYTES > len(chunk):
                chunk, chunk_start, start = os.pread(descriptor, _CHUNK_BYTES, at), at, 0
            prefix = parse_prefix(chunk[start : start + PREFIX_BYTES])
            at += PREFIX_BYTES + prefix.sealed_bytes
            if at <= size_bytes:
                yield prefix
    finally:
        os.close(descriptor)
