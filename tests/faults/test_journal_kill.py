"""kill -9 of a process that keeps records: whatever it had confirmed is read back, and the crash is not called tampering.

Each process signs for its own chain, and for how the one before it ended. Run as a program, this file makes such processes: for each
number that it reads, a child begins there, appends as fast as it can, and prints the number of each record once `append` has returned.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consent.eventlog.journal_head import HeadKind
from hosting.clock import SystemClock
from journal.errors import JournalError, TornTail
from journal.format import FrameKind, JournalMode
from journal.reader import read_segment
from sidecar.journal.recovery import LOCK_NAME, ChainRecovery
from sidecar.journal.tail import Tail
from sidecar.journal.writer import FileJournal
from tests.fakes.journal_chains import SIDECAR_ID, make_plan, read_chains, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = SealingKeys()
KILLS = 10
MANY_KILLS = 200
KILLED = "killed\n"
SEGMENT_MAX_BYTES = 8_000
CONCURRENT = 8
CONFIRM_EVERY = 40


@pytest.mark.parametrize("mode", [JournalMode.GROUP, JournalMode.SYNC])
@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.long(seconds=150))])
def test_journal_after_kill_holds_every_confirmed_record(tmp_path: Path, mode: JournalMode, kills: int) -> None:
    command = [sys.executable, __file__, str(tmp_path), mode]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    confirmed: set[int] = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        for round_number in range(kills):
            # Killed at another moment each time, as counted by what it has confirmed.
            confirmations = 7 + 23 * (round_number % KILLS) + round_number // KILLS
            confirmed |= run_until_killed(parent, first=round_number * 1_000_000, confirmations=confirmations)
        assert parent.stdin is not None
        parent.stdin.close()
    assert len(confirmed) >= kills * 7
    faults: list[JournalError] = []
    found = {record for path in tmp_path.glob("*.journal") for record in read_until_torn(path, faults)}
    assert [number for number in confirmed if make_record(number) not in found] == []
    assert [fault for fault in faults if not isinstance(fault, TornTail)] == []
    assert_tail_reads_the_same(tmp_path, found)
    assert_every_end_is_signed(tmp_path, mode)


def assert_every_end_is_signed(directory: Path, mode: JournalMode) -> None:
    """One process more, which is not killed."""
    plan = make_plan(directory)
    journal = FileJournal.open(directory, KEYS, SIDECAR_ID, mode, SystemClock(), plan=plan)
    ChainRecovery(directory, KEYS, journal, plan, SystemClock()).recover()
    journal.close()
    chains = read_chains(directory, KEYS)
    about = verify_heads(directory, KEYS)
    waiting = {(head.chain_id, head.number) for head in plan.outbox.pending(1_000_000)}
    for chain_id, heads in about.items():
        end = heads[-1]
        assert end.kind == (HeadKind.FINAL if chain_id == journal.chain_id else HeadKind.RECOVERY)
        assert end.decisions == max((decisions for _, decisions in chains[chain_id].ends.values()), default=0)
        assert sum(head.kind == HeadKind.RECOVERY for head in heads) <= 1
        place = plan.outbox.logged(chain_id)
        unlogged = [head for head in heads if place is None or head.number > place.number]
        assert {(head.chain_id, head.number) for head in unlogged} <= waiting
    assert list(directory.glob("*.lock")) == [directory / LOCK_NAME]


def run_until_killed(parent: subprocess.Popen[str], *, first: int, confirmations: int) -> set[int]:
    """Has a child begin, kills it, and returns the numbers that it has confirmed."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(f"{first}\n")
    parent.stdin.flush()
    child = int(parent.stdout.readline())
    printed = [int(parent.stdout.readline()) for _ in range(confirmations)]
    os.kill(child, signal.SIGKILL)
    while (line := parent.stdout.readline()) != KILLED:
        printed.append(int(line))
    return set(printed)


def read_until_torn(path: Path, faults: list[JournalError]) -> list[bytes]:
    records = []
    try:
        for found in read_segment(path, KEYS):
            records.append(found.record)  # noqa: PERF401 - what came before the fault counts
    except JournalError as fault:
        faults.append(fault)
    return records


def assert_tail_reads_the_same(directory: Path, records: set[bytes]) -> None:
    faults: list[Exception] = []
    tail = Tail(directory, KEYS, SystemClock(), {}, faults.append)
    frames = tail.read(10_000_000)
    tail.close()
    found = [frame for frame in frames if frame.kind == FrameKind.RECORDS]
    assert {record for frame in found for record in frame.records} == records
    assert sum(frame.decisions for frame in frames) == len(records)
    assert [fault for fault in faults if not isinstance(fault, TornTail)] == []


async def keep_appending(directory: Path, mode: JournalMode, first: int) -> None:
    plan = make_plan(directory, head_seconds=0.05, idle_head_seconds=0.05)
    clock = SystemClock()
    journal = FileJournal.open(directory, KEYS, SIDECAR_ID, mode, clock, segment_max_bytes=SEGMENT_MAX_BYTES, plan=plan)

    async def append(start: int) -> None:
        number = start
        while True:
            await journal.append(make_record(number), 1)
            os.write(1, f"{number}\n".encode("ascii"))
            journal.count_answered(1)
            number += CONCURRENT
            if number % CONFIRM_EVERY == 0:
                # As if the feed had logged them.
                plan.outbox.confirm(plan.outbox.pending(3))

    with ChainRecovery(directory, KEYS, journal, plan, clock):
        await asyncio.gather(*(append(first + at) for at in range(CONCURRENT if mode is JournalMode.SYNC else 1)))


def make_children(directory: Path, mode: JournalMode) -> None:
    """One child at a time; a fork of this process starts in no time, and there are no threads yet to be lost in it."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.write(1, f"{os.getpid()}\n".encode("ascii"))
            asyncio.run(keep_appending(directory, mode, int(line)))
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL
        os.write(1, KILLED.encode("ascii"))


if __name__ == "__main__":
    make_children(Path(sys.argv[1]), JournalMode(sys.argv[2]))
