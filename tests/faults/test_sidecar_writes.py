"""Each write of the sidecar, failed and not persisted or failed but persisted: what was acknowledged is there, and nothing else."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consent.event import PolicyEvent
from consent.eventlog.acknowledgement import sign_ack
from consent.eventlog.journal_head import HeadKind
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.key_ring import KeyRing
from consent.policy import format_policy
from hosting.errors import HostingError
from hosting.key_files import create_key_file
from journal.errors import JournalError, TornTail
from journal.format import JournalMode
from journal.reader import read_segment
from sidecar.cache import store
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.key_file import KEY_USE, FileKeyProvider, load_key_files
from sidecar.cache.store import CHECKPOINT_INTERVAL_MS, EncryptedCache
from sidecar.errors import CacheWriteFailed, SidecarError
from sidecar.journal.head_outbox import LOGGED_FILE_NAME, HeadOutbox
from sidecar.journal.position import Position, load_positions, save_positions
from sidecar.journal.writer import FileJournal
from sidecar.ports import OutboxChange, VerifiedBatch
from tests.fakes.cache_place import IDENTITY, assert_holds
from tests.fakes.clock import FakeClock
from tests.fakes.histories import POLICY
from tests.fakes.journal_chains import make_plan, verify_heads
from tests.fakes.journal_material import SealingKeys, make_record, segment_paths
from tests.fakes.log_builder import LogBuilder
from tests.fakes.write_fault_table import Fault, Life, rows, suffer, verify_complete
from tests.fakes.write_faults import WriteFaults

HEADER_BYTE = 18
OWES = OutboxChange(owes_receipt=True)
RING = KeyRing((bytes(32),), ())
SEGMENT_MAX_BYTES = 1_500
RECORDS = 8
RETRY_AFTER_MS = 100
HEAD_PERIOD_MS = 10_000
POSITIONS = {bytes(16): Position(segment=1, offset=2, frame=3, chain_hash=bytes(32), decisions=4)}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledgement is written with the next batch or at the end, and by no timer."""
    monkeypatch.setattr(store, "OUTBOX_DELAY_SECONDS", 3600)


class CacheLife:
    """A cache's files, from the first key over every kind of write to a file that is set aside.

    Args:
        root: A folder of the test's own.
    """

    STEPS = (
        "create_key",
        "open",
        "apply",
        "acknowledge",
        "apply_policy",
        "save_checkpoint",
        "save_key_ring",
        "merge",
        "apply_to_merged",
        "load_snapshot",
        "close",
        "create_new_key",
        "open_with_new_key",
        "close_again",
        "set_aside",
        "load_snapshot_into_new",
    )
    ERRORS = (SidecarError, HostingError)

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / "cache"
        self._keys: FileKeyProvider | None = None
        self._cache: EncryptedCache | None = None
        self._clock = FakeClock()
        self._log = LogBuilder()
        self._batch: VerifiedBatch | None = None

    @property
    def cache(self) -> EncryptedCache:
        assert self._cache is not None
        return self._cache

    async def create_key(self) -> None:
        # What a failure leaves is refused by name, and taken away by whoever started it: nothing is sealed under it yet.
        path = self._root / "secrets" / "kek.key"
        if path.exists():
            path.unlink()
        self._keys = load_key_files([path], cache_directory=self._directory, create_for_development=True)

    async def open(self) -> None:
        assert self._keys is not None
        mark = self._root / "mark" / "mark"
        self._cache = await EncryptedCache.open(
            self._directory, self._keys, IDENTITY, high_water_path=mark, clock=self._clock
        )

    async def apply(self) -> None:
        await self._apply("ann", "bob")

    async def acknowledge(self) -> None:
        """Written with the next batch."""
        head, seed = self.cache.head, self.cache.signing_seed
        key = generate_signing_key(IDENTITY.sidecar_id, KeyKind.SIDECAR, seed)
        self.cache.note_receipt(sign_ack(key, IDENTITY.origin, head.size, head.frontier.root_hash(), 5))

    async def apply_policy(self) -> None:
        if self._batch is None:
            event = PolicyEvent(origin=self._log.origin, version=1, replaces_version=0, document=format_policy(POLICY))
            self._batch = self._log.batch(event)
        await self._apply()

    async def save_checkpoint(self) -> None:
        self._clock.advance(CHECKPOINT_INTERVAL_MS)
        self._log.now_ms += CHECKPOINT_INTERVAL_MS
        await self.cache.save_checkpoint(self._log.head())

    async def save_key_ring(self) -> None:
        await self.cache.save_key_ring(RING)

    async def merge(self) -> None:
        await self.cache.merge()

    async def apply_to_merged(self) -> None:
        await self._apply("cid", "ann", change=OutboxChange(owes_receipt=True, confirmed_size=self.cache.head.size))

    async def load_snapshot(self) -> None:
        await self.cache.load_snapshot(self._log.snapshot(), OWES)

    async def close(self) -> None:
        """What was acknowledged last is written, or else is owed on."""
        if self._cache is not None:
            await self.acknowledge()
        await self.end()

    async def create_new_key(self) -> None:
        path = self._root / "secrets" / "new.key"
        if path.exists():
            path.unlink()
        create_key_file(path, os.urandom(32), use=KEY_USE)

    async def open_with_new_key(self) -> None:
        """The older key is still at hand; the file is wrapped under the newer one."""
        secrets = self._root / "secrets"
        self._keys = FileKeyProvider([secrets / "new.key", secrets / "kek.key"])
        await self.open()
        sizes = [receipt.size for receipt in self.cache.unconfirmed]
        assert self.cache.owes_receipt or sizes[-1:] == [self.cache.head.size]

    async def close_again(self) -> None:
        """And then somebody damages the file."""
        await self.end()
        with (self._directory / CACHE_FILE_NAME).open("r+b") as file:
            file.seek(HEADER_BYTE)
            file.write(b"\xff")

    async def set_aside(self) -> None:
        await self.open()
        assert self.cache.head.size == 0

    async def load_snapshot_into_new(self) -> None:
        await self.load_snapshot()
        await self.save_key_ring()

    async def end(self) -> None:
        if self._cache is not None:
            await self._cache.close()
            self._cache = None

    async def _apply(self, *names: str, change: OutboxChange = OWES) -> None:
        """A batch; one that is refused leaves everything as it was, and is taken when it comes again."""
        if self._batch is None:
            self._batch = self._log.batch(
                *(self._log.directive(name) for name in names), self._log.link(names[0], names[1])
            )
        before = LogBuilder()
        before.append(*(logged.event for logged in self._log.logged[: self.cache.head.size]))
        try:
            await self.cache.apply(self._batch, change)
        except CacheWriteFailed:
            assert_holds(self.cache, before)
            raise
        self._batch = None
        assert_holds(self.cache, self._log)

    async def verify(self) -> None:
        for _ in range(2):
            assert_holds(self.cache, self._log)
            assert (self.cache.key_ring, self.cache.is_intact, self.cache.owes_receipt) == (RING, True, True)
            assert self.cache.head.checkpoint == self._log.head().checkpoint
            await self.end()
            await self.open()
        aside = [path for path in self._directory.glob("*.corrupt-*") if not path.name.endswith(("-wal", "-shm"))]
        assert len(aside) == 1


