"""Signed heads of sidecars' journals on their way into the log: checked when they come, logged together every few seconds.

A sidecar waits for the answer, and keeps what was not answered. So nothing is kept here: what a crash loses comes again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from consent.event import DisposalEvent, Event, JournalHeadsEvent
from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import (
    NO_HEAD,
    JournalDisposal,
    JournalHead,
    format_disposal,
    hash_head,
    verify_disposal,
    verify_head,
)
from feed.alerts import Alert, AlertLog
from feed.enrolment import EnrolmentDesk
from feed.errors import (
    FeedError,
    HeadConflict,
    HeadInvalid,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    SidecarNotEnrolled,
    SidecarNotPermitted,
)
from feed.log_store.port import HeadPlace, LogStore
from feed.ports import Log, Submission
from feed.sequencer import FEED_SOURCE
from hosting.clock import Clock

MAX_STATEMENTS: Final = 500
"""Heads, or disposals, of one request and of one entry."""

_MAX_NUMBER: Final = 2**63 - 1
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalStatements:
    """What one sidecar says about its journal.

    Attributes:
        sidecar_id: Which one; every statement bears its name.
        heads: In the order in which they were made.
        disposals: In the order in which they were made.
    """

    sidecar_id: str
    heads: Sequence[JournalHead] = ()
    disposals: Sequence[JournalDisposal] = ()


@dataclass(eq=False, slots=True)
class _Waiting:
    """Heads that wait to be logged with others', and whoever waits for that."""

    heads: Sequence[JournalHead]
    sidecar_id: str
    public_key: bytes
    seq: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


_Fresh = tuple[_Waiting, Sequence[JournalHead]]


