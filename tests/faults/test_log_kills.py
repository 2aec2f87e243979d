"""Real processes, killed while they write: what was accepted is in the log, at its seq, once."""

import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from consent.event import DirectiveEvent, parse_event
from feed.backup.restoring import restore
from tests.fakes.feed_log import make_directive, open_log, verify_everything
from tests.fakes.kept_log import LogFolder
from tests.faults.log_writer import make_numbered

KILLS = 10
REPOSITORY = Path(__file__).resolve().parents[2]


def write_until_killed(directory: Path, run: str, lines_before_kill: int, *more: str) -> dict[str, int]:
    """Runs a writer, kills it, and returns the seq of every request that it said was accepted."""
    command = [sys.executable, "-m", "tests.faults.log_writer", str(directory), run, *more]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(lines_before_kill)]
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    return {name: int(seq) for name, seq in (line.split() for line in lines if line.endswith("\n"))}


async def test_log_of_a_process_that_is_killed_again_and_again_keeps_all_that_was_accepted(tmp_path: Path) -> None:
    chance = random.Random(7)  # the moment of a kill is chance anyway; this only spreads them
    accepted: dict[str, int] = {}
    for run in range(KILLS):
        accepted |= write_until_killed(tmp_path, f"run{run}", chance.randrange(60))

    async with open_log(tmp_path) as log:
        entries = {entry.seq: parse_event(entry.event_bytes) for entry in await verify_everything(log.store)}
        for name, seq in accepted.items():
            writer, _, number = name.partition("-")
            _, submission = make_numbered(writer, int(number))
            assert entries[seq] == submission.events[-1]
            again = await log.sequencer.submit(submission)
            assert (again.seq, again.is_replay) == (seq, True)
        tokens = Counter(event.token for event in entries.values() if isinstance(event, DirectiveEvent))
        assert max(tokens.values()) == 1
        assert {make_directive(name).token for name in accepted} <= set(tokens)
    assert len(accepted) > KILLS


@pytest.mark.long(seconds=20)
async def test_log_with_an_archive_whose_process_is_killed_is_brought_back_from_either_disk(tmp_path: Path) -> None:
    chance = random.Random(11)
    folder = LogFolder(tmp_path)
    accepted: dict[str, int] = {}
    for run in range(KILLS):
        accepted |= write_until_killed(tmp_path, f"run{run}", chance.randrange(60), "kept")
        mark = folder.place.marks.read()
        assert mark is not None
        assert folder.source().segments().verify(mark).size >= max([mark.size, *accepted.values()])

    async with folder.run() as log:
        entries = await verify_everything(log.store)
        size = log.sequencer.head.size
    shutil.rmtree(tmp_path / "log")
    assert (await restore(folder.source(), tmp_path / "log", folder.place.marks.read())).size == size
    async with folder.run() as log:
        assert await verify_everything(log.store) == entries
        for name, seq in accepted.items():
            writer, _, number = name.partition("-")
            again = await log.sequencer.submit(make_numbered(writer, int(number))[1])
            assert (again.seq, again.is_replay) == (seq, True)
    assert len(accepted) > KILLS
