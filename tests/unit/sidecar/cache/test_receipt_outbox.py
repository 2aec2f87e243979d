"""The outbox: a debt is as durable as its batch, and nothing is dropped before the log holds it."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from consent.event import RECEIPT
from consent.eventlog.acknowledgement import Receipt, sign_ack
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from sidecar.cache import receipt_outbox, store
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheWriteFailed
from sidecar.ports import OutboxChange
from tests.fakes.cache_place import CachePlace
from tests.fakes.log_builder import ORIGIN, LogBuilder

OWES = OutboxChange(owes_receipt=True)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted is written with the next batch or at the end, and by no timer."""
    monkeypatch.setattr(store, "OUTBOX_DELAY_SECONDS", 3600)


def key_of(cache: EncryptedCache) -> SigningKey:
    return generate_signing_key("sidecar-1", KeyKind.SIDECAR, cache.signing_seed)


def sign(cache: EncryptedCache, applied_at_ms: int = 5) -> Receipt:
    head = cache.head
    return sign_ack(key_of(cache), ORIGIN, head.size, head.frontier.root_hash(), applied_at_ms)


def rows(path: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT seq, blob FROM receipt_outbox ORDER BY seq").fetchall()


async def test_signing_key_is_made_once_and_kept(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        cache = await place.open()
        seed = cache.signing_seed
        assert seed not in b"".join(place.files().values())
        cache = await place.reopen(cache)
        assert cache.signing_seed == seed
        assert seed != cache.private_key


async def test_debt_is_committed_with_its_batch_and_outlives_a_crash(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")), OWES)
        crashed = place.files()
        cache.note_receipt(sign(cache))
        assert (cache.owes_receipt, [receipt.size for receipt in cache.unconfirmed]) == (False, [1])
        await cache.close()
        place.restore(crashed)
        cache = await place.open()
        assert (cache.owes_receipt, cache.unconfirmed) == (True, ())
        paid = sign(cache, applied_at_ms=9)
        cache.note_receipt(paid)
        cache = await place.reopen(cache)
        assert (cache.owes_receipt, cache.unconfirmed) == (False, (paid,))


async def test_acknowledgement_is_written_with_the_next_batch(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")), OWES)
        first = sign(cache)
        cache.note_receipt(first)
        await cache.apply(log.batch(log.directive("eve")), OWES)
        assert rows(place.path) == [(1, RECEIPT.write(first)), (2, b"")]


async def test_debts_of_several_batches_are_paid_by_one_acknowledgement(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        for name in ("ada", "eve", "bob"):
            await cache.apply(log.batch(log.directive(name)), OWES)
        cache = await place.reopen(cache)
        paid = sign(cache)
        cache.note_receipt(paid)
        assert not cache.owes_receipt
        cache = await place.reopen(cache)
        assert (cache.owes_receipt, cache.unconfirmed) == (False, (paid,))
        assert rows(place.path) == [(3, RECEIPT.write(paid))]


async def test_confirmed_acknowledgements_are_removed_with_the_batch_that_says_so(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        for name in ("ada", "eve", "bob"):
            await cache.apply(log.batch(log.directive(name)), OWES)
            cache.note_receipt(sign(cache))
        await cache.apply(log.batch(log.directive("kim")), OutboxChange(confirmed_size=2))
        assert [receipt.size for receipt in cache.unconfirmed] == [3]
        cache = await place.reopen(cache)
        assert [receipt.size for receipt in cache.unconfirmed] == [3]


async def test_batch_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")), OWES)
        cache.note_receipt(sign(cache))

        async def fail(*_: object) -> None:
            raise CacheWriteFailed("full")

        with monkeypatch.context() as patched:
            patched.setattr(cache._durable, "append", fail)
            with pytest.raises(CacheWriteFailed):
                await cache.apply(log.batch(log.directive("eve")), OutboxChange(owes_receipt=True, confirmed_size=1))
        assert (cache.owes_receipt, [receipt.size for receipt in cache.unconfirmed]) == (False, [1])


async def test_outbox_that_cannot_be_written_keeps_everything_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")), OWES)
        receipt = sign(cache)
        cache.note_receipt(receipt)

        async def fail(*_: object) -> None:
            raise CacheWriteFailed("full")

        with monkeypatch.context() as patched:
            patched.setattr(cache._durable, "keep_outbox", fail)
            await cache._keep_outbox()
        assert rows(place.path) == [(1, b"")]
        await cache.apply(log.batch(log.directive("eve")))
        assert rows(place.path) == [(1, RECEIPT.write(receipt))]


async def test_snapshot_owes_an_acknowledgement_from_its_own_commit_on(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        log.append(log.directive("ada"), log.directive("eve"))
        await cache.load_snapshot(log.snapshot(), OWES)
        assert rows(place.path) == [(2, b"")]
        assert cache.owes_receipt


async def test_merge_keeps_the_outbox(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")), OWES)
        receipt = sign(cache)
        cache.note_receipt(receipt)
        await cache.merge()
        cache = await place.reopen(cache)
        assert cache.unconfirmed == (receipt,)


async def test_rows_that_this_key_has_not_signed_are_left_out(tmp_path: Path) -> None:
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        await cache.apply(log.batch(log.directive("ada")))
        good = sign(cache)
        await cache.close()
        forged = [
            RECEIPT.write(replace(good, applied_at_ms=1)),
            RECEIPT.write(good),
            RECEIPT.write(sign_ack(generate_signing_key("x", KeyKind.SIDECAR, bytes(32)), ORIGIN, 4, bytes(32), 1)),
            b"garbage",
        ]
        with closing(sqlite3.connect(place.path)) as connection, connection:
            connection.executemany("INSERT INTO receipt_outbox VALUES (?, ?)", list(enumerate(forged, start=2)))
        cache = await place.open()
        assert (cache.unconfirmed, cache.owes_receipt, place.set_aside()) == ((), False, [])
        await cache.close()
        assert rows(place.path) == []


async def test_outbox_beyond_its_bound_keeps_the_oldest_and_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_outbox, "MAX_RECEIPTS", 4)
    async with CachePlace(tmp_path) as place:
        log, cache = LogBuilder(), await place.open()
        for number in range(9):
            await cache.apply(log.batch(log.directive(str(number))), OWES)
            cache.note_receipt(sign(cache))
        sizes = [receipt.size for receipt in cache.unconfirmed]
        assert (len(sizes), sizes[:2], sizes[-1]) == (4, [1, 2], 9)
        cache = await place.reopen(cache)
        assert [receipt.size for receipt in cache.unconfirmed] == sizes
