"""Keeping records: before the answer leaves, cheaply, and never silently not."""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self

from consent.eventlog.journal_head import HeadKind, JournalHead
from hosting.clock import Clock
from hosting.errors import DirectoryUnusable
from hosting.locks import create_directory
from journal.format import FrameKind, JournalMode, pack_records
from journal.start import format_start
from sidecar.errors import JournalUnavailable
from sidecar.journal.backlog import Backlog
from sidecar.journal.backlog_age import BacklogAge
from sidecar.journal.chain import Chain
from sidecar.journal.flusher import Flusher
from sidecar.journal.heads import TICK_SECONDS, ChainPlan, HeadMaker, format_head_frame
from sidecar.journal.pending import Entry, Pending
from sidecar.journal.position import POSITION_FILE_NAME
from sidecar.journal.segment import sync_segments
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

SEGMENT_MAX_BYTES: Final = 64 << 20

_GATHER_SECONDS: Final = 0.02
"""Modes `group` and `async` promise the disk within 50 ms; the rest is for the disk itself."""
_CHORES_END_SECONDS: Final = 1.0


class OnUnavailable(StrEnum):
    """What becomes of an answer whose record cannot be kept."""

    DENY = "deny"
    ALLOW_AND_COUNT = "allow_and_count"


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class FileJournal:
    """Implements `sidecar.ports.Journal` with files, one chain of segments per process. Safe from several threads.

    Args:
        chain: Where frames go.
        heads: Makes the chain's heads.
        backlog: Counts what is not shipped yet.
        mode: How durable a record is when `append` returns.
        on_unavailable: What a failed write does.
        clock: The time.
        plan: What the chain holds beside records; None for nothing.
    """

    def __init__(
        self,
        chain: Chain,
        heads: HeadMaker,
        backlog: Backlog,
        mode: JournalMode,
        on_unavailable: OnUnavailable,
        clock: Clock,
        plan: ChainPlan | None,
    ) -> None:
        self._chain = chain
        self._heads = heads
        self._backlog = backlog
        self._backlog_age = BacklogAge()
        self._clock = clock
        self._mode = mode
        self._on_unavailable = on_unavailable
        self._start = plan.start if plan is not None else None
        # A new mode is named in a new segment, and the process says again what it is.
        self._is_mode_new = False
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._pending = Pending()
        self._is_closed = False
        self._is_ended = False
        self._unsynced = 0
        self._is_synced = True
        self._unrecorded_reported = 0
        self._begin()
        # What may take longer than an fsync may wait. Made first: the flusher asks for it, and it may run before this returns.
        self._chores = Flusher(self._do_chores, 0, "journal-chores")
        gather_seconds = 0 if mode is JournalMode.SYNC else _GATHER_SECONDS
        tick_seconds = plan.tick_seconds if plan is not None else TICK_SECONDS
        self._flusher = Flusher(self._flush, gather_seconds, "journal-flusher", tick_seconds)
        self._chores.request()

    @classmethod
    def open(
        cls,
        directory: Path,
        keys: KeyProvider,
        sidecar_id: str,
        mode: JournalMode,
        clock: Clock,
        *,
        segment_max_bytes: int = SEGMENT_MAX_BYTES,
        on_unavailable: OnUnavailable = OnUnavailable.DENY,
        plan: ChainPlan | None = None,
    ) -> Self:
        """Begin a chain of segments; what it begins with is on the disk when this returns.

        Args:
            directory: Where the segments lie, those of other processes too; made if it is missing.
            keys: Wraps each segment's key.
            sidecar_id: Named in each segment.
            mode: How durable a record is when `append` returns.
            clock: The time.
            segment_max_bytes: Where a segment ends and the next begins.
            on_unavailable: What a failed write does.
            plan: What the chain holds beside records; None for a chain for whose end nobody vouches.

        Raises:
            JournalUnavailable: The directory cannot be written, or the disk is full.
        """
        try:
            create_directory(directory, 0o700)
        except DirectoryUnusable as error:
            raise JournalUnavailable(f"journal: {error}") from None
        maker = HeadMaker(plan, sidecar_id, clock)
        segment_max_seconds = plan.segment_max_seconds if plan is not None else math.inf
        chain = Chain(directory, keys, maker, mode, clock, segment_max_bytes, segment_max_seconds)
        backlog = Backlog(directory, chain.chain_id, directory / POSITION_FILE_NAME)
        journal = cls(chain, maker, backlog, mode, on_unavailable, clock, plan)
        if not journal._is_synced:
            journal.flush()
        return journal

    @property
    def chain_id(self) -> bytes:
        """Names this process's chain of segments."""
        return self._chain.chain_id

    @property
    def mode(self) -> JournalMode:
        """The mode in effect."""
        return self._mode

    @property
    def on_unavailable(self) -> OnUnavailable:
        """What a failed write does now."""
        return self._on_unavailable

    @property
    def is_writable(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return not self._chain.is_failing and not self._is_closed

    @property
    def recorded_decisions(self) -> int:
        """Decisions kept since the start."""
        return self._heads.decisions

    @property
    def unrecorded_decisions(self) -> int:
        """Decisions answered since the start whose record could not be kept: only `allow_and_count` lets them leave."""
        return self._heads.unrecorded

    @property
    def backlog_records(self) -> int:
        """Decisions recorded and not yet shipped, those of earlier processes too. Reads a small file if it has changed."""
        return self._backlog.count(self._heads.decisions)

    @property
    def backlog_bytes(self) -> int:
        """Bytes of the journal that are not shipped yet. Lists the directory; raises OSError where that fails."""
        return self._backlog.count_bytes()

    @property
    def backlog_age_seconds(self) -> float:
        """Age of the oldest decision of this process that is not shipped yet, to about a second; 0 where there is none."""
        shipped = self._backlog.count_shipped()
        return self._backlog_age.age_ms(self._clock.boot_ms(), shipped, self._heads.decisions) / 1000

    async def append(self, record: bytes, decisions: int) -> None:
        """Keep a record as durably as the mode says; in modes `group` and `async` without waiting for anything.

        Raises:
            JournalUnavailable: It cannot be kept, and `on_unavailable` is `deny`.
        """
        if self._mode is not JournalMode.SYNC:
            self.append_now(record, decisions)
            return
        try:
            await self._write_and_wait(partial(self._write_record, record, decisions))
        except JournalUnavailable:
            if self._must_deny:
                raise
            self._count_unrecorded(decisions)

    def append_now(self, record: bytes, decisions: int) -> None:
        """Do what `append` does, for a caller that need not wait.

        Raises:
            JournalUnavailable: As `append`.
            RuntimeError: The mode is `sync`, which cannot be had without waiting.
        """
        if self._mode is JournalMode.SYNC:
            raise RuntimeError("mode sync waits for the disk: await append")
        try:
            with self._lock:
                if self._mode is JournalMode.ASYNC:
                    self._keep_pending(Entry(record, decisions))
                else:
                    self._write_record(record, decisions)
            self._flusher.request()
        except JournalUnavailable:
            if self._must_deny:
                raise
            self._count_unrecorded(decisions)

    def note(self, kind: FrameKind, content: bytes) -> None:
        """Keep a frame that is no record of a decision, as durably as modes `group` and `sync` write records, without waiting.

        Raises:
            JournalUnavailable: It cannot be kept.
        """
        with self._lock:
            self._write(bytes((kind,)) + content, 0)
        self._flusher.request()

    def note_recovery(self, head: JournalHead) -> None:
        """Keep the recovery head of an earlier process's chain, and have it sent on once it is on the disk.

        Raises:
            JournalUnavailable: It cannot be kept.
        """
        with self._lock:
            self._write(format_head_frame(head), 0)
            self._heads.keep_recovery(head)
        self._flusher.request()

    def note_disposed(self, chain_id: bytes, decisions: int) -> None:
        """Segments with so many decisions were disposed of: they wait for the shipper no more."""
        self._backlog.note_disposed(chain_id, decisions)

    def count_answered(self, decisions: int) -> None:
        """Count decisions that are handed back to a caller. From one thread only: there is no lock, so that it costs nothing."""
        self._heads.answered += decisions

    def change(self, mode: JournalMode, on_unavailable: OnUnavailable) -> bool:
        """Go over to another mode than `sync`, from the next record on, and say so in the chain.

        Returns:
            Whether that changes anything.

        Raises:
            RuntimeError: From or to `sync`, which is chosen at the start.
        """
        with self._lock:
            if (mode, on_unavailable) == (self._mode, self._on_unavailable):
                return False
            if mode is not self._mode and JournalMode.SYNC in (mode, self._mode):
                raise RuntimeError("mode sync is chosen at the start")
            self._mode, self._on_unavailable = mode, on_unavailable
            self._heads.note_mode(mode)
            self._is_mode_new = True
        self._flusher.request()
        return True

    async def note_durably(self, kind: FrameKind, content: bytes) -> None:
        """Do what `note` does, and come back when the frame is on the disk.

        Raises:
            JournalUnavailable: It may not be.
        """
        await self._write_and_wait(partial(self._write, bytes((kind,)) + content, 0))

    def flush(self) -> None:
        """Put everything appended so far on the disk. Blocks as long as that takes; `is_writable` says whether it went well."""
        self._flusher.wait()

    def close(self) -> None:
        """Put everything on the disk and end the chain. Blocks as long as that takes; harmless when called twice."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._flusher.stop()
        self._chores.stop(_CHORES_END_SECONDS)
        self._chain.close()
        if lost := self._pending.decisions:
            logger.error(
                "journal closed with records that the disk did not take", extra={"fields": {"decisions": lost}}
            )

    @property
    def _must_deny(self) -> bool:
        return self._on_unavailable is OnUnavailable.DENY or self._is_closed

    def _count_unrecorded(self, decisions: int) -> None:
        with self._lock:
            self._heads.unrecorded += decisions
            is_first = self._unrecorded_reported == 0
            self._unrecorded_reported += decisions
        if is_first:
            logger.error("answers leave without a record, as on_unavailable allows")

    def _verify_open(self) -> None:
        if self._is_closed or not self._flusher.is_running:
            raise JournalUnavailable("journal: closed")

    def _begin(self) -> None:
        """Write what a chain begins with, before anything else can."""
        self._heads.note_mode(self._mode)
        try:
            self._write_start()
            self._chain.write_head(HeadKind.PERIODIC)
        except JournalUnavailable:
            self._chain.close()
            raise
        self._is_synced = self._start is None and not self._heads.makes_heads

    def _write_start(self) -> None:
        if self._start is not None:
            note = replace(
                self._start,
                at_ms=self._clock.now_ms(),
                mode=self._mode,
                on_unavailable=self._on_unavailable.value,
            )
            self._chain.write(bytes((FrameKind.START,)) + format_start(note), 0)

    def _write_record(self, record: bytes, decisions: int) -> None:
        """Write one record; the lock is held."""
        self._write(pack_records((record,)), decisions)
        self._heads.note_records(record, record, decisions)

    async def _write_and_wait(self, write: Callable[[], None]) -> None:
        """Write under the lock, and wait for the fsync that covers what was written."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop, loop.create_future())
        with self._lock:
            write()
            self._waiters.append(waiter)
        self._flusher.request()
        await waiter.future

    def _write(self, plaintext: bytes, decisions: int) -> None:
        """Write one frame; the lock is held."""
        self._verify_open()
        self._chain.write(plaintext, decisions)
        self._is_synced = False
        self._unsynced += decisions

    def _keep_pending(self, entry: Entry) -> None:
        """Take a record that the flusher will write; the lock is held."""
        self._verify_open()
        if self._chain.is_failing or self._pending.is_full:
            # The flusher finds out whether the disk works again.
            self._flusher.request()
            raise JournalUnavailable("journal: the disk has failed or is too slow")
        self._pending.add(entry)

    def _flush(self) -> None:
        self._backlog_age.mark(self._clock.boot_ms(), self._heads.decisions)
        with self._lock:
            self._keep_up()
            retired, current = self._chain.take_unsynced()
            heads = self._heads.take_kept()
            waiters, self._waiters = self._waiters, []
            unsynced, self._unsynced = self._unsynced, 0
            if self._is_synced:
                current = None
            self._is_synced = True
        error = sync_segments(retired, current)
        failure = None
        if error is not None:
            with self._lock:
                failure = self._chain.fail_sync(error)
            logger.error("decisions may not be on the disk", extra={"fields": {"decisions": unsynced}})
        for waiter in waiters:
            # A loop that has ended has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(_settle, waiter.future, failure)
        # A head that the feed logs must not say more than the disk holds, or a power cut would look like tampering. Where the disk has
        # just failed, it says what was answered, and that an audit should find.
        self._heads.deliver(heads)
        self._report_unrecorded()
        if not self._chain.has_spare_key:
            self._chores.request()

    def _keep_up(self) -> None:
        """Write what no check waits for; the lock is held. What the disk does not take is tried again at the next flush."""
        with contextlib.suppress(JournalUnavailable):
            if self._is_mode_new or self._chain.is_segment_over:
                self._chain.mode = self._mode
                self._is_synced = False
                self._chain.end_segment()
            if self._is_mode_new:
                self._write_start()
                self._is_mode_new = False
        if self._pending or self._mode is JournalMode.ASYNC:
            self._write_pending()
        if self._is_ended:
            return
        is_last = self._is_closed and not self._pending
        if is_last or self._heads.is_due(is_failing=self._chain.is_failing):
            with contextlib.suppress(JournalUnavailable):
                self._chain.write_head(HeadKind.FINAL if is_last else HeadKind.PERIODIC)
                self._is_synced = False
                self._is_ended = is_last

    def _do_chores(self) -> None:
        self._chain.prepare_key()
        self._backlog.count_earlier()

    def _write_pending(self) -> None:
        """Write what mode `async` has taken; the lock is held. What the disk does not take is kept for the next time."""
        with contextlib.suppress(JournalUnavailable):
            if self._chain.is_failing:
                self._chain.recover()
            for group in self._pending.groups():
                decisions = sum(entry.decisions for entry in group)
                self._chain.write(pack_records([entry.record for entry in group]), decisions)
                self._pending.drop(len(group))
                self._heads.note_records(group[0].record, group[-1].record, decisions)
                self._is_synced = False
                self._unsynced += decisions

    def _report_unrecorded(self) -> None:
        with self._lock:
            count = 0 if self._chain.is_failing else self._unrecorded_reported
            self._unrecorded_reported -= count
        if count:
            logger.error("answers left without a record", extra={"fields": {"decisions": count}})


def _settle(future: asyncio.Future[None], failure: JournalUnavailable | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(JournalUnavailable(str(failure)))