class JournalHeadLog:
    """Takes heads and disposals.

    Args:
        log: Where they are logged.
        store: Knows what is logged already.
        desk: Whose statements count.
        alerts: Told of a journal that was rolled back or forked.
        clock: The time.
        origin: Name of the log.
        period_seconds: How long a head may wait for others.
        on_logged: Called with the name of each sidecar of which a head was logged.
    """

    def __init__(
        self,
        log: Log,
        store: LogStore,
        desk: EnrolmentDesk,
        alerts: AlertLog,
        clock: Clock,
        origin: str,
        *,
        period_seconds: float = 10.0,
        on_logged: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._store = store
        self._desk = desk
        self._alerts = alerts
        self._clock = clock
        self._origin = origin
        self._period_seconds = period_seconds
        self._on_logged = on_logged
        self._waiting: dict[str, _Waiting] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._forked: set[tuple[str, bytes]] = set()

    async def record(self, statements: JournalStatements) -> int:
        """Log what a sidecar says: disposals at once, heads together with those of others.

        A repetition of what is logged changes nothing. Of a request that is refused, none of its heads is logged.

        Returns:
            Seq of the last entry that holds one of the statements, logged now or earlier.

        Raises:
            InvalidRequest: There is nothing in it, or too much.
            SidecarNotPermitted: A statement bears another sidecar's name.
            SidecarNotEnrolled: No key of the sidecar counts, or another one since it asked.
            HeadInvalid: Not signed by that key, or at a place that it cannot have.
            HeadConflict: Another head is logged at the same place; an alert about it is logged too.
            Overloaded: A later request of the same sidecar came while this one waited.
            ShuttingDown: The feed stops.
            FeedError: What `Log.submit` raises; the same request again is right.
        """
        _verify_form(statements)
        enrolled = self._desk.find(statements.sidecar_id)
        if enrolled is None:
            raise SidecarNotEnrolled("sidecar_id: no key of this sidecar is enrolled")
        # In a thread: many signatures take a while.
        await asyncio.to_thread(_verify_signatures, statements, self._origin, enrolled.public_key)
        seq = await self._record_disposals(statements, enrolled.public_key) if statements.disposals else 0
        fresh, known_seq = await self._judge(statements.sidecar_id, statements.heads)
        if fresh:
            return await self._wait(_Waiting(fresh, statements.sidecar_id, enrolled.public_key))
        return max(seq, known_seq)

    async def flush(self) -> None:
        """Log what waits, and answer those who wait."""
        taken, self._waiting = list(self._waiting.values()), {}
        try:
            # An ENROL in between would put heads under one key behind the enrolment of another.
            async with self._desk.steady():
                fresh = [(waiting, heads) for waiting in taken if (heads := await self._judge_again(waiting))]
                for together in _group(fresh):
                    await self._append(together)
        finally:
            for waiting in taken:
                _fail(waiting, OutcomeUnknown("heads: nobody knows whether they are logged"))

    def hurry(self) -> None:
        """Let nobody wait for others from now on: the feed is about to stop."""
        self._hurry.set()

    async def close(self) -> None:
        """Answer who still waits, and stop. No request may come any more."""
        self._hurry.set()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        for waiting in self._waiting.values():
            _fail(waiting, ShuttingDown("the feed stops"))

    async def _wait(self, waiting: _Waiting) -> int:
        earlier = self._waiting.pop(waiting.sidecar_id, None)
        if earlier is not None:
            _fail(earlier, Overloaded("sidecar_id: a later request of this sidecar takes the place of this one"))
        self._waiting[waiting.sidecar_id] = waiting
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())
        # Logged all the same where whoever asked has gone meanwhile: the same heads come again, and are known then.
        return await waiting.seq

    async def _flush_soon(self) -> None:
        try:
            while self._waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._period_seconds):
                        await self._hurry.wait()
                await self.flush()
        finally:
            self._flushing = None

    async def _judge_again(self, waiting: _Waiting) -> Sequence[JournalHead]:
        """What is still to be logged; whoever waits for anything else is answered."""
        try:
            self._verify_enrolled(waiting.sidecar_id, waiting.public_key)
            fresh, seq = await self._judge(waiting.sidecar_id, waiting.heads)
        except FeedError as error:
            _fail(waiting, error)
            return ()
        if not fresh:
            _answer(waiting, seq)
        return fresh

    async def _append(self, together: Sequence[_Fresh]) -> None:
        heads = tuple(head for _, fresh in together for head in fresh)
        event = JournalHeadsEvent(
            origin=self._origin, source=FEED_SOURCE, received_at_ms=self._clock.now_ms(), heads=heads
        )
        try:
            seq = await self._submit(event)
        except FeedError as error:
            _LOGGER.warning("journal heads cannot be logged yet", extra={"fields": {"reason": error.reason}})
            for waiting, _ in together:
                _fail(waiting, error)
            return
        for waiting, _ in together:
            self._on_logged(waiting.sidecar_id)
            _answer(waiting, seq)

    async def _record_disposals(self, statements: JournalStatements, public_key: bytes) -> int:
        async with self._desk.steady():
            self._verify_enrolled(statements.sidecar_id, public_key)
            known = {each: await self._find_disposal(each) for each in dict.fromkeys(statements.disposals)}
            fresh = tuple(each for each, seq in known.items() if seq is None)
            if not fresh:
                return max(seq or 0 for seq in known.values())
            now_ms = self._clock.now_ms()
            return await self._submit(
                DisposalEvent(origin=self._origin, source=FEED_SOURCE, received_at_ms=now_ms, disposals=fresh)
            )

    async def _find_disposal(self, disposal: JournalDisposal) -> int | None:
        return await self._store.find_disposal(disposal.sidecar_id, sha256(format_disposal(disposal)).digest())

    async def _submit(self, event: Event) -> int:
        return (await self._log.submit(Submission((event,)))).seq

    def _verify_enrolled(self, sidecar_id: str, public_key: bytes) -> None:
        enrolled = self._desk.find(sidecar_id)
        if enrolled is None or enrolled.public_key != public_key:
            raise SidecarNotEnrolled("sidecar_id: the key that signed is not enrolled any more")

    async def _judge(self, sidecar_id: str, heads: Sequence[JournalHead]) -> tuple[list[JournalHead], int]:
        """The heads that are not in the log yet, and the largest seq of those that are (0 for none).

        Numbers may be left out: a sidecar passes over what was refused, and drops what a later head covers.
        """
        newest: dict[bytes, HeadPlace | None] = {}
        fresh: list[JournalHead] = []
        seq = 0
        for head in heads:
            if head.chain_id not in newest:
                newest[head.chain_id] = await self._store.find_journal_head(sidecar_id, head.chain_id)
            last = newest[head.chain_id]
            if last is None or head.number > last.number:
                if last is not None and head.number == last.number + 1 and head.previous_head_hash != last.head_hash:
                    await self._report_fork(head)
                newest[head.chain_id] = HeadPlace(head.number, hash_head(head), 0)
                fresh.append(head)
                continue
            known = await self._store.find_journal_head(sidecar_id, head.chain_id, head.number)
            if known is None:
                raise HeadInvalid("heads: a later head of the chain is logged already")
            if known.head_hash != hash_head(head):
                await self._report_fork(head)
            seq = max(seq, known.seq)
        return fresh, seq

    async def _report_fork(self, head: JournalHead) -> None:
        """Raise HeadConflict, once an alert is in the log: whoever is refused will not ask again."""
        chain = head.sidecar_id, head.chain_id
        if chain not in self._forked:
            fields = {"sidecar_id": head.sidecar_id, "chain": head.chain_id.hex(), "number": head.number}
            _LOGGER.error("a sidecar's journal was rolled back or forked", extra={"fields": fields})
            detail = f"chain {head.chain_id.hex()}, head {head.number}"
            await self._alerts.record(Alert.JOURNAL_FORKED, head.sidecar_id, detail=detail)
            self._forked.add(chain)
        raise HeadConflict("heads: the log holds another head at this place of the chain")


