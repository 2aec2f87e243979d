"""What becomes of the chains that earlier processes left: heads that were not logged are taken up, and ends without a head get one.

A chain that a crash ended has no final head. The next process reads it, checks it, and signs what it found: where its whole frames end,
and how many bytes of an unfinished one lie behind. So a crash is on record as what it was, and what is missing later was cut later.
"""

import contextlib
import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import (
    NO_HEAD,
    NO_ID,
    HeadKind,
    JournalHead,
    hash_head,
    sign_head,
    verify_head,
)
from hosting.clock import Clock
from hosting.errors import DirectoryUnusable
from hosting.locks import FileLock
from journal.directory import SegmentSizes, list_segments, read_created_ms
from journal.errors import CorruptJournal
from journal.format import format_segment_name
from sidecar.errors import JournalUnavailable, KeyServiceError, SidecarError, WrongCacheKey
from sidecar.journal.chain import lock_path
from sidecar.journal.chain_scan import ChainScan, ChainScanner
from sidecar.journal.heads import ChainPlan, read_call_id
from sidecar.journal.writer import FileJournal
from sidecar.ports import KeyProvider

logger = logging.getLogger(__name__)

LOCK_NAME: Final = "recovery.lock"

_AGAIN_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.001


class _Stopped(Exception):
    pass


