"""The task that brings signed heads of the journal to the feed."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import JournalHead, verify_head
from sidecar.errors import FollowerFault, RefusedHead, SidecarError
from sidecar.ports import HeadSource, JournalRecorder
from sidecar.sync.backoff import Backoff
from sidecar.sync.enrolment import Enrolment

MAX_HEADS: Final = 500
"""The feed takes no more in one request."""
POLL_SECONDS: Final = 1.0

_LOGGER: Final = logging.getLogger(__name__)


class JournalHeadSender:
    """Sends what the log does not hold, in its order, for as long as the sidecar is enrolled; confirms what was logged.

    A head that can never be logged is set aside and named once, so that it does not hold up those behind it: one that the feed
    refuses, and one that another key than the enrolled one has signed. It stays in the source, and counts as not logged.

    Args:
        feed: The centre.
        heads: What is to be sent.
        enrolment: Whose heads these are.
        origin: Name of the log.
        backoff: Delays after failures.
        poll_seconds: How long to wait where there is nothing to send.
    """

    def __init__(
        self,
        feed: JournalRecorder,
        heads: HeadSource,
        enrolment: Enrolment,
        origin: str,
        backoff: Backoff,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._feed = feed
        self._heads = heads
        self._enrolment = enrolment
        self._origin = origin
        self._backoff = backoff
        self._poll_seconds = poll_seconds
        self._aside: set[JournalHead] = set()
        self._limit = MAX_HEADS
        self._failing_reason = ""

    async def run(self) -> None:
        """Send until cancelled. This is a boundary like the follower's: whatever goes wrong, the next attempt follows."""
        while True:
            try:
                is_more = self._enrolment.is_enrolled and await self.send_some()
                self._note("")
                delay_seconds = 0 if is_more else self._poll_seconds
            except SidecarError as error:
                delay_seconds = self._fail(error)
            except Exception as error:  # noqa: BLE001 - the boundary
                delay_seconds = self._fail(FollowerFault(f"unexpected {type(error).__name__}"))
            await asyncio.sleep(delay_seconds)

    async def send_some(self) -> bool:
        """Send the next heads; whether more may wait.

        Raises:
            SidecarError: They are not logged, or nobody knows; they are sent again.
            OSError: They are logged, and that cannot be kept; they are sent again.
        """
        pending = await asyncio.to_thread(self._heads.pending, self._limit + len(self._aside))
        self._aside.intersection_update(pending)
        together = [head for head in pending if head not in self._aside][: self._limit]
        foreign = await asyncio.to_thread(self._find_foreign, together)
        if foreign:
            self._aside.update(foreign)
            _LOGGER.warning(
                "heads of the journal that an earlier key has signed wait", extra={"fields": {"heads": len(foreign)}}
            )
            return True
        if not together:
            return False
        try:
            await self._feed.record_journal_heads(together, ())
        except RefusedHead as error:
            self._narrow(together, error)
            return True
        await asyncio.to_thread(self._heads.confirm, together)
        is_full = len(together) == self._limit
        self._limit = min(MAX_HEADS, 2 * self._limit)
        return is_full

    def _find_foreign(self, heads: Sequence[JournalHead]) -> list[JournalHead]:
        public_key = self._enrolment.key.verifier_key.public_key
        foreign = []
        for head in heads:
            try:
                verify_head(head, self._origin, public_key)
            except InvalidJournalHead:
                foreign.append(head)
        return foreign

    def _narrow(self, together: Sequence[JournalHead], error: RefusedHead) -> None:
        """Find out which head is refused: the next attempt is with half of them, or without the one that it is."""
        if len(together) > 1:
            self._limit = len(together) // 2
            return
        head = together[0]
        self._aside.add(head)
        self._limit = MAX_HEADS
        fields = {"reason": error.reason, "chain": head.chain_id.hex(), "number": head.number}
        _LOGGER.error("the feed does not log a head of the journal", extra={"fields": fields})

    def _fail(self, error: SidecarError) -> float:
        self._note(error.reason)
        return self._backoff.next_seconds()

    def _note(self, reason: str) -> None:
        """Say it once when heads cannot be logged, and once when they can again."""
        if reason and reason != self._failing_reason:
            _LOGGER.warning("heads of the journal are not logged now", extra={"fields": {"reason": reason}})
        if not reason:
            self._backoff.reset()
            if self._failing_reason:
                _LOGGER.info("heads of the journal are logged again")
        self._failing_reason = reason
