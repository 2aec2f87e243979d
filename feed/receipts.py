"""Signed acknowledgements on their way into the log: checked when they come, logged together every few seconds.

They wait in memory. What a crash loses here stands in the sidecars' outboxes until the log holds it, and comes again when they connect.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from consent.event import ReceiptsEvent
from consent.eventlog.acknowledgement import Receipt, verify_ack
from consent.eventlog.errors import InvalidAcknowledgement
from feed.enrolment import EnrolmentDesk
from feed.errors import AckRootMismatch, AckSignatureInvalid, FeedError, InvalidRequest
from feed.log_store.port import LogStore
from feed.ports import Log, Submission
from feed.sequencer import FEED_SOURCE

MAX_RECEIPTS_PER_ENTRY: Final = 500
MAX_RECEIPTS_PER_SIDECAR: Final = 16
"""That one sidecar adds to the log at once. Under a flood those in the middle are left out: an entry then counts as in force from the next
acknowledgement on, which is later and never earlier than it was."""

_MAX_KNOWN_ROOTS: Final = 4_096
_LOGGER: Final = logging.getLogger(__name__)


class _Checked(NamedTuple):
    receipt: Receipt
    enrolled_seq: int


class ReceiptLog:
    """Takes acknowledgements.

    Args:
        log: Where RECEIPTS are logged.
        store: Knows what is logged already.
        desk: Whose acknowledgements count.
        root_hash: Returns the log's root at a size.
        origin: Name of the log.
        period_seconds: How long an acknowledgement may wait for others.
    """

    def __init__(
        self,
        log: Log,
        store: LogStore,
        desk: EnrolmentDesk,
        root_hash: Callable[[int], Awaitable[bytes]],
        origin: str,
        period_seconds: float = 2.0,
    ) -> None:
        self._log = log
        self._store = store
        self._desk = desk
        self._root_hash = root_hash
        self._origin = origin
        self._period_seconds = period_seconds
        self._roots: OrderedDict[int, bytes] = OrderedDict()
        self._waiting: dict[tuple[str, int], _Checked] = {}
        # Largest size that is known to be logged, by sidecar and its enrolment.
        self._logged: dict[tuple[str, int], int] = {}
        self._flushing: asyncio.Task[None] | None = None

    async def take(self, receipt: Receipt) -> None:
        """Check an acknowledgement; one of an enrolled sidecar is logged soon after.

        Raises:
            InvalidRequest: A size that the log does not have, or a time before 1970.
            AckRootMismatch: The log had another root at that size: the sidecar holds another history.
            AckSignatureInvalid: Not signed by the key that the sidecar is enrolled with.
        """
        if receipt.size > self._log.head.size:
            raise InvalidRequest("ack.size: the log is not that large")
        if receipt.applied_at_ms < 0:
            raise InvalidRequest("ack.applied_at_ms: must not be negative")
        if receipt.root_hash != await self._find_root(receipt.size):
            raise AckRootMismatch("ack.root_hash: this log had another root at that size")
        enrolled = self._desk.find(receipt.sidecar_id)
        if enrolled is None:
            return
        try:
            verify_ack(receipt, self._origin, enrolled.public_key)
        except InvalidAcknowledgement:
            raise AckSignatureInvalid("ack.signature: not by the key that this sidecar is enrolled with") from None
        # The first one counts: its time is the earlier one.
        self._waiting.setdefault((receipt.sidecar_id, receipt.size), _Checked(receipt, enrolled.enrolled_seq))
        self._flush_soon()

    async def flush(self) -> None:
        """Log what waits; what cannot be logged now stays for the next time."""
        taken, self._waiting = self._waiting, {}
        try:
            # An ENROL in between would put acknowledgements under one key behind the enrolment of another.
            async with self._desk.steady():
                fresh = [checked for checked in _thin(taken.values()) if await self._is_fresh(checked)]
                for start in range(0, len(fresh), MAX_RECEIPTS_PER_ENTRY):
                    await self._append(fresh[start : start + MAX_RECEIPTS_PER_ENTRY])
        except FeedError as error:
            _LOGGER.warning("receipts cannot be logged yet", extra={"fields": {"reason": error.reason}})
            self._waiting = taken | self._waiting

    @property
    def waiting_count(self) -> int:
        """Acknowledgements that wait to be logged."""
        return len(self._waiting)

    async def close(self) -> None:
        """Log what waits, and stop. What a flush under way has taken, and does not get to log, comes again from the outboxes."""
        if self._flushing is not None:
            flushing = self._flushing
            flushing.cancel()
            await asyncio.wait([flushing])
        if self._waiting:
            await self.flush()

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._wait_and_flush())

    async def _wait_and_flush(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._period_seconds)
                await self.flush()
        finally:
            # The next acknowledgement starts a task of its own, whatever ended this one.
            self._flushing = None

    async def _append(self, together: Sequence[_Checked]) -> None:
        receipts = tuple(checked.receipt for checked in together)
        event = ReceiptsEvent(origin=self._origin, source=FEED_SOURCE, receipts=receipts)
        await self._log.submit(Submission((event,)))
        for receipt, enrolled_seq in together:
            key = receipt.sidecar_id, enrolled_seq
            self._logged[key] = max(receipt.size, self._logged.get(key, 0))

    async def _is_fresh(self, checked: _Checked) -> bool:
        """Whether it counts still and is not in the log yet: a sidecar sends again what it has not seen there."""
        receipt, enrolled_seq = checked
        enrolled = self._desk.find(receipt.sidecar_id)
        if enrolled is None or enrolled.enrolled_seq != enrolled_seq:
            return False
        key = receipt.sidecar_id, enrolled_seq
        if key not in self._logged:
            newest = await self._store.find_receipt(receipt.sidecar_id, 0, enrolled_seq, newest=True)
            self._logged[key] = newest.size if newest is not None else 0
        if receipt.size > self._logged[key]:
            return True
        found = await self._store.find_receipt(receipt.sidecar_id, receipt.size, enrolled_seq)
        return found is None or found.size != receipt.size

    async def _find_root(self, size: int) -> bytes:
        root_hash = self._roots.get(size)
        if root_hash is None:
            # Every sidecar acknowledges the same sizes: one look at the stored tree for all of them.
            root_hash = self._roots[size] = await self._root_hash(size)
            while len(self._roots) > _MAX_KNOWN_ROOTS:
                self._roots.popitem(last=False)
        return root_hash


def _thin(waiting: Iterable[_Checked]) -> list[_Checked]:
    """At most `MAX_RECEIPTS_PER_SIDECAR` of each sidecar, by name and size: the smallest and the largest sizes."""
    by_sidecar: dict[str, list[_Checked]] = {}
    for checked in sorted(waiting, key=lambda each: (each.receipt.sidecar_id, each.receipt.size)):
        by_sidecar.setdefault(checked.receipt.sidecar_id, []).append(checked)
    half = MAX_RECEIPTS_PER_SIDECAR // 2
    kept: list[_Checked] = []
    for own in by_sidecar.values():
        kept += own if len(own) <= MAX_RECEIPTS_PER_SIDECAR else own[:half] + own[-half:]
    return kept
