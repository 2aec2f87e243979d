"""Segments of a chain written one by one, with the times and sizes that a test says."""

import hashlib
import os
from pathlib import Path

from journal.format import (
    CHAIN_START,
    JournalMode,
    SegmentChain,
    SegmentHeader,
    format_header,
    format_segment_name,
    pack_records,
)
from sidecar.journal.position import Position
from tests.fakes.journal_material import NOW_MS, SealingKeys, make_record

KEYS = SealingKeys()
MS_PER_DAY = 86_400_000


class ChainFiles:
    """A chain in a journal's directory.

    Args:
        directory: Exists.
        name: Decides the chain's id.

    Attributes:
        chain_id: 16 bytes.
        paths: The segments, by number.
        hashes: Chain hash after each of them.
    """

    def __init__(self, directory: Path, name: str = "a") -> None:
        self._directory = directory
        self.chain_id = hashlib.sha256(name.encode()).digest()[:16]
        self.paths: list[Path] = []
        self.hashes: list[bytes] = []
        self._frames: list[int] = []

    def add(self, day: float, records: int = 2) -> Path:
        """Write a whole segment that was begun on this day, with so many frames of one record of one decision."""
        number = len(self.paths)
        created_ms = NOW_MS + int(MS_PER_DAY * day)
        data_key = hashlib.sha256(self.chain_id + bytes((number,))).digest()
        previous_hash = self.hashes[-1] if self.hashes else CHAIN_START
        header = SegmentHeader(
            chain_id=self.chain_id,
            number=number,
            created_ms=created_ms,
            mode=JournalMode.GROUP,
            previous_chain_hash=previous_hash,
            sidecar_id="pod-1",
            wrapped_key=KEYS.wrap(data_key, "journal"),
        )
        content = format_header(header, data_key)
        chain = SegmentChain(content, previous_hash, data_key)
        for place in range(records):
            frame_bytes = chain.seal(pack_records([make_record(100 * number + place)]), 1)
            chain.advance(frame_bytes)
            content += frame_bytes
        path = self._directory / format_segment_name(self.chain_id, number)
        path.write_bytes(content)
        os.utime(path, (created_ms / 1000, created_ms / 1000))
        self.paths.append(path)
        self.hashes.append(chain.chain_hash)
        self._frames.append(records)
        return path

    def add_days(self, count: int, first_day: int = 0) -> "ChainFiles":
        """Write a segment for each of these days."""
        for day in range(first_day, first_day + count):
            self.add(day)
        return self

    def end_of(self, number: int) -> Position:
        """A shipper's position behind the last frame of a segment."""
        path = self.paths[number]
        return Position(number, path.stat().st_size, self._frames[number], self.hashes[number], 0)

    @property
    def present(self) -> list[int]:
        """Numbers of the segments that are there."""
        return [number for number, path in enumerate(self.paths) if path.exists()]
