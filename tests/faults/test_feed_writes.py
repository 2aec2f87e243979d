"""Each write of the feed, failed and not persisted or failed but persisted: nothing acknowledged is lost, and what is left verifies."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consent.event import AlertEvent, DisposalEvent, EnrolEvent, JournalHeadsEvent, PolicyEvent, ReceiptsEvent
from consent.eventlog.acknowledgement import sign_ack, sign_possession
from consent.eventlog.journal_head import format_disposal, hash_head
from feed.errors import FeedError, LogWriteFailed, OutcomeUnknown
from feed.log_store.port import Acknowledgement, EnrolmentChange, HeadPlace, OpenAlert, ReceiptPlace
from feed.log_store.sqlite import SqliteLog
from feed.ports import Accepted, Submission
from feed.sequencer import Sequencer
from feed.signing.key_store import create_keys, load_keys
from feed.snapshots import FileSnapshots
from hosting.errors import HostingError
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import (
    ORIGIN,
    make_link,
    make_policy,
    make_request,
    make_sequencer,
    make_submission,
    make_unlink,
    open_store,
    token_of,
    verify_everything,
    verify_note,
)
from tests.fakes.journal_heads import make_disposal, make_heads
from tests.fakes.trails import make_sidecar_key
from tests.fakes.write_fault_table import Fault, rows, suffer, verify_complete
from tests.fakes.write_faults import WriteFaults

SIDECAR_KEY = make_sidecar_key("sidecar-1")
HEADS = make_heads(SIDECAR_KEY, ORIGIN, 2)
DISPOSAL = make_disposal(SIDECAR_KEY, ORIGIN)
ANN, BOB, CID, DAN = sorted(("ann", "bob", "cid", "dan"), key=token_of)


class FeedLife:
    """A feed's files from the first key to the last close.

    Args:
        root: A folder of the test's own.
    """

    STEPS = (
        "create_keys",
        "open",
        "start",
        "fill",
        "change",
        "acknowledge",
        "snapshot",
        "renew_snapshot",
        "close",
        "reopen",
    )
    ERRORS = (FeedError, HostingError)

    def __init__(self, root: Path) -> None:
        self._root = root
        self._keys = root / "keys"
        self._store: SqliteLog | None = None
        self._sequencer: Sequencer | None = None
        self._snapshots: FileSnapshots | None = None
        self._accepted: dict[str, Accepted] = {}
        self._refused: set[str] = set()

    @property
    def store(self) -> SqliteLog:
        assert self._store is not None
        return self._store

    @property
    def sequencer(self) -> Sequencer:
        assert self._sequencer is not None
        return self._sequencer

    async def create_keys(self) -> None:
        # What a failure leaves is said by name, never overwritten, and taken away by whoever started it.
        for path in self._keys.glob("*"):
            path.unlink()
        create_keys(self._keys)

    async def open(self) -> None:
        self._store = await open_store(self._root / "log")

    async def start(self) -> None:
        self._sequencer = make_sequencer(self.store, FakeClock())
        await self._sequencer.start()

    async def fill(self) -> None:
        for name in (ANN, BOB, CID):
            await self._submit(name, make_request(name))
        await self._submit("link", make_link_request("link", ANN, BOB))

    async def change(self) -> None:
        """A request whose commit needs every statement."""
        request = make_request(DAN)
        events = (
            *request.events,
            make_unlink(ANN, BOB),
            make_link(BOB, CID),
            make_link(CID, DAN),
            PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy()),
            EnrolEvent(
                origin=ORIGIN,
                sidecar_id="sidecar-1",
                public_key=SIDECAR_KEY.verifier_key.public_key,
                enrolled_at_ms=10,
                possession=sign_possession(SIDECAR_KEY, ORIGIN),
            ),
            ReceiptsEvent(origin=ORIGIN, receipts=(sign_ack(SIDECAR_KEY, ORIGIN, 3, bytes(32), 10),)),
            JournalHeadsEvent(origin=ORIGIN, received_at_ms=10, heads=tuple(HEADS)),
            DisposalEvent(origin=ORIGIN, received_at_ms=10, disposals=(DISPOSAL,)),
            AlertEvent(origin=ORIGIN, raised_at_ms=10, alert="JOURNAL_SILENT", about="sidecar-1"),
        )
        await self._submit("change", make_submission(events, request.idempotency))

    async def acknowledge(self) -> None:
        await self.store.save_acknowledgements([Acknowledgement("sidecar-1", 3, 10, 20)])

    async def snapshot(self) -> None:
        if self._snapshots is None:
            self._snapshots = FileSnapshots.open(
                self.sequencer, self.store, self._root / "chunks", origin=ORIGIN, max_lag_entries=0
            )
        await self._snapshots.newest()

    async def renew_snapshot(self) -> None:
        """The older one's chunks are removed."""
        await self._submit("late", make_request("late"))
        await self.snapshot()

    async def close(self) -> None:
        await self.end()

    async def reopen(self) -> None:
        if self._store is None:
            await self.open()
        await self.start()

    async def end(self) -> None:
        if self._sequencer is not None:
            await self._sequencer.close()
        if self._snapshots is not None:
            await self._snapshots.close()
        if self._store is not None:
            await self._store.close()
        self._store = self._sequencer = self._snapshots = None

    async def _submit(self, name: str, submission: Submission) -> None:
        try:
            accepted = await self.sequencer.submit(submission)
        except OutcomeUnknown:
            raise
        except LogWriteFailed:
            self._refused.add(name)
            raise
        if name in self._refused:
            assert not accepted.is_replay, "refused, and in the log"
            self._refused.remove(name)
        known = self._accepted.setdefault(name, accepted)
        assert (accepted.seq, accepted.request_id) == (known.seq, known.request_id)

    async def verify(self) -> None:
        load_keys(self._keys, ORIGIN)
        verify_note(self.sequencer.head)
        await self._verify_log()
        await self.end()
        await self.reopen()
        await self._verify_log()
        for name in (ANN, BOB, CID):
            again = await self.sequencer.submit(make_request(name))
            assert (again.seq, again.is_replay) == (self._accepted[name].seq, True)

    async def _verify_log(self) -> None:
        entries = await verify_everything(self.store)
        assert len(entries) == self.sequencer.head.size
        assert len({accepted.seq for accepted in self._accepted.values()}) == len(self._accepted) == 6
        assert max(accepted.seq for accepted in self._accepted.values()) <= len(entries)
        assert list(await self.store.load_acknowledgements()) == [Acknowledgement("sidecar-1", 3, 10, 20)]
        enrolled, receipts = (await self.store.load_enrolments()), await self.store.find_receipt("sidecar-1", 1, 0)
        seq = self.sequencer.head.tenant.sidecars[0].enrolled_seq
        assert (list(enrolled), receipts) == (
            [EnrolmentChange("sidecar-1", seq, is_retired=False)],
            ReceiptPlace(3, seq + 1),
        )
        head = await self.store.find_journal_head("sidecar-1", HEADS[0].chain_id)
        assert head == HeadPlace(1, hash_head(HEADS[1]), seq + 2)
        disposal_hash = hashlib.sha256(format_disposal(DISPOSAL)).digest()
        assert await self.store.find_disposal("sidecar-1", disposal_hash) == seq + 3
        assert await self.store.load_open_alerts() == [OpenAlert("JOURNAL_SILENT", "sidecar-1", seq + 4)]
        assert self.sequencer.policy is not None


