"""Which segments of a journal may be disposed of: closed, shipped, vouched for by a head that the log holds, and old or too many."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from consent.eventlog.journal_head import DisposalGround
from journal.directory import SegmentSizes, list_segments, read_created_ms
from journal.errors import CorruptJournal, JournalError
from journal.format import format_segment_name
from journal.reader import SegmentKeys, SegmentReader
from sidecar.errors import SidecarError
from sidecar.journal.backlog import count_decisions, read_prefixes
from sidecar.journal.position import POSITION_FILE_NAME, Position, load_positions
from sidecar.ports import HeadSource, LoggedPlace

_MS_PER_DAY: Final = 86_400_000
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long segments are kept.

    Attributes:
        days: How long after a segment has ended; None for ever.
        max_bytes: How large all segments together may be; None for any size.
        only_shipped: What was not shipped is kept.
    """

    days: float | None = None
    max_bytes: int | None = None
    only_shipped: bool = True


@dataclass(frozen=True, slots=True)
class Disposable:
    """The oldest segments of a chain, which may go.

    Attributes:
        chain_id: 16 bytes.
        first: Number of the first one.
        last: Number of the last one; all between are there.
        chain_hash: 32 bytes, after the last one.
        decisions: Decisions in them.
        size_bytes: Of their files.
        oldest_ms: Unix ms at which the first one was begun.
        newest_ms: Unix ms at which the last one had ended.
        ground: Why they may go; SIZE where age alone was not enough.
    """

    chain_id: bytes
    first: int
    last: int
    chain_hash: bytes
    decisions: int
    size_bytes: int
    oldest_ms: int
    newest_ms: int
    ground: DisposalGround


class _Candidate(NamedTuple):
    """A segment that may go once those before it in its chain do. They are sorted by their age."""

    ended_ms: int
    chain_id: bytes
    number: int
    size_bytes: int


class RetentionPlanner:
    """Finds what may be disposed of. It only reads.

    Args:
        directory: The journal's.
        keys: Open the segments: what is signed about a chain is read from verified headers.
        heads: Knows what the log holds.
        rule: How long segments are kept.
    """

    def __init__(self, directory: Path, keys: SegmentKeys, heads: HeadSource, rule: RetentionRule) -> None:
        self._directory = directory
        self._keys = keys
        self._heads = heads
        self._rule = rule

    def plan(self, now_ms: int) -> list[Disposable]:
        """What may go now: of each chain the oldest segments without a gap, and of different chains the oldest first.

        Raises:
            OSError: The directory cannot be read.
            SidecarError: The shipper's position is damaged.
        """
        listing = list_segments(self._directory)
        positions = load_positions(self._directory / POSITION_FILE_NAME) if self._rule.only_shipped else {}
        candidates = sorted(
            candidate
            for chain_id, sizes in listing.items()
            for candidate in self._find_candidates(chain_id, sizes, positions.get(chain_id))
        )
        excess_bytes = self._excess_bytes(listing)
        oldest_kept_ms = now_ms - _MS_PER_DAY * self._rule.days if self._rule.days is not None else None
        chosen: dict[bytes, list[_Candidate]] = {}
        grounds: dict[bytes, DisposalGround] = {}
        for candidate in candidates:
            is_old = oldest_kept_ms is not None and candidate.ended_ms <= oldest_kept_ms
            if not is_old and excess_bytes <= 0:
                break
            excess_bytes -= candidate.size_bytes
            chosen.setdefault(candidate.chain_id, []).append(candidate)
            grounds[candidate.chain_id] = DisposalGround.AGE if is_old else DisposalGround.SIZE
        return list(self._describe_all(listing, chosen, grounds))

    def _excess_bytes(self, listing: Mapping[bytes, SegmentSizes]) -> int:
        if self._rule.max_bytes is None:
            return 0
        return sum(size for sizes in listing.values() for size in sizes.values()) - self._rule.max_bytes

    def _find_candidates(self, chain_id: bytes, sizes: SegmentSizes, position: Position | None) -> list[_Candidate]:
        """The segments at the beginning of a chain, up to a hole, that nothing has to be kept for."""
        place = self._heads.logged(chain_id)
        found: list[_Candidate] = []
        number, ended_ms = min(sizes), 0
        try:
            while number in sizes and place is not None and _is_vouched_for(number, place):
                if self._rule.only_shipped and not self._is_shipped(chain_id, number, position):
                    break
                # A clock that was set back must not put a segment before those that came before it.
                ended_ms = max(ended_ms, self._read_ended_ms(chain_id, number, sizes))
                found.append(_Candidate(ended_ms, chain_id, number, sizes[number]))
                number += 1
        except FileNotFoundError:
            return []
        return found

    def _is_shipped(self, chain_id: bytes, number: int, position: Position | None) -> bool:
        if position is not None and position.segment > number:
            return True
        offset = position.offset if position is not None and position.segment == number else 0
        try:
            return next(read_prefixes(self._path(chain_id, number), offset), None) is None
        except CorruptJournal:
            # The shipper has not been there yet, and will say what it finds.
            return False

    def _read_ended_ms(self, chain_id: bytes, number: int, sizes: SegmentSizes) -> int:
        if number + 1 in sizes:
            return read_created_ms(self._path(chain_id, number + 1))
        return self._path(chain_id, number).stat().st_mtime_ns // 1_000_000

    def _describe_all(
        self,
        listing: Mapping[bytes, SegmentSizes],
        chosen: Mapping[bytes, list[_Candidate]],
        grounds: Mapping[bytes, DisposalGround],
    ) -> Iterator[Disposable]:
        for chain_id, segments in chosen.items():
            try:
                yield self._describe(listing[chain_id], segments, grounds[chain_id])
            except (JournalError, SidecarError) as error:
                fields = {"chain": chain_id.hex(), "reason": error.reason}
                _LOGGER.error("segments of the journal cannot be disposed of", extra={"fields": fields})

    def _describe(self, sizes: SegmentSizes, segments: list[_Candidate], ground: DisposalGround) -> Disposable:
        chain_id, first, last = segments[0].chain_id, segments[0].number, segments[-1].number
        return Disposable(
            chain_id=chain_id,
            first=first,
            last=last,
            chain_hash=self._read_end_hash(chain_id, last, sizes),
            decisions=sum(count_decisions(self._path(chain_id, each.number), 0) for each in segments),
            size_bytes=sum(each.size_bytes for each in segments),
            oldest_ms=read_created_ms(self._path(chain_id, first)),
            newest_ms=segments[-1].ended_ms,
            ground=ground,
        )

    def _read_end_hash(self, chain_id: bytes, number: int, sizes: SegmentSizes) -> bytes:
        """The chain hash after a segment: the next one names it; without a next one the segment is read to its end."""
        following = number + 1 in sizes
        reader = SegmentReader(self._path(chain_id, number + 1 if following else number), self._keys)
        try:
            header = reader.read_header()
            if following and header is not None:
                return header.previous_chain_hash
            while reader.next_frame() is not None:
                continue
            if following or header is None:
                raise CorruptJournal("a segment's header is not whole")
            return reader.chain_hash
        finally:
            reader.release()

    def _path(self, chain_id: bytes, number: int) -> Path:
        return self._directory / format_segment_name(chain_id, number)


def _is_vouched_for(number: int, place: LoggedPlace) -> bool:
    """Whether a head in the log is at or behind the end of a segment, so that the segment is closed and its end known."""
    return number < place.segment or (place.is_ended and number == place.segment)
