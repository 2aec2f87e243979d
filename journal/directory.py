"""What lies in a journal directory."""

import contextlib
import os
from pathlib import Path

from journal.errors import CorruptJournal
from journal.format import MAX_HEADER_BYTES, header_length, parse_header, parse_segment_name

SegmentSizes = dict[int, int]
"""Bytes of each segment of a chain, by number."""


def list_segments(directory: Path) -> dict[bytes, SegmentSizes]:
    """The segments of each chain.

    Raises:
        OSError: The directory cannot be read.
    """
    chains: dict[bytes, SegmentSizes] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            place = parse_segment_name(entry.name)
            # A segment may be disposed of between the listing and the look at it.
            if place is not None:
                with contextlib.suppress(FileNotFoundError):
                    chains.setdefault(place[0], {})[place[1]] = entry.stat().st_size
    return {chain_id: sizes for chain_id, sizes in chains.items() if sizes}


def read_created_ms(path: Path) -> int:
    """Unix ms at which a segment says that it was begun, good for sorting only; 0 where it does not say.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        opening = file.read(MAX_HEADER_BYTES)
    try:
        length = header_length(opening)
        return parse_header(opening[:length]).created_ms if length else 0
    except CorruptJournal:
        return 0
