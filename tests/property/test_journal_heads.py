"""Records, heads, segment ends, changes of mode and crashes in any order: every head says what the files say, and every end is signed."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consent.eventlog.journal_head import HeadKind
from journal.format import FrameKind, JournalMode
from journal.reader import read_frames
from sidecar.journal.heads import ChainPlan
from sidecar.journal.recovery import ChainRecovery
from sidecar.journal.writer import FileJournal, OnUnavailable
from tests.fakes.clock import FakeClock
from tests.fakes.journal_chains import SIDECAR_ID, copy_as_crashed, make_plan, read_chains, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record

KEYS = SealingKeys()


class JournalLives(RuleBasedStateMachine):
    """Processes that follow each other; a crash leaves a copy of the files, perhaps without the end of the last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="csty-heads-"))
        self.directory = self.root / "0"
        self.clock = FakeClock()
        self.number = 0
        self.opened: list[FileJournal] = []
        self.ended: set[bytes] = set()
        self.plan: ChainPlan
        self.journal: FileJournal
        self.begin()

    def begin(self) -> None:
        self.clock.advance(1)
        self.plan = make_plan(self.directory, segment_max_seconds=50)
        self.journal = FileJournal.open(
            self.directory, KEYS, SIDECAR_ID, JournalMode.GROUP, self.clock, segment_max_bytes=4096, plan=self.plan
        )
        self.opened.append(self.journal)
        ChainRecovery(self.directory, KEYS, self.journal, self.plan, self.clock).recover()
        self.journal.flush()

    @rule(items=st.integers(1, 20))
    def record(self, items: int) -> None:
        self.journal.append_now(make_record(self.number, items), items)
        self.journal.count_answered(items)
        self.number += items

    @rule()
    def note(self) -> None:
        self.journal.note(FrameKind.APPLIED, b"content")

    @rule(seconds=st.sampled_from([1, 10, 60]))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.advance(seconds * 1000)
        self.journal.flush()

    @rule(mode=st.sampled_from([JournalMode.GROUP, JournalMode.ASYNC]))
    def change(self, mode: JournalMode) -> None:
        self.journal.change(mode, OnUnavailable.DENY)

    @rule(count=st.integers(1, 5))
    def log_heads(self, count: int) -> None:
        self.plan.outbox.confirm(self.plan.outbox.pending(count))

    @rule(cut_bytes=st.integers(0, 11))
    def crash(self, cut_bytes: int) -> None:
        self.journal.flush()
        self.ended.add(self.journal.chain_id)
        following = self.root / str(len(self.opened))
        copy_as_crashed(self.directory, following)
        self.directory = following
        self.tear(cut_bytes)
        self.begin()

    def tear(self, cut_bytes: int) -> None:
        """Take bytes off the end of the chain, unless the log knows of what is there: that reached the disk."""
        path = max(self.directory.glob(f"{self.journal.chain_id.hex()}-*.journal"))
        frames = list(read_frames(path, KEYS))
        place = self.plan.outbox.logged(self.journal.chain_id)
        is_logged = bool(frames) and frames[-1].kind == FrameKind.HEAD and place is not None
        if frames and not is_logged:
            os.truncate(path, path.stat().st_size - cut_bytes)

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.ended.add(self.journal.chain_id)
        self.begin()

    @invariant()
    def heads_say_what_the_files_say(self) -> None:
        self.journal.flush()
        about = verify_heads(self.directory, KEYS)
        chains = read_chains(self.directory, KEYS)
        waiting = {(head.chain_id, head.number) for head in self.plan.outbox.pending(10_000)}
        for chain_id, heads in about.items():
            has_ended = heads[-1].kind in (HeadKind.FINAL, HeadKind.RECOVERY)
            assert has_ended == (chain_id in self.ended)
            if has_ended:
                assert heads[-1].decisions == max(
                    (decisions for _, decisions in chains[chain_id].ends.values()), default=0
                )
            place = self.plan.outbox.logged(chain_id)
            unlogged = [head for head in heads if place is None or head.number > place.number]
            assert {(head.chain_id, head.number) for head in unlogged} <= waiting

    def teardown(self) -> None:
        for journal in self.opened:
            journal.close()
        shutil.rmtree(self.root)


class ManyJournalLives(JournalLives):
    """The same with more steps; a TestCase holds the settings of one test only."""


JournalLives.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
test_heads_say_what_the_files_say_after_any_steps = JournalLives.TestCase
ManyJournalLives.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
test_heads_say_what_the_files_say_after_many_steps = pytest.mark.long(seconds=120)(ManyJournalLives.TestCase)