def _verify_form(statements: JournalStatements) -> None:
    """Check all that can be seen without a key or the log."""
    heads, disposals = statements.heads, statements.disposals
    if not (heads or disposals) or max(len(heads), len(disposals)) > MAX_STATEMENTS:
        raise InvalidRequest(f"heads, disposals: 1 to {MAX_STATEMENTS} in one request")
    names = {head.sidecar_id for head in heads} | {disposal.sidecar_id for disposal in disposals}
    if names != {statements.sidecar_id}:
        raise SidecarNotPermitted("heads, disposals: one of them bears another sidecar's name")
    numbers: dict[bytes, int] = {}
    for head in heads:
        if not numbers.get(head.chain_id, -1) < head.number <= _MAX_NUMBER:
            raise HeadInvalid("heads: the numbers of a chain must grow")
        if (head.number == 0) != (head.previous_head_hash == NO_HEAD):
            raise HeadInvalid("heads: the first head of a chain, and no other, names none before it")
        numbers[head.chain_id] = head.number
    if any(disposal.first_segment > disposal.last_segment for disposal in disposals):
        raise HeadInvalid("disposals: the first segment must not be behind the last one")


def _verify_signatures(statements: JournalStatements, origin: str, public_key: bytes) -> None:
    try:
        for head in statements.heads:
            verify_head(head, origin, public_key)
        for disposal in statements.disposals:
            verify_disposal(disposal, origin, public_key)
    except InvalidJournalHead:
        raise HeadInvalid("heads, disposals: not signed by the key that this sidecar is enrolled with") from None


def _group(fresh: Sequence[_Fresh]) -> list[list[_Fresh]]:
    """Split what is to be logged into entries; the heads of one request stay together."""
    groups: list[list[_Fresh]] = []
    room = 0
    for waiting, heads in fresh:
        if room < len(heads):
            groups.append([])
            room = MAX_STATEMENTS
        groups[-1].append((waiting, heads))
        room -= len(heads)
    return groups


def _answer(waiting: _Waiting, seq: int) -> None:
    if not waiting.seq.done():
        waiting.seq.set_result(seq)


def _fail(waiting: _Waiting, error: FeedError) -> None:
    if not waiting.seq.done():
        waiting.seq.set_exception(error)