class JournalLife:
    """A journal's files over several segments with their heads, how far those are logged, and the shipper's position.

    Args:
        root: A folder of the test's own.
    """

    STEPS = ("open", "append", "confirm_heads", "close", "save_positions", "save_positions_again")
    ERRORS = (SidecarError, OSError)

    def __init__(self, root: Path) -> None:
        self._directory = root / "journal"
        self._positions_path = root / "position" / "shipped.json"
        self._positions_path.parent.mkdir()
        self._clock = FakeClock()
        self._journal: FileJournal | None = None
        self._outbox = HeadOutbox(self._directory / LOGGED_FILE_NAME)
        self._confirmed: list[int] = []

    async def open(self) -> None:
        self._journal = FileJournal.open(
            self._directory,
            SealingKeys(),
            "pod-1",
            JournalMode.SYNC,
            self._clock,
            segment_max_bytes=SEGMENT_MAX_BYTES,
            plan=make_plan(self._directory, outbox=self._outbox),
        )

    async def append(self) -> None:
        """Records one by one; after a failure the next is tried as soon as the journal tries the disk again."""
        assert self._journal is not None
        self._clock.advance(RETRY_AFTER_MS)
        while len(self._confirmed) < RECORDS:
            number = len(self._confirmed)
            await self._journal.append(make_record(number), 1)
            self._confirmed.append(number)
        if not self._journal.is_writable:
            # A segment that is nearly full is ended in the background; where that fails, the next head finds a disk that works.
            self._clock.advance(HEAD_PERIOD_MS)
            self._journal.flush()
        assert self._journal.is_writable

    async def confirm_heads(self) -> None:
        """Where it fails, heads are sent twice, and nothing else happens."""
        self._outbox.confirm(self._outbox.pending(2))

    async def close(self) -> None:
        await self.end()

    async def save_positions(self) -> None:
        save_positions(self._positions_path, {})

    async def save_positions_again(self) -> None:
        """The older file stays whole until the newer one is."""
        assert load_positions(self._positions_path) in ({}, POSITIONS)
        save_positions(self._positions_path, POSITIONS)

    async def end(self) -> None:
        if self._journal is not None:
            self._journal.close()

    async def verify(self) -> None:
        faults: list[JournalError] = []
        found: list[bytes] = []
        for path in segment_paths(self._directory):
            try:
                for each in read_segment(path, SealingKeys()):
                    found.append(each.record)  # noqa: PERF401 - what came before the fault counts
            except JournalError as fault:
                faults.append(fault)
        assert [fault for fault in faults if not isinstance(fault, TornTail)] == []
        # A record that was refused may be there, and then once more when it was tried again.
        assert list(dict.fromkeys(found)) == [make_record(number) for number in self._confirmed]
        assert len(self._confirmed) == RECORDS
        assert len(segment_paths(self._directory)) > 1
        assert load_positions(self._positions_path) == POSITIONS
        assert self._journal is not None
        heads = verify_heads(self._directory, SealingKeys())[self._journal.chain_id]
        assert {head.kind for head in heads} >= {HeadKind.PERIODIC, HeadKind.SEGMENT_END}
        assert heads[-1].decisions >= RECORDS or heads[-1].kind != HeadKind.FINAL
        logged = HeadOutbox(self._directory / LOGGED_FILE_NAME).logged(self._journal.chain_id)
        assert logged is None or heads[logged.number].segment == logged.segment


