"""A cache file that was changed gives the same answers or is set aside: never other answers, and never an exception but ours."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from consent.event import KeyEpochEvent
from consent.key_ring import KeyRing
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.identity import CacheIdentity
from sidecar.errors import CorruptCache
from tests.fakes.cache_place import IDENTITY, CachePlace, assert_empty, assert_holds
from tests.fakes.cache_tampering import fill
from tests.fakes.log_builder import LogBuilder, token_of


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[CachePlace]:
    async with CachePlace(tmp_path) as made:
        yield made


async def test_a_flipped_byte_of_each_header_field_leaves_a_cache_that_works(place: CachePlace) -> None:
    log = LogBuilder()
    await (await fill(place, log)).close()
    files = place.files()
    # Page size, the two format bytes, reserved space, fractions, change counter, size, freelist, schema, encoding, version.
    for at in (*range(16, 25), 31, 35, 39, 43, 47, 59, 63, 71, 95):
        changed = bytearray(files[CACHE_FILE_NAME])
        changed[at] ^= 1 << at % 8
        place.restore({CACHE_FILE_NAME: bytes(changed)})
        place.mark_path.unlink(missing_ok=True)
        cache = await place.open()
        grown = LogBuilder()
        if cache.head.size:
            grown.append(*(logged.event for logged in log.logged))
        assert_holds(cache, grown)
        await cache.apply(grown.batch(grown.directive("bob")))
        await cache.merge()
        cache = await place.reopen(cache)
        assert_holds(cache, grown)
        await cache.close()


async def test_every_flipped_byte_of_the_log_of_writes_gives_the_same_answers_or_is_detected(
    place: CachePlace, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    place.clock.advance(1000)
    await cache.apply(log.batch(log.directive("bob")))
    files, mark = place.files(), place.mark_path.read_bytes()
    await cache.close()
    wal = files[f"{CACHE_FILE_NAME}-wal"]
    for at in range(0, len(wal), len(wal) // 24 + 1):
        changed = bytearray(wal)
        changed[at] ^= 1 << at % 8
        place.restore({**files, f"{CACHE_FILE_NAME}-wal": bytes(changed)})
        place.mark_path.write_bytes(mark)
        cache = await place.open()
        # A frame that does not verify ends the log of writes for SQLite; the high-water mark knows that there was more.
        if cache.head.size:
            assert_holds(cache, log)
        else:
            assert_empty(cache)
        await cache.close()
    assert "set aside" in caplog.text


@contextmanager
def tampered(place: CachePlace) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(place.path, isolation_level=None)) as connection:
        yield connection


def rows(place: CachePlace, sql: str) -> list[tuple[object, ...]]:
    with tampered(place) as connection:
        return connection.execute(sql).fetchall()


TAMPERINGS: dict[str, str] = {
    "a delta deleted": "DELETE FROM delta WHERE first_seq = (SELECT max(first_seq) FROM delta)",
    "the first delta deleted": "DELETE FROM delta WHERE first_seq = (SELECT min(first_seq) FROM delta)",
    "all deltas deleted": "DELETE FROM delta",
    "a delta with another range": "UPDATE delta SET last_seq = last_seq + 1",
    "a delta that ends before it starts": "UPDATE delta SET last_seq = -5",
    "a delta added": "INSERT INTO delta SELECT last_seq + 1, last_seq + 1, blob FROM delta ORDER BY 1 DESC LIMIT 1",
    "a delta of another type": "UPDATE delta SET blob = 'text'",
    "a range of another type": "UPDATE delta SET last_seq = 'x'",
    "a segment deleted": "DELETE FROM segment WHERE number = 1",
    "the last segment deleted": "DELETE FROM segment WHERE number = (SELECT max(number) FROM segment)",
    "a segment added": "INSERT INTO segment SELECT generation, 99, blob FROM segment WHERE number = 1",
    "segments moved to another generation": "UPDATE segment SET generation = generation + 1",
    "a segment's copy as another": "UPDATE segment SET blob = (SELECT blob FROM segment WHERE number = 1) WHERE number = 2",
    "an empty segment": "UPDATE segment SET blob = x'' WHERE number = 1",
    "a segment that is no blob": "UPDATE segment SET blob = 7 WHERE number = 1",
    "no manifest": "DELETE FROM meta WHERE name = 'manifest'",
    "no tenant": "DELETE FROM meta WHERE name = 'tenant'",
    "no secrets": "DELETE FROM meta WHERE name = 'secrets'",
    "no key": "DELETE FROM meta WHERE name LIKE 'key%'",
    "secrets in place of the tenant": "UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'secrets') "
    "WHERE name = 'tenant'",
    "a manifest that is a delta": "UPDATE meta SET value = (SELECT blob FROM delta LIMIT 1) WHERE name = 'manifest'",
    "an empty manifest": "UPDATE meta SET value = x'' WHERE name = 'manifest'",
    "a manifest that is no blob": "UPDATE meta SET value = 5 WHERE name = 'manifest'",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON delta BEGIN DELETE FROM delta; END",
    "a table more": "CREATE TABLE more (x)",
    "a table less": "DROP TABLE receipt_outbox",
    "a newer version": "PRAGMA user_version = 99",
    "another program's file": "PRAGMA application_id = 1",
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_changed_rows_are_detected_set_aside_and_the_cache_starts_empty(
    place: CachePlace, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    await cache.close()
    with tampered(place) as connection:
        connection.execute(TAMPERINGS[name])
    changed = place.path.read_bytes()
    cache = await place.open()
    assert_empty(cache)
    aside = f"{CACHE_FILE_NAME}.corrupt-{place.clock.now_ms()}"
    assert place.set_aside() == [aside]
    assert (place.directory / aside).read_bytes() == changed
    assert aside in caplog.text
    await cache.load_snapshot(log.snapshot())
    cache = await place.reopen(cache)
    assert_holds(cache, log)


async def test_one_copy_of_the_wrapped_key_is_enough(place: CachePlace) -> None:
    for name in ("key", "key_copy"):
        log = LogBuilder()
        cache = await fill(place, log)
        await cache.close()
        with tampered(place) as connection:
            connection.execute("UPDATE meta SET value = x'00' WHERE name = ?", (name,))
        cache = await place.open()
        assert_holds(cache, log)
        await cache.close()
        place.restore({})
        place.mark_path.unlink()


async def test_rows_of_another_time_of_the_same_cache_are_detected(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    await cache.close()
    older = {table: rows(place, f"SELECT * FROM {table}") for table in ("segment", "delta", "meta")}
    cache = await place.open()
    await cache.apply(log.batch(log.directive("bob"), log.directive("p1")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("cyd")))
    await cache.close()
    files, mark = place.files(), place.mark_path.read_bytes()
    for table, content in older.items():
        place.restore(files)
        place.mark_path.write_bytes(mark)
        with tampered(place) as connection:
            connection.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(content[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", content)
            if table == "segment":
                connection.execute("UPDATE segment SET generation = generation + 1")
        place.clock.advance(1)
        cache = await place.open()
        assert_empty(cache)
        await cache.close()


async def test_an_older_row_of_the_same_generation_is_detected(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    older = dict(await cache._durable._writer.read("SELECT name, value FROM meta"))
    await cache.save_key_ring(KeyRing((bytes(32),), ()))
    epoch = KeyEpochEvent(origin=log.origin, epoch=0, key_commitment=bytes(32))
    await cache.apply(log.batch(epoch))
    await cache.close()
    files = place.files()
    for name in ("secrets", "tenant", "manifest"):
        place.restore(files)
        with tampered(place) as connection:
            changed = connection.execute("UPDATE meta SET value = ? WHERE name = ?", (older[name], name)).rowcount
        assert changed == 1
        place.mark_path.unlink()
        place.clock.advance(1)
        cache = await place.open()
        assert_empty(cache)
        await cache.close()


async def test_segments_and_deltas_of_another_sidecar_under_the_same_key_are_detected(
    place: CachePlace, tmp_path: Path
) -> None:
    log = LogBuilder()
    await (await fill(place, log)).close()
    files = place.files()
    async with CachePlace(tmp_path / "other", CacheIdentity("sidecar-2", IDENTITY.tenant, IDENTITY.origin)) as other:
        other.keys = place.keys
        await (await fill(other, LogBuilder())).close()
        for table in ("segment", "delta"):
            content = rows(other, f"SELECT * FROM {table}")
            assert content
            place.restore(files)
            with tampered(place) as connection:
                connection.execute(f"DELETE FROM {table}")
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", content)
            place.clock.advance(1)
            cache = await place.open()
            assert_empty(cache)
            await cache.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:4096],
        lambda _: b"not a database at all" * 1000,
        lambda content: bytes(len(content)),
    ],
)
async def test_truncated_or_foreign_file_starts_empty(place: CachePlace, spoil: Callable[[bytes], bytes]) -> None:
    log = LogBuilder()
    await (await fill(place, log)).close()
    place.path.write_bytes(spoil(place.path.read_bytes()))
    cache = await place.open()
    assert_empty(cache)
    await cache.load_snapshot(log.snapshot())
    cache = await place.reopen(cache)
    assert_holds(cache, log)


async def test_file_changed_while_it_is_in_use_is_detected_by_the_next_merge(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    numbers = [number for (number,) in await cache._durable._writer.read("SELECT number FROM segment ORDER BY number")]
    with tampered(place) as connection:
        connection.execute("UPDATE segment SET blob = zeroblob(length(blob)) WHERE number = ?", (numbers[-1],))
    with pytest.raises(CorruptCache):
        await cache.merge()
    assert not cache.is_intact
    await cache.load_snapshot(log.snapshot())
    assert cache.is_intact
    assert_holds(cache, log)


async def test_rollback_to_an_older_file_is_detected(place: CachePlace, caplog: pytest.LogCaptureFixture) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    await cache.close()
    older = place.files()
    cache = await place.open()
    await cache.apply(log.batch(log.directive("revoked-since")))
    await cache.close()
    place.restore(older)
    cache = await place.open()
    assert_empty(cache)
    assert "rolled back" in caplog.text
    await cache.close()
    # Nor does it help to take the newer file away first: the empty cache that took its place counts as newer.
    place.clock.advance(1)
    place.restore({})
    await (await place.open()).close()
    place.restore(older)
    cache = await place.open()
    assert_empty(cache)


async def test_rollback_of_file_and_mark_together_is_bounded_by_the_checkpoints_age_only(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    head = cache.head
    await cache.close()
    older, mark = place.files(), place.mark_path.read_bytes()
    cache = await place.open()
    log.now_ms += 60_000
    await cache.apply(log.batch(log.directive("revoked-since")))
    await cache.close()
    place.restore(older)
    place.mark_path.write_bytes(mark)
    cache = await place.open()
    assert cache.head == head


async def test_nothing_that_was_said_can_be_read_from_any_file(place: CachePlace) -> None:
    log = LogBuilder()
    cache = await fill(place, log)
    await cache.apply(log.batch(log.directive("ada", purpose="purpose-to-be-found", recipient="recipient-to-be-found")))
    contents = list(place.files().values())
    await cache.merge()
    contents += place.files().values()
    await cache.close()
    contents += [path.read_bytes() for path in place.root.rglob("*") if path.is_file() and path.suffix != ".key"]
    wanted = [token_of("ada"), token_of("ada")[2:14], cache.private_key]
    wanted += [word.encode() for word in ("analytics", "to-be-found", IDENTITY.tenant, IDENTITY.origin, "sidecar-1")]
    wanted += [log.logged[0].event_bytes, log.frontier.root_hash(), log.frontier.hashes[-1]]
    assert [word for word in wanted for content in contents if word in content] == []


async def test_set_aside_never_takes_a_name_that_is_taken(place: CachePlace) -> None:
    for _ in range(2):
        place.directory.mkdir(mode=0o700, exist_ok=True)
        place.path.write_bytes(b"broken" * 1000)
        place.mark_path.unlink(missing_ok=True)
        await (await place.open()).close()
    assert len(place.set_aside()) == 2