class ChainRecovery:
    """Looks after earlier chains, as a context manager in a thread of its own: no start and no check waits for it.

    Args:
        directory: The journal's.
        keys: Opens the segments.
        journal: This process's; recovery heads are written there.
        plan: Who signs, and who takes heads that are not logged.
        clock: The time.
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyProvider,
        journal: FileJournal,
        plan: ChainPlan,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._journal = journal
        self._outbox = plan.outbox
        self._key = plan.key
        self._origin = plan.origin
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-recovery", daemon=True)
        self._reported: set[bytes] = set()
        self._signed: set[bytes] = set()

    def __enter__(self) -> Self:
        """Begin in the background."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, also in the middle; the next start begins anew."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.recover()
            except _Stopped:
                return
            except (JournalUnavailable, KeyServiceError) as error:
                logger.warning("earlier journals are looked after later", extra={"fields": {"reason": error.reason}})
            except (OSError, DirectoryUnusable) as error:
                cause = error.strerror if isinstance(error, OSError) else str(error)
                logger.warning("earlier journals are looked after later", extra={"fields": {"cause": cause}})
            else:
                return
            self._stop.wait(_AGAIN_SECONDS)

    def recover(self) -> None:
        """Look once after all earlier chains; what was done already is not done twice.

        Raises:
            JournalUnavailable, KeyServiceError, DirectoryUnusable, OSError: Not all could be done now.
        """
        lock = FileLock(self._directory / LOCK_NAME)
        if not lock.try_acquire():
            raise JournalUnavailable("journal: another process looks after earlier chains")
        try:
            self._recover_all(list_segments(self._directory))
        finally:
            lock.release()

    def _recover_all(self, listing: dict[bytes, SegmentSizes]) -> None:
        # 1. Every chain is read before any end is signed: the recovery head of one may lie in a later one, also in one that another
        #    process of this sidecar still writes. Heads that are not logged are taken up on the way.
        unsigned: list[ChainScan] = []
        for chain_id in self._order(listing):
            place = self._outbox.logged(chain_id)
            if place is not None and place.is_ended:
                continue
            is_live = self._is_live(chain_id)
            scan = self._scan(chain_id, listing[chain_id], is_live=is_live)
            if scan is not None:
                self._signed |= scan.recovered
                if not is_live and not scan.is_ended and scan.sidecar_id == self._key.name:
                    unsigned.append(scan)
        # 2. Ends that nobody has signed for.
        for scan in unsigned:
            if scan.place.chain_id not in self._signed:
                self._sign_end(scan)
        # 3. What is remembered of chains that are gone.
        self._outbox.retain(listing.keys() | {self._journal.chain_id})

    def _order(self, listing: dict[bytes, SegmentSizes]) -> list[bytes]:
        """Earlier chains, the oldest first."""
        created = {}
        for chain_id, sizes in listing.items():
            if chain_id != self._journal.chain_id:
                with contextlib.suppress(FileNotFoundError):
                    created[chain_id] = read_created_ms(self._directory / format_segment_name(chain_id, min(sizes)))
        return sorted(created, key=created.__getitem__)

    def _is_live(self, chain_id: bytes) -> bool:
        """Whether a process still writes the chain; if not, the lock file that it may have left is taken away."""
        path = lock_path(self._directory, chain_id)
        if not path.exists():
            return False
        lock = FileLock(path)
        if not lock.try_acquire():
            return True
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
        return False

    def _scan(self, chain_id: bytes, sizes: SegmentSizes, *, is_live: bool) -> ChainScan | None:
        """What the chain holds; None for one that no key at hand opens."""
        # Those of a live chain its own process sends.
        take = _pass_over if is_live else self._take
        scanner = ChainScanner(self._directory, chain_id, sizes, self._keys, self._pause, take)
        place = self._outbox.logged(chain_id)
        try:
            scan = scanner.read(place.segment if place is not None else 0)
            if scan.decisions is None:
                # The head that the feed has is not there any more.
                scan = scanner.read(0)
        except WrongCacheKey as error:
            self._report(chain_id, error)
            return None
        if scan.fault is not None and not is_live:
            self._report(chain_id, scan.fault)
        return scan

    def _take(self, head: JournalHead) -> None:
        """Send a head on, if this sidecar's key of today has signed it: the feed takes no other."""
        try:
            verify_head(head, self._origin, self._key.verifier_key.public_key)
        except InvalidJournalHead as error:
            self._report(head.chain_id, error)
        else:
            self._outbox.add((head,))

    def _sign_end(self, scan: ChainScan) -> None:
        if scan.decisions is None:
            self._report(scan.place.chain_id, CorruptJournal("its beginning and its heads are gone"))
            return
        last, logged = scan.last_head, self._outbox.logged(scan.place.chain_id)
        numbers = (last.number if last else -1, logged.number if logged else -1)
        if numbers[0] < numbers[1]:
            # Somebody cut it, or the disk lied. The head says how little is left, behind one that says how much there was.
            self._report(scan.place.chain_id, CorruptJournal("it ends before a head that the log holds"))
        has_records = scan.first_record is not None
        head = JournalHead(
            sidecar_id=self._key.name,
            chain_id=scan.place.chain_id,
            number=max(numbers) + 1,
            kind=HeadKind.RECOVERY,
            at_ms=self._clock.now_ms(),
            segment=scan.place.segment,
            frame=scan.place.frame,
            chain_hash=scan.place.chain_hash,
            decisions=scan.decisions,
            first_id=read_call_id(scan.first_record or b"") if has_records else NO_ID,
            last_id=read_call_id(scan.last_record) if has_records else NO_ID,
            answered=last.answered if last else 0,
            unrecorded=last.unrecorded if last else 0,
            weakest_mode=scan.weakest_mode,
            torn_bytes=scan.torn_bytes,
            previous_head_hash=hash_head(last) if last else NO_HEAD,
        )
        self._journal.note_recovery(sign_head(head, self._key, self._origin))
        self._signed.add(head.chain_id)
        logger.warning(
            "an earlier process ended without closing its journal; what it left is signed for",
            extra={
                "fields": {"chain": head.chain_id.hex(), "decisions": head.decisions, "torn_bytes": head.torn_bytes}
            },
        )

    def _report(self, chain_id: bytes, fault: Exception) -> None:
        """Say it once for each chain."""
        if chain_id in self._reported:
            return
        self._reported.add(chain_id)
        reason = getattr(fault, "reason", SidecarError.reason)
        logger.error("an earlier journal: %s", fault, extra={"fields": {"chain": chain_id.hex(), "reason": reason}})

    def _pause(self) -> None:
        if self._stop.wait(_PAUSE_SECONDS):
            raise _Stopped


def _pass_over(head: JournalHead) -> None:
    """Do nothing with it."""
