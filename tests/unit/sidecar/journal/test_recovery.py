"""What a process does with the journals of earlier ones: it signs for what a crash has left, once, and for nothing else."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode
from consent.eventlog.keys import KeyKind, generate_signing_key
from hosting.locks import FileLock
from journal.format import JournalMode
from sidecar.errors import JournalUnavailable, KeyServiceUnavailable
from sidecar.journal.head_outbox import LOGGED_FILE_NAME, HeadOutbox
from sidecar.journal.heads import ChainPlan
from sidecar.journal.recovery import LOCK_NAME, ChainRecovery
from sidecar.journal.writer import FileJournal
from tests.fakes.clock import FakeClock
from tests.fakes.journal_chains import SIDECAR_ID, copy_as_crashed, kinds, make_plan, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record

KEYS = SealingKeys()


class Lives:
    """Processes that follow each other in one journal directory, which moves on with each crash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.directory = root / "0"
        self.opened: list[FileJournal] = []
        self.plan: ChainPlan

    def begin(self, **plan: object) -> FileJournal:
        self.plan = make_plan(self.directory, **plan)
        self.clock.advance(1)
        journal = FileJournal.open(
            self.directory, KEYS, SIDECAR_ID, JournalMode.GROUP, self.clock, segment_max_bytes=4096, plan=self.plan
        )
        self.opened.append(journal)
        return journal

    def crash(self) -> None:
        """What a kill leaves is a copy of the files; whoever wrote them writes on elsewhere, and it does not matter."""
        following = self.root / str(int(self.directory.name) + 1)
        copy_as_crashed(self.directory, following)
        self.directory = following

    def recovery(self, journal: FileJournal, keys: SealingKeys = KEYS) -> ChainRecovery:
        return ChainRecovery(self.directory, keys, journal, self.plan, self.clock)

    def begin_and_recover(self, **plan: object) -> FileJournal:
        journal = self.begin(**plan)
        self.recovery(journal).recover()
        journal.flush()
        return journal

    def last_segment(self, chain_id: bytes) -> Path:
        return max(self.directory.glob(f"{chain_id.hex()}-*.journal"))

    def heads(self, journal: FileJournal) -> list[JournalHead]:
        """About a journal's chain, wherever they lie."""
        return verify_heads(self.directory, KEYS)[journal.chain_id]

    def waiting(self) -> list[tuple[bytes, int]]:
        return [(head.chain_id, head.number) for head in self.plan.outbox.pending(10_000)]


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path)
    yield made
    for journal in made.opened:
        journal.close()


def append(journal: FileJournal, numbers: range) -> None:
    for number in numbers:
        journal.append_now(make_record(number), 1)
        journal.count_answered(1)


def test_recovery_signs_for_what_a_crash_left_behind_the_last_head(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(25))
    lives.crash()
    lives.begin_and_recover()
    heads = lives.heads(crashed)
    recovery = heads[-1]
    assert recovery.kind == HeadKind.RECOVERY
    assert (recovery.decisions, recovery.torn_bytes, recovery.weakest_mode) == (25, 0, WeakestMode.GROUP)
    # As the last head says: what was answered since, nobody knows any more.
    assert recovery.answered == heads[-2].answered
    assert lives.waiting()[-1] == (crashed.chain_id, recovery.number)
    assert {(crashed.chain_id, head.number) for head in heads} <= set(lives.waiting())


def test_recovery_says_how_much_of_an_unfinished_frame_it_found(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(3))
    lives.crash()
    path = lives.last_segment(crashed.chain_id)
    os.truncate(path, path.stat().st_size - 7)
    lives.begin_and_recover()
    recovery = lives.heads(crashed)[-1]
    assert recovery.decisions == 2
    assert recovery.torn_bytes > 0


