"""A disk that fills up under a process that keeps records, and has room again.

Run as a program, this file is that process. The kernel refuses to make any of its files longer from the moment it is told so (a limit on
the size of files stands in for the disk), at whatever byte of a frame that is.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.journal_head import HeadKind
from journal.format import JournalMode
from journal.reader import read_segment
from sidecar.errors import JournalUnavailable
from sidecar.journal.writer import FileJournal
from tests.fakes.clock import FakeClock
from tests.fakes.journal_chains import SIDECAR_ID, kinds, make_plan, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = SealingKeys()
# Room, in bytes after the last whole frame, at which the disk is full.
ROOMS = (0, 1, 11, 12, 13, 100, 250)
RETRY_AFTER_MS = 100
HEAD_PERIOD_MS = 10_000


@pytest.mark.parametrize("mode", [JournalMode.GROUP, JournalMode.SYNC])
def test_journal_on_a_full_disk_denies_recovers_and_tears_nothing(tmp_path: Path, mode: JournalMode) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), mode], env=environment, stdout=subprocess.PIPE, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert len(told["denied"]) == 3 * len(ROOMS)
    assert set(told["reasons"]) == {"JOURNAL_UNAVAILABLE"}
    found = [each.record for path in segment_paths(tmp_path) for each in read_segment(path, KEYS)]
    assert found == [make_record(number) for number in told["kept"]]
    assert list(tmp_path.glob("*.tmp")) == []
    # One segment to begin with, and one after each time: trying in vain leaves no file behind.
    assert len(segment_paths(tmp_path)) == 1 + len(ROOMS)
    (heads,) = verify_heads(tmp_path, KEYS).values()
    # One at the beginning, one that was due on each full disk and was made once there was room, and the last.
    assert kinds(heads) == [HeadKind.PERIODIC] * (1 + len(ROOMS)) + [HeadKind.FINAL]
    assert heads[-1].decisions == len(told["kept"])


async def fill_again_and_again(directory: Path, mode: JournalMode) -> dict[str, Any]:
    clock = FakeClock()
    journal = FileJournal.open(directory, KEYS, SIDECAR_ID, mode, clock, plan=make_plan(directory))
    kept: list[int] = []
    denied: list[int] = []
    reasons: list[str] = []
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    number = 0
    for room in ROOMS:
        for _ in range(5):
            await journal.append(make_record(number), 1)
            kept.append(number)
            number += 1
        size_bytes = segment_paths(directory)[-1].stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + room, hard))
        for _ in range(3):
            try:
                await journal.append(make_record(number), 1)
            except JournalUnavailable as error:
                denied.append(number)
                reasons.append(error.reason)
            else:
                kept.append(number)
            number += 1
        clock.advance(HEAD_PERIOD_MS)
        journal.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        clock.advance(RETRY_AFTER_MS)
        journal.flush()
    await journal.append(make_record(number), 1)
    kept.append(number)
    journal.close()
    return {"kept": kept, "denied": denied, "reasons": reasons}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(fill_again_and_again(Path(sys.argv[1]), JournalMode(sys.argv[2])))))