@asynccontextmanager
async def living(root: Path, kind: type[CacheLife] | type[JournalLife]) -> AsyncIterator[tuple[Life, WriteFaults]]:
    """A life whose writes are watched."""
    life, faults = kind(root), WriteFaults(root)
    with faults.watching():
        try:
            yield life, faults
        finally:
            await life.end()


#: What decides: the end of a transaction, and of a file that SQLite does not write.
QUICK = ("COMMIT", "fsync kek.key", "write *-*.journal", "fsync *-*.journal")
CACHE: dict[str, dict[str, int]] = {
    "create_key": {
        "mkdir secrets": 1,
        "chmod secrets": 1,
        "open kek.key": 1,
        "fchmod kek.key": 1,
        "write kek.key": 1,
        "fsync kek.key": 1,
        "fsync secrets": 1,
    },
    "open": {
        "mkdir cache": 1,
        "chmod cache": 1,
        "open instance.lock": 1,
        "ftruncate instance.lock": 1,
        "write instance.lock": 1,
        "mkdir mark": 1,
        "chmod mark": 1,
        "PRAGMA journal_mode": 1,
        "BEGIN": 3,
        "CREATE TABLE meta": 1,
        "CREATE TABLE segment": 1,
        "CREATE TABLE delta": 1,
        "CREATE TABLE receipt_outbox": 1,
        "PRAGMA application_id": 1,
        "PRAGMA user_version": 1,
        "COMMIT": 3,
        "INSERT INTO segment": 1,
        "INSERT OR REPLACE INTO meta": 4,
        "DELETE FROM delta": 1,
        "INSERT INTO delta": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
    },
    "apply": {
        "BEGIN": 1,
        "INSERT INTO delta": 1,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "INSERT OR REPLACE INTO meta": 1,
        "COMMIT": 1,
    },
    "apply_policy": {
        "BEGIN": 1,
        "INSERT INTO delta": 1,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "INSERT OR REPLACE INTO meta": 2,
        "COMMIT": 1,
    },
    "save_checkpoint": {
        "BEGIN": 1,
        "INSERT OR REPLACE INTO meta": 1,
        "COMMIT": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
    },
    "save_key_ring": {
        "BEGIN": 1,
        "INSERT OR REPLACE INTO meta": 2,
        "COMMIT": 1,
    },
    "merge": {
        "BEGIN": 3,
        "INSERT INTO segment": 1,
        "COMMIT": 3,
        "INSERT OR REPLACE INTO meta": 4,
        "DELETE FROM delta": 1,
        "INSERT INTO delta": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
        "DELETE FROM segment": 1,
        "PRAGMA wal_checkpoint": 1,
    },
    "apply_to_merged": {
        "BEGIN": 1,
        "INSERT INTO delta": 1,
        "DELETE FROM receipt_outbox": 1,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "INSERT OR REPLACE INTO meta": 1,
        "COMMIT": 1,
    },
    "load_snapshot": {
        "BEGIN": 3,
        "INSERT INTO segment": 1,
        "COMMIT": 3,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "INSERT OR REPLACE INTO meta": 4,
        "DELETE FROM delta": 1,
        "INSERT INTO delta": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
        "DELETE FROM segment": 1,
        "PRAGMA wal_checkpoint": 1,
    },
    "close": {
        "BEGIN": 1,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "COMMIT": 1,
    },
    "create_new_key": {
        "open new.key": 1,
        "fchmod new.key": 1,
        "write new.key": 1,
        "fsync new.key": 1,
        "fsync secrets": 1,
    },
    "open_with_new_key": {
        "mkdir cache": 1,
        "open instance.lock": 1,
        "ftruncate instance.lock": 1,
        "write instance.lock": 1,
        "mkdir mark": 1,
        "PRAGMA journal_mode": 1,
        "BEGIN": 2,
        "COMMIT": 2,
        "INSERT OR REPLACE INTO meta": 1,
        "PRAGMA wal_checkpoint": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
    },
    "set_aside": {
        "mkdir cache": 1,
        "open instance.lock": 1,
        "ftruncate instance.lock": 1,
        "write instance.lock": 1,
        "mkdir mark": 1,
        "rename cache.db": 1,
        "fsync cache": 1,
        "PRAGMA journal_mode": 1,
        "BEGIN": 3,
        "CREATE TABLE meta": 1,
        "CREATE TABLE segment": 1,
        "CREATE TABLE delta": 1,
        "CREATE TABLE receipt_outbox": 1,
        "PRAGMA application_id": 1,
        "PRAGMA user_version": 1,
        "COMMIT": 3,
        "INSERT INTO segment": 1,
        "INSERT OR REPLACE INTO meta": 4,
        "DELETE FROM delta": 1,
        "INSERT INTO delta": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
    },
    "load_snapshot_into_new": {
        "BEGIN": 4,
        "INSERT INTO segment": 1,
        "COMMIT": 4,
        "INSERT OR REPLACE INTO receipt_outbox": 1,
        "INSERT OR REPLACE INTO meta": 6,
        "DELETE FROM delta": 1,
        "INSERT INTO delta": 1,
        "open .mark.*.tmp": 1,
        "fchmod .mark.*.tmp": 1,
        "write .mark.*.tmp": 1,
        "fsync .mark.*.tmp": 1,
        "replace .mark.*.tmp": 1,
        "fsync mark": 1,
        "DELETE FROM segment": 1,
        "PRAGMA wal_checkpoint": 1,
    },
}
JOURNAL: dict[str, dict[str, int]] = {
    "open": {
        "mkdir journal": 1,
        "chmod journal": 1,
        "open *.lock": 1,
        "ftruncate *.lock": 1,
        "write *.lock": 1,
        "open *-*.tmp": 1,
        "write *-*.tmp": 1,
        "posix_fallocate *-*.tmp": 1,
        "ftruncate *-*.tmp": 1,
        "fsync *-*.tmp": 1,
        "rename *-*.tmp": 1,
        "fsync *-*.journal": 2,
        "fsync journal": 1,
        "write *-*.journal": 1,
    },
    "append": {
        "write *-*.journal": 11,
        "fsync *-*.journal": 11,
        "open *-*.tmp": 3,
        "write *-*.tmp": 3,
        "rename *-*.tmp": 3,
        "fsync journal": 3,
    },
    "confirm_heads": {
        "open .logged-heads.json.*.tmp": 1,
        "fchmod .logged-heads.json.*.tmp": 1,
        "write .logged-heads.json.*.tmp": 1,
        "fsync .logged-heads.json.*.tmp": 1,
        "replace .logged-heads.json.*.tmp": 1,
        "fsync journal": 1,
    },
    "close": {"write *-*.journal": 1, "fsync *-*.journal": 1, "unlink *.lock": 1},
    "save_positions": {
        "open .shipped.json.*.tmp": 1,
        "fchmod .shipped.json.*.tmp": 1,
        "write .shipped.json.*.tmp": 1,
        "fsync .shipped.json.*.tmp": 1,
        "replace .shipped.json.*.tmp": 1,
        "fsync position": 1,
    },
    "save_positions_again": {
        "open .shipped.json.*.tmp": 1,
        "fchmod .shipped.json.*.tmp": 1,
        "write .shipped.json.*.tmp": 1,
        "fsync .shipped.json.*.tmp": 1,
        "replace .shipped.json.*.tmp": 1,
        "fsync position": 1,
    },
}


async def test_cache_table_of_writes_names_every_write(tmp_path: Path) -> None:
    async with living(tmp_path, CacheLife) as (life, faults):
        await verify_complete(life, faults, CACHE)


async def test_journal_table_of_writes_names_every_write(tmp_path: Path) -> None:
    async with living(tmp_path, JournalLife) as (life, faults):
        await verify_complete(life, faults, JOURNAL)


@pytest.mark.parametrize("fault", rows(CACHE, QUICK))
async def test_cache_write_that_fails_loses_nothing_and_serves_nothing_else(tmp_path: Path, fault: Fault) -> None:
    async with living(tmp_path, CacheLife) as (life, faults):
        await suffer(life, faults, fault)


@pytest.mark.parametrize("fault", rows(JOURNAL, QUICK))
async def test_journal_write_that_fails_loses_no_confirmed_record(tmp_path: Path, fault: Fault) -> None:
    async with living(tmp_path, JournalLife) as (life, faults):
        await suffer(life, faults, fault)
