"""A feed's log with its desk and its receipts, and sidecars that sign for real."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from consent.event import Event, ReceiptsEvent, parse_event
from consent.eventlog.acknowledgement import Receipt, sign_ack, sign_possession
from consent.eventlog.keys import SigningKey
from feed.alerts import AlertLog
from feed.audit import TrailMaker
from feed.enrolment import EnrolmentDesk
from feed.journal_heads import JournalHeadLog
from feed.log_store.tree import LogTree
from feed.ports import Submission
from feed.receipts import ReceiptLog
from feed.signing.enrolment_tokens import EnrolmentToken, EnrolmentTokens
from tests.fakes.feed_log import KEYS, ORIGIN, OpenLog, make_request, open_log, read_all
from tests.fakes.trails import make_sidecar_key

FOREVER_MS = 2**62


@dataclass(frozen=True)
class Fleet:
    """What runs.

    Attributes:
        log: The log.
        tree: Its proofs.
        tokens: Of its feed.
        desk: Enrols and retires.
        receipts: Logs acknowledgements when a test calls `flush`.
        heads: Logs heads of journals when a test calls `flush`.
        alerts: Logs alerts.
        trails: Makes trails.
    """

    log: OpenLog
    tree: LogTree
    tokens: EnrolmentTokens
    desk: EnrolmentDesk
    receipts: ReceiptLog
    heads: JournalHeadLog
    alerts: AlertLog
    trails: TrailMaker

    def token(self, name: str, issued_size: int | None = None) -> str:
        size = self.log.sequencer.head.size if issued_size is None else issued_size
        return self.tokens.issue(EnrolmentToken(name, size, FOREVER_MS))

    async def ask(self, name: str, token: str = "", key: SigningKey | None = None) -> int | None:
        """A sidecar asks to be enrolled."""
        key = key or make_sidecar_key(name)
        return await self.desk.enrol(name, key.verifier_key.public_key, sign_possession(key, ORIGIN), token)

    async def enrol(self, name: str, key: SigningKey | None = None) -> int:
        seq = await self.ask(name, self.token(name), key)
        assert seq is not None
        return seq

    async def opt_out(self, name: str) -> int:
        """RECEIVED and an opt-out; returns the seq of the latter."""
        return (await self.log.sequencer.submit(make_request(name))).seq

    async def sign(self, name: str, size: int, applied_at_ms: int = 5, key: SigningKey | None = None) -> Receipt:
        root_hash = await self.tree.root_hash(size)
        return sign_ack(key or make_sidecar_key(name), ORIGIN, size, root_hash, applied_at_ms)

    async def submit(self, event: Event) -> int:
        return (await self.log.sequencer.submit(Submission((event,)))).seq

    async def logged(self) -> list[list[tuple[str, int]]]:
        """(sidecar, size) of the receipts in each RECEIPTS entry."""
        events = [parse_event(entry.event_bytes) for entry in await read_all(self.log.store)]
        return [
            [(receipt.sidecar_id, receipt.size) for receipt in event.receipts]
            for event in events
            if isinstance(event, ReceiptsEvent)
        ]


@asynccontextmanager
async def open_fleet(directory: Path) -> AsyncIterator[Fleet]:
    """Runs a log in a directory, again where there is one already."""
    async with open_log(directory) as log, run_fleet(log) as fleet:
        yield fleet


@asynccontextmanager
async def run_fleet(log: OpenLog) -> AsyncIterator[Fleet]:
    """Runs desk and receipts of a log that is open."""
    tree, tokens = LogTree(log.store, lambda: log.sequencer.head), EnrolmentTokens(KEYS.kek, ORIGIN)
    desk = EnrolmentDesk(log.sequencer, log.store, tokens, log.clock, ORIGIN)
    await desk.load()
    receipts = ReceiptLog(log.sequencer, log.store, desk, tree.root_hash, ORIGIN, period_seconds=3600)
    alerts = AlertLog(log.sequencer, log.clock, ORIGIN)
    heads = JournalHeadLog(log.sequencer, log.store, desk, alerts, log.clock, ORIGIN, period_seconds=3600)
    try:
        yield Fleet(log, tree, tokens, desk, receipts, heads, alerts, TrailMaker(log.sequencer, log.store, tree))
    finally:
        await heads.close()
        await receipts.close()