def test_recovery_of_a_segment_whose_header_did_not_reach_the_disk(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(25))
    lives.crash()
    path = lives.last_segment(crashed.chain_id)
    os.truncate(path, 10)
    lives.begin_and_recover()
    recovery = lives.heads(crashed)[-1]
    assert recovery.kind == HeadKind.RECOVERY
    assert (recovery.torn_bytes, recovery.frame > 0) == (10, True)


def test_recovery_leaves_a_chain_alone_that_was_closed_and_sends_what_is_not_logged(lives: Lives) -> None:
    closed = lives.begin()
    append(closed, range(3))
    lives.plan.outbox.confirm(lives.plan.outbox.pending(1))
    closed.close()
    lives.begin_and_recover()
    assert kinds(lives.heads(closed)) == [HeadKind.PERIODIC, HeadKind.FINAL]
    assert (closed.chain_id, 1) in lives.waiting()
    assert (closed.chain_id, 0) not in lives.waiting()


def test_recovery_that_was_done_is_not_done_again(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(5))
    lives.crash()
    second = lives.begin_and_recover()
    recovery = lives.heads(crashed)[-1]
    lives.crash()
    # The process that signed for the first one crashed as well, before anything was logged.
    lives.begin_and_recover()
    assert lives.heads(crashed)[-1] == recovery
    assert lives.heads(second)[-1].kind == HeadKind.RECOVERY
    assert {(crashed.chain_id, recovery.number), (second.chain_id, 1)} <= set(lives.waiting())


def test_recovery_twice_in_one_process_signs_once(lives: Lives) -> None:
    crashed = lives.begin()
    lives.crash()
    journal = lives.begin()
    recovery = lives.recovery(journal)
    recovery.recover()
    recovery.recover()
    assert kinds(lives.heads(crashed)) == [HeadKind.PERIODIC, HeadKind.RECOVERY]


def test_recovery_begins_where_the_log_knows_the_chain(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(40))
    crashed.flush()
    logged = lives.plan.outbox.pending(3)
    assert logged[-1].segment > 0
    lives.plan.outbox.confirm(logged)
    lives.crash()
    # What lies before is not read: it may have been disposed of.
    for number in range(logged[-1].segment):
        (lives.directory / f"{crashed.chain_id.hex()}-{number:08d}.journal").unlink()
    lives.begin_and_recover()
    head = lives.plan.outbox.pending(10_000)[-1]
    assert (head.kind, head.decisions, head.chain_id) == (HeadKind.RECOVERY, 40, crashed.chain_id)


