"""Verifies a whole log: segment by segment in several processes, and here what joins them."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from consent.eventlog.checkpoint import Checkpoint, verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier
from consent.eventlog.trust import Trust
from feed.errors import CorruptLog
from feed.log_store.port import StoredHead
from feed.log_store.reader import LogPlace, LogReader
from feed.verification.findings import Finding, Reason
from feed.verification.segment import SEGMENT_ENTRIES, SEGMENT_LEVEL, SegmentReport, verify_segment
from feed.verification.state_check import verify_state
from feed.verification.tenant_check import TenantCheck
from feed.verification.tree_comparison import TreeComparison

MAX_FINDINGS: Final = 1_000

#: Fewer segments than this are verified sooner than further processes are started.
_FEW_SEGMENTS: Final = 4


class Phase(StrEnum):
    """What is being done."""

    ENTRIES = "entries"
    STATE = "state"


Progress = Callable[[Phase, int, int], None]
"""Called with what is being done, the number of entries behind it, and how many there are."""


@dataclass(slots=True)
class LogReport:
    """What a verification found.

    Attributes:
        checkpoint: Size and root that were signed; None where no checkpoint was accepted.
        time_ms: Unix ms of its cosignature, 0 without one.
        entry_count: Entries read.
        findings: The first `MAX_FINDINGS`.
        finding_count: How many there were.
        is_state_checked: The folded state was recomputed too.
    """

    checkpoint: Checkpoint | None = None
    time_ms: int = 0
    entry_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    finding_count: int = 0
    is_state_checked: bool = False

    def add(self, *findings: Finding) -> None:
        """Take note of findings."""
        self.finding_count += len(findings)
        self.findings += findings[: MAX_FINDINGS - len(self.findings)]


def verify_log(
    place: LogPlace,
    trust: Trust,
    *,
    workers: int,
    with_state: bool = False,
    progress: Progress = lambda _phase, _done, _total: None,
) -> LogReport:
    """Verify a log from its entries to its signed head. Memory stays flat, except for what `with_state` folds.

    Plan: 1. the head and who signed it; 2. every entry, and the tree over each segment; 3. the tree over the segments, up to the
    signed root; 4. what the log says about the tenant; 5. on demand the folded state.

    Args:
        place: The log; nobody may write to it meanwhile.
        trust: Whom to believe.
        workers: Processes to share the work.
        with_state: Also fold every entry, and compare with the log's state roots and the stored sum.
        progress: Told how far it is.

    Raises:
        ForeignLog, LogStoreError: The log cannot be read, so nothing is said about it. CorruptLog: as a whole.
    """
    report = LogReport()
    with LogReader.open(place) as reader:
        # 1. The head.
        head = _read_head(reader, report)
        last_seq = reader.last_seq()
        size = _verify_head(head, last_seq, trust, report)
        # 2. and 4. Entries.
        readable = min(size, last_seq)
        above = TreeComparison(partial(_find_node, reader), level=SEGMENT_LEVEL, first_index=0)
        tenant_check, is_complete, tail = TenantCheck(), True, tuple[bytes, ...]()
        unexplained = set[int]()
        with _verified_segments(place, trust, size, readable, workers) as segments:
            for segment in segments:
                report.add(*segment.findings)
                tenant_check.take(segment)
                unexplained.update(segment.erased)
                for seq, named in segment.erasures:
                    unexplained.difference_update(each for each in named if each < seq)
                is_complete = is_complete and segment.is_complete
                if segment.last_seq % SEGMENT_ENTRIES:
                    tail = segment.hashes
                else:
                    above.append(segment.hashes[0], is_known_wrong=segment.is_root_wrong)
                report.entry_count = segment.last_seq
                progress(Phase.ENTRIES, segment.last_seq, readable)
        # 3. The tree above.
        report.add(*above.findings)
        if readable == size:
            _verify_root(Frontier(size, (*above.frontier.hashes, *tail)), head, report)
        # 4. The tenant: where an entry is missing, what follows from that would be named here too.
        if is_complete and readable == size:
            report.add(*tenant_check.findings)
            if head is not None and tenant_check.tenant != head.tenant:
                report.add(Finding(Reason.TENANT_MISMATCH, "the stored policy or keys are not what the entries say"))
            report.add(*(_unexplained(seq) for seq in sorted(unexplained)))
        # 5. The state: what cannot be read cannot be folded.
        if with_state and head is not None and not report.finding_count:
            report.add(*verify_state(reader, head, partial(progress, Phase.STATE)))
            report.is_state_checked = True
    return report


def _read_head(reader: LogReader, report: LogReport) -> StoredHead | None:
    try:
        return reader.read_head()
    except CorruptLog as error:
        report.add(Finding(Reason.HEAD_UNREADABLE, f"head: {error}"))
        return None


def _verify_head(head: StoredHead | None, last_seq: int, trust: Trust, report: LogReport) -> int:
    """Judge the head by its signatures, and return the size up to which the log is to be verified."""
    if head is None:
        if last_seq and not report.finding_count:
            report.add(Finding(Reason.HEAD_MISSING, "there are entries and no head"))
        if not last_seq and trust.minimum_size:
            report.add(Finding(Reason.BELOW_MINIMUM_SIZE, "the log is empty, the trust file says that it is not"))
        return last_seq
    try:
        verified = verify_checkpoint(head.checkpoint_note, trust, None)
    except EventLogError as error:
        report.add(Finding(Reason.CHECKPOINT_REJECTED, f"head: {error.reason}: {error}"))
    else:
        report.checkpoint, report.time_ms = verified.checkpoint, verified.time_ms
        if (verified.checkpoint.size, verified.checkpoint.root_hash) != (head.size, head.frontier.root_hash()):
            report.add(Finding(Reason.FRONTIER_MISMATCH, "the head's frontier is not that of its signed checkpoint"))
    if head.size < trust.minimum_size:
        text = f"the log has {head.size} entries, the trust file says at least {trust.minimum_size}"
        report.add(Finding(Reason.BELOW_MINIMUM_SIZE, text))
    if last_seq > head.size:
        text = f"entries {head.size + 1} to {last_seq} lie beyond the head"
        report.add(Finding(Reason.ENTRIES_BEYOND_HEAD, text, head.size + 1))
    if last_seq < head.size:
        text = f"entries {last_seq + 1} to {head.size} are missing: the log is cut short"
        report.add(Finding(Reason.ENTRIES_MISSING, text, last_seq + 1))
    return head.size


def _verify_root(frontier: Frontier, head: StoredHead | None, report: LogReport) -> None:
    signed = report.checkpoint
    if signed is None:
        if head is not None and frontier != head.frontier:
            report.add(Finding(Reason.FRONTIER_MISMATCH, "the head's frontier is not that of the entries"))
    elif (signed.size, signed.root_hash) != (frontier.size, frontier.root_hash()):
        text = f"the {frontier.size} entries do not hash to the root that was signed for {signed.size}"
        report.add(Finding(Reason.ROOT_MISMATCH, text))


def _unexplained(seq: int) -> Finding:
    return Finding(Reason.PAYLOAD_MISSING, f"entry {seq}: has no payload, and no later ERASURE names it", seq)


def _find_node(reader: LogReader, position: int) -> bytes | None:
    return reader.nodes(position, position).get(position)


@contextmanager
def _verified_segments(
    place: LogPlace, trust: Trust, size: int, readable: int, workers: int
) -> Iterator[Iterable[SegmentReport]]:
    firsts = range(1, readable + 1, SEGMENT_ENTRIES)
    lasts = [min(first + SEGMENT_ENTRIES - 1, readable) for first in firsts]
    verify = partial(verify_segment, place, trust, size)
    if workers == 1 or len(firsts) < _FEW_SEGMENTS:
        yield map(verify, firsts, lasts)
        return
    # Spawned, so that no child inherits what this process holds open.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _ignore_interrupts) as executor:
        try:
            yield executor.map(verify, firsts, lasts)
        finally:
            executor.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
