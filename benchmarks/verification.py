"""What it costs to verify an entry that came, beside hashing it alone."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.machine import median, spread
from consent.eventlog.merkle import Frontier, hash_entry
from hosting.processes import collect_rarely
from sidecar.ports import EMPTY_HEAD, EntriesFrame
from sidecar.sync.trusted_log import Moment, TrustedLog
from tests.fakes.log_builder import LogBuilder

ENTRIES = 20_000
FRAME_ENTRIES = 1_000
ROUNDS = 9
BUDGET_MICROSECONDS = 5.0


def measure() -> dict[str, Any]:
    """Verify a batch of opt-outs in frames with one checkpoint, and hash the same entries, by turns.

    Returns:
        Microseconds of processor time for each entry, medians. The batch's two signatures are in it and vanish in its size.
    """
    # As `consentry-sidecar serve` does it.
    collect_rarely()
    log = LogBuilder()
    log.append(*(log.directive(f"bench-{number}") for number in range(ENTRIES)))
    note = log.sign()
    frames = [
        EntriesFrame(at + 1, log.entries[at : at + FRAME_ENTRIES], note if at + FRAME_ENTRIES == ENTRIES else b"")
        for at in range(0, ENTRIES, FRAME_ENTRIES)
    ]

    def verify() -> None:
        trusted, batch = TrustedLog(log.trust, EMPTY_HEAD), None
        for frame in frames:
            batch = trusted.receive_entries(frame, Moment(log.now_ms, 0, "bench"))
        if batch is None:
            raise RuntimeError("the batch was not verified")

    def hash_alone() -> None:
        frontier = Frontier()
        frontier.extend([hash_entry(entry.type_byte, entry.opening, entry.event_bytes) for entry in log.entries])
        if frontier.root_hash() != log.frontier.root_hash():
            raise RuntimeError("another root")

    rounds = [(_per_entry(verify), _per_entry(hash_alone)) for _ in range(ROUNDS)]
    verified, hashed = zip(*rounds, strict=True)
    ratios = [both / alone for both, alone in rounds]
    return {
        "verified_us": median(verified),
        "verified_us_spread": spread(verified),
        "hashed_us": median(hashed),
        "ratio": median(ratios),
        "ratio_spread": spread(ratios),
    }


def _per_entry(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) / ENTRIES * 1e6