def test_recovery_of_a_damaged_chain_signs_for_what_verifies_and_says_so(
    lives: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = lives.begin()
    append(crashed, range(3))
    lives.crash()
    path = lives.last_segment(crashed.chain_id)
    content = bytearray(path.read_bytes())
    content[-300] ^= 1
    path.write_bytes(content)
    lives.begin_and_recover()
    recovery = lives.plan.outbox.pending(10)[-1]
    assert (recovery.kind, recovery.decisions < 3) == (HeadKind.RECOVERY, True)
    reasons = [vars(entry)["fields"]["reason"] for entry in caplog.records if entry.levelname == "ERROR"]
    assert reasons == ["CORRUPT_JOURNAL"]


def test_recovery_of_a_chain_cut_before_what_the_log_knows_says_so_to_the_log(
    lives: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = lives.begin()
    append(crashed, range(40))
    crashed.flush()
    logged = lives.plan.outbox.pending(100)
    lives.plan.outbox.confirm(logged)
    lives.crash()
    for path in sorted(lives.directory.glob(f"{crashed.chain_id.hex()}-*.journal"))[1:]:
        path.unlink()
    lives.begin_and_recover()
    recovery = lives.plan.outbox.pending(100)[-1]
    assert (recovery.chain_id, recovery.number) == (crashed.chain_id, logged[-1].number + 1)
    assert recovery.decisions < logged[-1].decisions
    assert "it ends before a head that the log holds" in caplog.text


def test_recovery_of_a_chain_whose_beginning_and_heads_are_gone_signs_nothing(
    lives: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = lives.begin()
    append(crashed, range(15))
    lives.crash()
    first, *_ = sorted(lives.directory.glob("*.journal"))
    first.unlink()
    journal = lives.begin_and_recover()
    assert [key for key in lives.waiting() if key[0] != journal.chain_id and key[0] != crashed.chain_id] == []
    assert all(head.kind != HeadKind.RECOVERY for head in lives.plan.outbox.pending(100))
    assert "its beginning and its heads are gone" in caplog.text


def test_recovery_does_not_touch_a_chain_that_another_process_writes(lives: Lives) -> None:
    live = lives.begin()
    append(live, range(3))
    second = lives.begin()
    lives.recovery(second).recover()
    assert kinds(lives.heads(live)) == [HeadKind.PERIODIC]
    assert (live.chain_id, 0) not in lives.waiting()


def test_recovery_waits_for_another_one(lives: Lives) -> None:
    journal = lives.begin()
    lock = FileLock(lives.directory / LOCK_NAME)
    assert lock.try_acquire()
    with pytest.raises(JournalUnavailable):
        lives.recovery(journal).recover()
    lock.release()


def test_recovery_without_the_key_service_is_put_off(lives: Lives) -> None:
    class Away(SealingKeys):
        def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
            raise KeyServiceUnavailable("away")

    crashed = lives.begin()
    lives.crash()
    journal = lives.begin()
    with pytest.raises(KeyServiceUnavailable):
        lives.recovery(journal, Away()).recover()
    lives.recovery(journal).recover()
    assert kinds(lives.heads(crashed))[-1] == HeadKind.RECOVERY


def test_recovery_reports_a_chain_that_no_key_opens(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    crashed = lives.begin()
    lives.crash()
    journal = lives.begin()
    lives.recovery(journal, SealingKeys(bytes(32))).recover()
    assert [head for head in lives.heads(crashed) if head.kind == HeadKind.RECOVERY] == []
    assert "no key at hand opens it" in caplog.text


def test_recovery_sends_no_heads_that_another_key_has_signed(lives: Lives) -> None:
    crashed = lives.begin(key=generate_signing_key(SIDECAR_ID, KeyKind.SIDECAR, bytes(32)))
    lives.crash()
    journal = lives.begin_and_recover()
    # The key of today vouches for the end of that chain all the same.
    assert [key for key in lives.waiting() if key[0] == crashed.chain_id] == [(crashed.chain_id, 1)]
    assert (journal.chain_id, 0) in lives.waiting()


def test_recovery_leaves_the_chains_of_another_sidecar_alone(lives: Lives) -> None:
    other_key = generate_signing_key("pod-2", KeyKind.SIDECAR, bytes(32))
    plan = make_plan(lives.directory, key=other_key)
    other = FileJournal.open(lives.directory, KEYS, "pod-2", JournalMode.GROUP, lives.clock, plan=plan)
    lives.opened.append(other)
    lives.crash()
    journal = lives.begin_and_recover()
    assert {chain_id for chain_id, _ in lives.waiting()} == {journal.chain_id}


def test_recovery_in_the_background_ends_with_its_context(lives: Lives) -> None:
    crashed = lives.begin()
    append(crashed, range(3))
    lives.crash()
    journal = lives.begin()
    with lives.recovery(journal) as recovery:
        recovery._thread.join()
    journal.flush()
    assert kinds(lives.heads(crashed))[-1] == HeadKind.RECOVERY


def test_recovery_forgets_what_was_logged_of_chains_that_are_gone(lives: Lives) -> None:
    gone = lives.begin()
    lives.plan.outbox.confirm(lives.plan.outbox.pending(1))
    gone.close()
    shutil.rmtree(lives.directory)
    lives.directory.mkdir()
    HeadOutbox(lives.directory / LOGGED_FILE_NAME).confirm(lives.plan.outbox.pending(1))
    lives.begin_and_recover()
    assert lives.plan.outbox.logged(gone.chain_id) is None
