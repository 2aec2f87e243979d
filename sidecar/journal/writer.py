"""Keeping records: before the answer leaves, cheaply, and never silently not."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

from hosting.clock import Clock
from hosting.errors import DirectoryUnusable
from hosting.locks import create_directory
from journal.format import FrameKind, JournalMode, pack_records
from sidecar.errors import JournalUnavailable
from sidecar.journal.backlog import Backlog
from sidecar.journal.backlog_age import BacklogAge
from sidecar.journal.chain import Chain
from sidecar.journal.flusher import Flusher
from sidecar.journal.position import POSITION_FILE_NAME
from sidecar.journal.segment import SegmentFile
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

SEGMENT_MAX_BYTES: Final = 64 << 20

_GATHER_SECONDS: Final = 0.02
"""Modes `group` and `async` promise the disk within 50 ms; the rest is for the disk itself."""
_CHORES_END_SECONDS: Final = 1.0
_PENDING_MAX_BYTES: Final = 16 << 20
_GROUPED_MAX_BYTES: Final = 1 << 20


class OnUnavailable(StrEnum):
    """What becomes of an answer whose record cannot be kept."""

    DENY = "deny"
    ALLOW_AND_COUNT = "allow_and_count"


class _Entry(NamedTuple):
    record: bytes
    decisions: int


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class FileJournal:
    """Implements `sidecar.ports.Journal` with files, one chain of segments per process. Safe from several threads.

    Args:
        chain: Where frames go.
        backlog: Counts what is not shipped yet.
        mode: How durable a record is when `append` returns.
        on_unavailable: What a failed write does.
        clock: For the age of what waits.
    """

    def __init__(
        self, chain: Chain, backlog: Backlog, mode: JournalMode, on_unavailable: OnUnavailable, clock: Clock
    ) -> None:
        self._chain = chain
        self._backlog = backlog
        self._backlog_age = BacklogAge()
        self._clock = clock
        self._mode = mode
        self._on_unavailable = on_unavailable
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._is_closed = False
        self._recorded = 0
        self._unsynced = 0
        self._is_synced = True
        self._unrecorded = 0
        self._unrecorded_reported = 0
        gather_seconds = 0 if mode is JournalMode.SYNC else _GATHER_SECONDS
        self._flusher = Flusher(self._flush, gather_seconds, "journal-flusher")
        # What may take longer than an fsync may wait.
        self._chores = Flusher(self._do_chores, 0, "journal-chores")
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
        position_path: Path | None = None,
    ) -> Self:
        """Begin a chain of segments.

        Args:
            directory: Where the segments lie, those of other processes too; made if it is missing.
            keys: Wraps each segment's key.
            sidecar_id: Named in each segment.
            mode: How durable a record is when `append` returns.
            clock: The time.
            segment_max_bytes: Where a segment ends and the next begins.
            on_unavailable: What a failed write does.
            position_path: Where the shipper keeps what it has shipped, by default in `directory`.

        Raises:
            JournalUnavailable: The directory cannot be written, or the disk is full.
        """
        try:
            create_directory(directory, 0o700)
        except DirectoryUnusable as error:
            raise JournalUnavailable(f"journal: {error}") from None
        chain = Chain(directory, keys, sidecar_id, mode, clock, segment_max_bytes)
        backlog = Backlog(directory, chain.chain_id, position_path or directory / POSITION_FILE_NAME)
        return cls(chain, backlog, mode, on_unavailable, clock)

    @property
    def chain_id(self) -> bytes:
        """Names this process's chain of segments."""
        return self._chain.chain_id

    @property
    def mode(self) -> JournalMode:
        """As opened."""
        return self._mode

    @property
    def is_writable(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return not self._chain.is_failing and not self._is_closed

    @property
    def recorded_decisions(self) -> int:
        """Decisions kept since the start."""
        return self._recorded

    @property
    def unrecorded_decisions(self) -> int:
        """Decisions answered since the start whose record could not be kept: only `allow_and_count` lets them leave."""
        return self._unrecorded

    @property
    def backlog_records(self) -> int:
        """Decisions recorded and not yet shipped, those of earlier processes too. Reads a small file if it has changed."""
        return self._backlog.count(self._recorded)

    @property
    def backlog_bytes(self) -> int:
        """Bytes of the journal that are not shipped yet. Lists the directory; raises OSError where that fails."""
        return self._backlog.count_bytes()

    @property
    def backlog_age_seconds(self) -> float:
        """Age of the oldest decision of this process that is not shipped yet, to about a second; 0 where there is none."""
        shipped = self._backlog.count_shipped()
        return self._backlog_age.age_ms(self._clock.boot_ms(), shipped, self._recorded) / 1000

    async def append(self, record: bytes, decisions: int) -> None:
        """Keep a record as durably as the mode says; in modes `group` and `async` without waiting for anything.

        Raises:
            JournalUnavailable: It cannot be kept, and `on_unavailable` is `deny`.
        """
        if self._mode is not JournalMode.SYNC:
            self.append_now(record, decisions)
            return
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop, loop.create_future())
        try:
            with self._lock:
                self._write(pack_records((record,)), decisions)
                self._waiters.append(waiter)
            self._flusher.request()
            await waiter.future
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
                if self._mode is JournalMode.GROUP:
                    self._write(pack_records((record,)), decisions)
                else:
                    self._keep_pending(_Entry(record, decisions))
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
        lost = sum(entry.decisions for entry in self._pending)
        if lost:
            logger.error(
                "journal closed with records that the disk did not take", extra={"fields": {"decisions": lost}}
            )

    @property
    def _must_deny(self) -> bool:
        return self._on_unavailable is OnUnavailable.DENY or self._is_closed

    def _count_unrecorded(self, decisions: int) -> None:
        with self._lock:
            self._unrecorded += decisions
            is_first = self._unrecorded_reported == 0
            self._unrecorded_reported += decisions
        if is_first:
            logger.error("answers leave without a record, as on_unavailable allows")

    def _verify_open(self) -> None:
        if self._is_closed or not self._flusher.is_running:
            raise JournalUnavailable("journal: closed")

    def _write(self, plaintext: bytes, decisions: int) -> None:
        """Write one frame; the lock is held."""
        self._verify_open()
        self._chain.write(plaintext, decisions)
        self._is_synced = False
        self._recorded += decisions
        self._unsynced += decisions

    def _keep_pending(self, entry: _Entry) -> None:
        """Take a record that the flusher will write; the lock is held."""
        self._verify_open()
        if self._chain.is_failing or self._pending_bytes > _PENDING_MAX_BYTES:
            # The flusher finds out whether the disk works again.
            self._flusher.request()
            raise JournalUnavailable("journal: the disk has failed or is too slow")
        self._pending.append(entry)
        self._pending_bytes += len(entry.record)

    def _flush(self) -> None:
        self._backlog_age.mark(self._clock.boot_ms(), self._recorded)
        with self._lock:
            if self._mode is JournalMode.ASYNC:
                self._write_pending()
            retired, current = self._chain.take_unsynced()
            waiters, self._waiters = self._waiters, []
            unsynced, self._unsynced = self._unsynced, 0
            if self._is_synced:
                current = None
            self._is_synced = True
        error = _sync(retired, current)
        failure = None
        if error is not None:
            with self._lock:
                failure = self._chain.fail_sync(error)
            logger.error("decisions may not be on the disk", extra={"fields": {"decisions": unsynced}})
        for waiter in waiters:
            # A loop that has ended has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(_settle, waiter.future, failure)
        self._report_unrecorded()
        if not self._chain.has_spare_key:
            self._chores.request()

    def _do_chores(self) -> None:
        self._chain.prepare_key()
        self._backlog.count_earlier()

    def _write_pending(self) -> None:
        """Write what mode `async` has taken; the lock is held. What the disk does not take is kept for the next time."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        written = 0
        try:
            if self._chain.is_failing:
                self._chain.recover()
            for group in _grouped(pending):
                decisions = sum(entry.decisions for entry in group)
                self._chain.write(pack_records([entry.record for entry in group]), decisions)
                self._is_synced = False
                self._recorded += decisions
                self._unsynced += decisions
                written += len(group)
        except JournalUnavailable:
            self._pending = pending[written:]
            self._pending_bytes = sum(len(entry.record) for entry in self._pending)

    def _report_unrecorded(self) -> None:
        with self._lock:
            count = 0 if self._chain.is_failing else self._unrecorded_reported
            self._unrecorded_reported -= count
        if count:
            logger.error("answers left without a record", extra={"fields": {"decisions": count}})


def _sync(retired: Sequence[SegmentFile], current: SegmentFile | None) -> OSError | None:
    failure = None
    for segment in (*retired, *((current,) if current else ())):
        try:
            if not segment.is_sync_failed:
                segment.sync()
        except OSError as error:
            failure = error
        if segment is not current:
            segment.close()
    return failure


def _grouped(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    """Split entries into frames of about one mebibyte."""
    groups: list[list[_Entry]] = []
    room = 0
    for entry in entries:
        if room < len(entry.record):
            groups.append([])
            room = _GROUPED_MAX_BYTES
        groups[-1].append(entry)
        room -= len(entry.record)
    return groups


def _settle(future: asyncio.Future[None], failure: JournalUnavailable | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(JournalUnavailable(str(failure)))
