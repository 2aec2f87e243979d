"""kill -9 of a process that keeps records, and then an audit: a crash is a note, and a record cut away by hand is a finding."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from auditor.findings import Severity
from auditor.verify import verify_folder
from consent.eventlog.journal_head import NO_HEAD, HeadKind, JournalHead, sign_head
from hosting.clock import SystemClock
from journal.directory import list_segments
from journal.format import JournalMode, format_segment_name
from journal.reader import SegmentReader
from sidecar.journal.writer import FileJournal
from tests.fakes.audit_material import enrol, log_heads, sidecar_key, write_folder
from tests.fakes.journal_material import NOW_MS, SealingKeys, join_segment, make_record, split_segment
from tests.fakes.log_builder import LogBuilder

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = 5
SEGMENT_MAX_BYTES = 8_000


def test_audit_of_killed_writers_calls_nothing_tampering_and_finds_what_was_cut_by_hand(tmp_path: Path) -> None:
    """Three looks: nothing logged yet, recovered as the next start does it, and cut by hand after that."""
    directory = tmp_path / "journals" / "pod-1"
    directory.mkdir(parents=True)
    kill_writers(directory)
    log = LogBuilder()
    log.append(log.next_epoch())
    enrol(log)
    before = verify_folder(write_folder(tmp_path, log, None))
    assert before.chains == KILLS
    assert before.findings.is_clean, before.findings.listed
    heads = [recover(directory, chain_id, log.origin) for chain_id in list_segments(directory)]
    log_heads(log, heads)
    recovered = verify_folder(write_folder(tmp_path, log, None))
    assert recovered.findings.is_clean, recovered.findings.listed
    assert {found.reason for found in recovered.findings.listed} >= {"CRASHED"}
    assert recovered.decisions == sum(head.decisions for head in heads)
    # A kill right behind the beginning of a segment leaves no frame there that could be cut.
    cuttable = [head for head in heads if head.frame]
    assert cuttable
    for head in cuttable:
        path = directory / format_segment_name(head.chain_id, head.segment)
        whole = path.read_bytes()
        header, frames = split_segment(whole)
        # The last whole one: a torn one is nobody's record.
        path.write_bytes(join_segment(header, frames[: head.frame - 1]))
        cut = verify_folder(write_folder(tmp_path, log, None)).findings.listed
        path.write_bytes(whole)
        found = [each for each in cut if each.severity is Severity.FINDING]
        assert [each.reason for each in found] == ["JOURNAL_CUT"]
        assert found[0].place.startswith(f"{path.name}: frame {head.frame - 1} ")


def kill_writers(directory: Path) -> None:
    """Has processes append as fast as they can, and kills each after another number of records."""
    command = [sys.executable, __file__, str(directory)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for number in range(KILLS):
            parent.stdin.write(f"{number * 1_000_000}\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            for _ in range(5 + 17 * number):
                parent.stdout.readline()
            os.kill(child, signal.SIGKILL)
            while parent.stdout.readline() != "killed\n":
                pass
        parent.stdin.close()


def recover(directory: Path, chain_id: bytes, origin: str) -> JournalHead:
    """What the next process says of a chain that was not ended."""
    decisions = torn_bytes = frame = 0
    chain_hash = b""
    numbers = sorted(list_segments(directory)[chain_id])
    for number in numbers:
        reader = SegmentReader(directory / format_segment_name(chain_id, number), None)
        while (found := reader.next_frame()) is not None:
            decisions += found.decisions
        frame, chain_hash, torn_bytes = reader.frame, reader.chain_hash, reader.rest_bytes()
        reader.release()
    head = JournalHead(
        sidecar_id="pod-1",
        chain_id=chain_id,
        number=0,
        kind=HeadKind.RECOVERY,
        at_ms=NOW_MS,
        segment=numbers[-1],
        frame=frame,
        chain_hash=chain_hash,
        decisions=decisions,
        answered=decisions,
        torn_bytes=torn_bytes,
        previous_head_hash=NO_HEAD,
    )
    return sign_head(head, sidecar_key("pod-1"), origin)


async def keep_appending(directory: Path, first: int) -> None:
    journal = FileJournal.open(
        directory, SealingKeys(), "pod-1", JournalMode.GROUP, SystemClock(), segment_max_bytes=SEGMENT_MAX_BYTES
    )
    number = first
    while True:
        await journal.append(make_record(number), 1)
        os.write(1, f"{number}\n".encode("ascii"))
        number += 1


def make_children(directory: Path) -> None:
    """One child at a time; a fork of this process starts in no time, and there are no threads yet to be lost in it."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.write(1, f"{os.getpid()}\n".encode("ascii"))
            asyncio.run(keep_appending(directory, int(line)))
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL
        os.write(1, b"killed\n")


if __name__ == "__main__":
    make_children(Path(sys.argv[1]))
