"""The cache against a dictionary: whatever is done to it, in whatever order, it answers as the fold of its log."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consent.event import ErasureEvent, Event, KeyEpochEvent, ReceivedEvent
from consent.key_ring import KeyRing
from sidecar.cache.high_water import Mark
from sidecar.cache.opening import mark_of
from sidecar.ports import LogHead, VerifiedBatch
from tests.fakes.cache_place import CachePlace, assert_holds, make_keys
from tests.fakes.histories import ORIGIN, TOKENS, histories
from tests.fakes.log_builder import LogBuilder


@dataclass(frozen=True)
class Disk:
    """Everything that a sidecar keeps, as it was at some time.

    Attributes:
        files: The cache's.
        mark: The high-water mark.
        size: Of the log held.
        key_ring: Held.
    """

    files: dict[str, bytes]
    mark: bytes
    size: int
    key_ring: KeyRing | None


class CacheMachine(RuleBasedStateMachine):
    """Batches with links, restrictions and facts, merges, snapshots, checkpoints, kills, restarts, rotations, restored older disks."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp())
        self.place = CachePlace(self.root)
        self.log = LogBuilder(ORIGIN)
        self.head: LogHead | None = None
        self.key_ring: KeyRing | None = None
        self.key_number = 0
        self.merge: asyncio.Task[None] | None = None
        self.older: dict[str, bytes] = {}
        self.older_mark: Mark | None = None
        self.disk: Disk | None = None
        self.cache = self.runner.run(self.place.open())

    def teardown(self) -> None:
        self.runner.run(self.settle())
        self.runner.run(self.cache.close())
        self.runner.close()
        shutil.rmtree(self.root)

    async def settle(self) -> None:
        if self.merge is not None:
            await self.merge
            self.merge = None

    @rule(history=histories(max_size=6).filter(bool))
    def apply(self, history: list[Event]) -> None:
        self.runner.run(self.cache.apply(self.log.batch(*map(self.log.lead, history))))
        self.head = self.log.head()

    @rule()
    def apply_entries_that_change_no_cluster(self) -> None:
        self.runner.run(
            self.cache.apply(self.log.batch(ReceivedEvent(origin=ORIGIN, received_at_ms=1, request_type=1)))
        )
        self.head = self.log.head()

    @rule(history=histories(max_size=3), later=histories(max_size=3))
    def begin_key_epoch(self, history: list[Event], later: list[Event]) -> None:
        self.runner.run(self.settle())
        before = self.log.append(*map(self.log.lead, history))
        epoch = self.log.append(self.log.next_epoch())
        after = self.log.append(*map(self.log.lead, later))
        ring = self.log.key_ring()
        self.runner.run(self.cache.apply(VerifiedBatch([*before, *epoch, *after], self.log.head()), key_ring=ring))
        if len(self.log.tenant_state.key_commitments) > 1:
            self.key_ring = ring
        self.head = self.log.head()

    @rule(token=st.sampled_from(TOKENS), history=histories(max_size=2))
    def erase(self, token: bytes, history: list[Event]) -> None:
        led = self.log.lead_token(token)
        cluster = self.log.clusters.get(led)
        tokens = tuple(member.token for member in cluster.members) if cluster is not None else (led,)
        epoch = len(self.log.subject_keys) - 1
        erasure = ErasureEvent(origin=ORIGIN, key_epoch=epoch, tokens=tokens, seqs=(), occurred_at_ms=1)
        self.runner.run(self.cache.apply(self.log.batch(erasure, *map(self.log.lead, history))))
        self.head = self.log.head()

    @rule()
    def start_merge(self) -> None:
        async def start() -> None:
            await self.settle()
            self.merge = asyncio.create_task(self.cache.merge())
            await asyncio.sleep(0)

        self.runner.run(start())

    @rule()
    def end_merge(self) -> None:
        self.runner.run(self.settle())

    @rule(later_ms=st.sampled_from((100, 2000, 6000)))
    def save_checkpoint(self, later_ms: int) -> None:
        self.log.now_ms += later_ms
        self.place.clock.advance(later_ms)
        if self.log.size:
            self.head = self.log.head()
            self.runner.run(self.cache.save_checkpoint(self.head))

    @rule(history=histories(max_size=6).filter(bool))
    def load_snapshot(self, history: list[Event]) -> None:
        self.log.append(*map(self.log.lead, history))
        self.runner.run(self.cache.load_snapshot(self.log.snapshot()))
        self.head = self.log.head()

    @rule(byte=st.integers(0, 255))
    def save_key_ring(self, byte: int) -> None:
        self.key_ring = KeyRing((bytes([byte]) * 32,), ())
        self.runner.run(self.cache.save_key_ring(self.key_ring))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.settle())
        self.cache = self.runner.run(self.place.reopen(self.cache))

    @rule()
    def kill(self) -> None:
        """Start again from the files as they are now; a checkpoint that was not yet due may be lost, and nothing else."""
        files, mark = self.place.files(), self.place.mark_path.read_bytes()
        checkpoint = self.cache._durable.manifest.checkpoint
        self.runner.run(self.settle())
        self.runner.run(self.cache.close())
        self.place.restore(files)
        self.place.mark_path.write_bytes(mark)
        self.cache = self.runner.run(self.place.open())
        if self.head is not None:
            self.head = LogHead(self.head.frontier, self.head.tenant, checkpoint)

    @rule()
    def rotate_key(self) -> None:
        self.runner.run(self.settle())
        self.key_number += 1
        names = [f"kek-{number}" for number in (self.key_number, self.key_number - 1)]
        self.place.keys = make_keys(self.root, names[0], names[1] if self.key_number > 1 else "kek")
        self.cache = self.runner.run(self.place.reopen(self.cache))
        # The older key is retired, and with it every older file.
        self.place.keys, self.older, self.disk = make_keys(self.root, names[0]), {}, None

    @rule()
    def rotate_key_while_it_runs(self) -> None:
        """A merge may be under way; what was kept before still opens as long as the process knows the older key."""
        newest = self.root / (f"kek-{self.key_number}.key" if self.key_number else "kek.key")
        newest.unlink()
        make_keys(self.root, newest.stem)
        self.runner.run(self.cache.rewrap_key())
        # The provider that the next start is given, if that is another one.
        self.place.keys.refresh()
        assert self.place.keys.is_current(self.cache._durable._generation.wrapped_key)

    @rule()
    def keep_an_image_of_the_disk(self) -> None:
        self.disk = Disk(self.place.files(), self.place.mark_path.read_bytes(), self.log.size, self.key_ring)

    @precondition(lambda self: self.disk is not None)
    @rule()
    def restore_the_image_of_the_disk(self) -> None:
        """With its mark nothing tells that it is older: it answers as the log did then, and catches up like any sidecar."""
        assert self.disk is not None
        self.runner.run(self.settle())
        self.runner.run(self.cache.close())
        self.place.restore(self.disk.files)
        self.place.mark_path.write_bytes(self.disk.mark)
        self.cache = self.runner.run(self.place.open())
        assert self.cache.head.size == self.disk.size
        then, missed = LogBuilder(ORIGIN), self.log.logged[self.disk.size :]
        epochs = [logged.seq for logged in self.log.logged if isinstance(logged.event, KeyEpochEvent)]
        then.subject_keys = self.log.subject_keys[: max(1, sum(seq <= self.disk.size for seq in epochs))]
        then.append(*(logged.event for logged in self.log.logged[: self.disk.size]))
        assert_holds(self.cache, then)
        self.key_ring = self.disk.key_ring
        if missed:
            begins = any(isinstance(logged.event, KeyEpochEvent) and logged.event.epoch for logged in missed)
            ring = self.log.key_ring() if begins else None
            self.runner.run(self.cache.apply(VerifiedBatch(missed, self.log.head()), key_ring=ring))
            self.key_ring = ring or self.key_ring
        self.head, self.older = self.cache.head, {}

    @precondition(lambda self: self.log.size > 0)
    @rule()
    def restore_an_older_file(self) -> None:
        """Detected: the cache starts empty, and a snapshot fills it again."""
        self.runner.run(self.settle())
        self.runner.run(self.cache.close())
        older, self.older = self.older, self.place.files()
        older_mark, self.older_mark = self.older_mark, mark_of(self.cache._durable.manifest)
        self.place.clock.advance(1)
        # A file that only a rotation has changed is not older in what it holds.
        if older and older_mark != self.older_mark:
            self.place.restore(older)
            self.cache = self.runner.run(self.place.open())
            assert self.cache.head.size == 0
            assert self.cache.key_ring is None
            self.runner.run(self.cache.load_snapshot(self.log.snapshot()))
            self.head, self.key_ring, self.older = self.log.head(), None, {}
        else:
            self.cache = self.runner.run(self.place.open())

    @invariant()
    def answers_as_the_log(self) -> None:
        assert_holds(self.cache, self.log)
        assert self.cache.key_ring == self.key_ring
        assert self.cache.is_intact
        if self.head is not None:
            assert self.cache.head == self.head


class LongCacheMachine(CacheMachine):
    """The same, for longer."""


CacheMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_cache_answers_as_the_log_after_any_steps = CacheMachine.TestCase
LongCacheMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
test_cache_answers_as_the_log_after_very_many_steps = pytest.mark.long(seconds=150)(LongCacheMachine.TestCase)