def make_link_request(name: str, left: str, right: str) -> Submission:
    request = make_request(name)
    return make_submission((*request.events[:1], make_link(left, right)), request.idempotency)


@asynccontextmanager
async def living(root: Path) -> AsyncIterator[tuple[FeedLife, WriteFaults]]:
    """A life whose writes are watched."""
    life, faults = FeedLife(root), WriteFaults(root)
    with faults.watching():
        try:
            yield life, faults
        finally:
            await life.end()


#: What decides: the end of a transaction, and of a file that SQLite does not write.
QUICK = ("COMMIT", "fsync log.key", "write snapshot-*-*.chunk", "PRAGMA wal_checkpoint")
TABLE: dict[str, dict[str, int]] = {
    "create_keys": {
        "mkdir keys": 1,
        "chmod keys": 1,
        "open log.key": 1,
        "fchmod log.key": 1,
        "write log.key": 1,
        "fsync log.key": 1,
        "fsync keys": 5,
        "open cosigner.key": 1,
        "fchmod cosigner.key": 1,
        "write cosigner.key": 1,
        "fsync cosigner.key": 1,
        "open subject-*.key": 1,
        "fchmod subject-*.key": 1,
        "write subject-*.key": 1,
        "fsync subject-*.key": 1,
        "open audit-master.key": 1,
        "fchmod audit-master.key": 1,
        "write audit-master.key": 1,
        "fsync audit-master.key": 1,
        "open feed-kek.key": 1,
        "fchmod feed-kek.key": 1,
        "write feed-kek.key": 1,
        "fsync feed-kek.key": 1,
    },
    "open": {
        "mkdir log": 1,
        "chmod log": 1,
        "open instance.lock": 1,
        "ftruncate instance.lock": 1,
        "write instance.lock": 1,
        "open log.db": 1,
        "chmod log.db": 1,
        "PRAGMA journal_mode": 1,
        "BEGIN": 1,
        "CREATE TABLE identity": 1,
        "CREATE TABLE data_key": 1,
        "CREATE TABLE entry": 1,
        "CREATE TABLE node": 1,
        "CREATE TABLE head": 1,
        "CREATE TABLE tenant": 1,
        "CREATE TABLE cluster": 1,
        "CREATE TABLE member": 1,
        "CREATE TABLE request": 1,
        "CREATE TABLE acknowledgement": 1,
        "CREATE TABLE enrolment": 1,
        "CREATE TABLE receipt": 1,
        "CREATE TABLE journal_head": 1,
        "CREATE TABLE journal_disposal": 1,
        "CREATE TABLE alert": 1,
        "PRAGMA application_id": 1,
        "PRAGMA user_version": 1,
        "DROP TABLE IF EXISTS next_cluster": 1,
        "DROP TABLE IF EXISTS next_member": 1,
        "INSERT INTO identity": 1,
        "COMMIT": 1,
    },
    "start": {
        "BEGIN": 1,
        "INSERT INTO head": 1,
        "INSERT OR REPLACE INTO tenant": 1,
        "INSERT OR REPLACE INTO data_key": 1,
        "INSERT INTO entry": 1,
        "INSERT INTO node": 1,
        "COMMIT": 1,
    },
    "fill": {
        "BEGIN": 4,
        "UPDATE head": 4,
        "INSERT INTO entry": 4,
        "INSERT INTO node": 4,
        "INSERT OR REPLACE INTO cluster": 4,
        "INSERT INTO request": 4,
        "COMMIT": 4,
        "DELETE FROM cluster": 1,
        "INSERT OR REPLACE INTO member": 1,
    },
    "change": {
        "BEGIN": 1,
        "UPDATE head": 1,
        "INSERT OR REPLACE INTO tenant": 1,
        "INSERT INTO entry": 1,
        "INSERT INTO node": 1,
        "DELETE FROM cluster": 1,
        "DELETE FROM member": 1,
        "INSERT OR REPLACE INTO cluster": 1,
        "INSERT OR REPLACE INTO member": 1,
        "INSERT INTO request": 1,
        "INSERT OR REPLACE INTO enrolment": 1,
        "INSERT OR REPLACE INTO receipt": 1,
        "INSERT OR REPLACE INTO journal_head": 1,
        "INSERT OR REPLACE INTO journal_disposal": 1,
        "INSERT OR REPLACE INTO alert": 1,
        "COMMIT": 1,
    },
    "acknowledge": {
        "BEGIN": 1,
        "INSERT INTO acknowledgement": 1,
        "COMMIT": 1,
    },
    "snapshot": {
        "mkdir chunks": 1,
        "chmod chunks": 1,
        "write snapshot-*-*.chunk": 1,
        "BEGIN": 1,
        "UPDATE head": 1,
        "INSERT INTO entry": 1,
        "INSERT INTO node": 1,
        "COMMIT": 1,
    },
    "renew_snapshot": {
        "BEGIN": 2,
        "UPDATE head": 2,
        "INSERT INTO entry": 2,
        "INSERT INTO node": 2,
        "INSERT OR REPLACE INTO cluster": 1,
        "INSERT INTO request": 1,
        "COMMIT": 2,
        "write snapshot-*-*.chunk": 1,
        "unlink snapshot-*-*.chunk": 1,
    },
    "close": {
        "unlink snapshot-*-*.chunk": 1,
        "PRAGMA wal_checkpoint": 1,
    },
    "reopen": {
        "mkdir log": 1,
        "open instance.lock": 1,
        "ftruncate instance.lock": 1,
        "write instance.lock": 1,
        "open log.db": 1,
        "chmod log.db": 1,
        "PRAGMA journal_mode": 1,
        "BEGIN": 1,
        "DROP TABLE IF EXISTS next_cluster": 1,
        "DROP TABLE IF EXISTS next_member": 1,
        "COMMIT": 1,
    },
}


async def test_feed_table_of_writes_names_every_write(tmp_path: Path) -> None:
    async with living(tmp_path) as (life, faults):
        await verify_complete(life, faults, TABLE)


@pytest.mark.parametrize("fault", rows(TABLE, QUICK))
async def test_feed_write_that_fails_loses_nothing_and_leaves_what_verifies(tmp_path: Path, fault: Fault) -> None:
    async with living(tmp_path) as (life, faults):
        await suffer(life, faults, fault)
