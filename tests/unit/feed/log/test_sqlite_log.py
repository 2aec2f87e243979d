"""What is SQLite's own: whose file it is, what lies in it, and what its errors become."""

import asyncio
import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from consent.event import PolicyEvent
from consent.eventlog.keys import KeyKind, generate_signing_key
from feed.errors import CorruptLog, ForeignLog, LogStoreError, LogWriteFailed
from feed.log_store.sqlite import DATABASE_NAME, SqliteLog
from feed.ports import IdempotencyKey, Submission
from hosting.errors import InstanceLocked
from tests.fakes.feed_log import (
    IDENTITY,
    KEYS,
    ORIGIN,
    make_directive,
    make_link,
    make_policy,
    make_request,
    open_log,
    open_store,
    seed,
    token_of,
    verify_everything,
)


async def begin(directory: Path) -> bytes:
    """A log with one request in it; returns the file's bytes."""
    async with open_log(directory) as log:
        await log.sequencer.submit(make_request("ann"))
    return (directory / DATABASE_NAME).read_bytes()


async def start(directory: Path) -> None:
    """Opens a log as far as a start needs."""
    store = await open_store(directory)
    try:
        await store.load_head()
    finally:
        await store.close()


async def test_sqlite_log_directory_is_the_owners_alone_and_locked(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "log")
    try:
        assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
        with pytest.raises(InstanceLocked):
            await open_store(tmp_path / "log")
    finally:
        await store.close()
    await (await open_store(tmp_path / "log")).close()


async def test_sqlite_log_keeps_what_was_committed_and_overwrites_what_was_deleted(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log, log.store._database.reading() as connection:
        pragmas = {}
        for name in ("journal_mode", "synchronous", "secure_delete"):
            ((pragmas[name],),) = await connection.execute_fetchall(f"PRAGMA {name}")
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


async def test_sqlite_log_reader_never_sees_what_is_not_committed(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        async with log.store._database.writing() as connection:
            await connection.execute("DELETE FROM entry")
            reading = asyncio.create_task(log.store.read_entries(1, 10))
            for _ in range(20):
                await connection.execute("SELECT 1")
            assert not reading.done()
            await connection.execute("ROLLBACK")
            await connection.execute("BEGIN")
        assert len(await reading) == 1


@pytest.mark.parametrize(
    ("identity", "kek", "message"),
    [
        (replace(IDENTITY, origin="log.example.com/other"), KEYS.kek, "another origin"),
        (replace(IDENTITY, tenant="other"), KEYS.kek, "another tenant"),
        (IDENTITY, seed("other kek"), "another feed-kek"),
    ],
)
async def test_sqlite_log_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: Path, identity: object, kek: bytes, message: str
) -> None:
    before = await begin(tmp_path)

    with pytest.raises(ForeignLog, match=message) as refusal:
        await SqliteLog.open(tmp_path, identity, kek)  # type: ignore[arg-type]

    assert refusal.value.reason == "FOREIGN_LOG"
    assert (tmp_path / DATABASE_NAME).read_bytes() == before
    await (await open_store(tmp_path)).close()


async def test_sqlite_log_head_signed_by_a_stranger_is_refused(tmp_path: Path) -> None:
    await begin(tmp_path)
    stranger = generate_signing_key(ORIGIN, KeyKind.LOG, seed("stranger")).verifier_key
    store = await SqliteLog.open(tmp_path, replace(IDENTITY, log_keys=(stranger,)), KEYS.kek)
    try:
        with pytest.raises(ForeignLog, match="not signed by this log's key"):
            await store.load_head()
    finally:
        await store.close()


async def test_sqlite_log_rotating_key_is_accepted_beside_the_old_one(tmp_path: Path) -> None:
    await begin(tmp_path)
    new_key = generate_signing_key(ORIGIN, KeyKind.LOG, seed("new")).verifier_key
    store = await SqliteLog.open(tmp_path, replace(IDENTITY, log_keys=(new_key, *IDENTITY.log_keys)), KEYS.kek)
    try:
        assert (await store.load_head()).size == 3
    finally:
        await store.close()


async def test_sqlite_log_of_a_newer_feed_is_refused_by_name(tmp_path: Path) -> None:
    await begin(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ForeignLog, match="schema version 99 is of a newer feed"):
        await open_store(tmp_path)


async def test_sqlite_log_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()

    with pytest.raises(ForeignLog, match="another program"):
        await open_store(tmp_path)


async def test_sqlite_log_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"this is a letter, not a database" * 100)

    with pytest.raises(CorruptLog, match="SQLITE_NOTADB"):
        await open_store(tmp_path)

    assert (tmp_path / DATABASE_NAME).read_bytes() == b"this is a letter, not a database" * 100


async def test_sqlite_log_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).mkdir()

    with pytest.raises(LogWriteFailed, match="SQLITE_CANTOPEN"):
        await open_store(tmp_path)


async def test_sqlite_log_closed_one_neither_reads_nor_writes(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await store.close()

    with pytest.raises(LogStoreError, match="closed"):
        await store.load_head()
    with pytest.raises(LogStoreError, match="closed"):
        await store.save_acknowledgements([])
    await store.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM entry WHERE seq = 3", "last entry is not the head's"),
        ("DELETE FROM head", "entries and no head"),
        ("DELETE FROM tenant", "another form"),
        ("UPDATE head SET version = 1", "not authentic"),
        ("UPDATE head SET checkpoint_time_ms = checkpoint_time_ms + 1000", "not authentic"),
        ("DELETE FROM node WHERE position = 1", "tree node 0 of level 1 is missing"),
        ("UPDATE node SET hash = zeroblob(32) WHERE position = 4", "does not lead to the signed root"),
        ("UPDATE tenant SET sealed = (SELECT sealed FROM head)", "not authentic"),
        ("UPDATE data_key SET wrapped_key = zeroblob(60)", "data-key/1: cannot be unwrapped"),
        ("UPDATE identity SET wrapped_index_key = zeroblob(60)", "index-key: cannot be unwrapped"),
        ("DELETE FROM data_key", "not authentic"),
        ("UPDATE data_key SET number = 7", "data-key/7: cannot be unwrapped"),
    ],
)
async def test_sqlite_log_changed_rows_stop_the_start(tmp_path: Path, statement: str, message: str) -> None:
    await begin(tmp_path)
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute(statement)
    connection.commit()
    connection.close()

    with pytest.raises(CorruptLog, match=message):
        await start(tmp_path)


async def test_sqlite_log_older_tenant_record_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        async with log.store._database.reading() as connection:
            ((older,),) = await connection.execute_fetchall("SELECT sealed FROM tenant")
        policy = PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy())
        await log.sequencer.submit(Submission((policy,)))
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE tenant SET sealed = ?", (older,))

        with pytest.raises(CorruptLog, match="tenant's record is not the head's"):
            await log.store.load_head()


async def test_sqlite_log_missing_entry_in_the_middle_is_found_when_read(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        async with log.store._database.writing() as connection:
            await connection.execute("DELETE FROM entry WHERE seq = 2")

        with pytest.raises(CorruptLog, match="entry 2 is missing"):
            await log.store.read_entries(1, 10)


async def test_sqlite_log_entries_that_are_gone_are_found_when_read(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
    async with open_log(tmp_path) as log:
        async with log.store._database.writing() as connection:
            await connection.execute("DELETE FROM entry WHERE seq >= 2")

        assert len(await log.sequencer.read_entries(1, 10)) == 1
        with pytest.raises(CorruptLog, match="entry 2 is missing"):
            await log.sequencer.read_entries(2, 10)


async def test_sqlite_log_schema_that_cannot_even_be_quoted_is_damage(tmp_path: Path) -> None:
    damaged = (await begin(tmp_path)).replace(b"CREATE TABLE entry", b"CREATE TABL\xcd entry")
    (tmp_path / DATABASE_NAME).write_bytes(damaged)

    with pytest.raises(CorruptLog, match="damaged"):
        await open_store(tmp_path)


async def test_sqlite_log_rows_cannot_be_swapped(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        await log.sequencer.submit(make_request("bob"))
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE entry SET sealed = (SELECT sealed FROM entry WHERE seq = 3) WHERE seq = 5")
            await connection.execute(
                "UPDATE cluster SET sealed = (SELECT sealed FROM cluster WHERE token_hash = ?) WHERE token_hash = ?",
                (log.store._rows.token_hash(token_of("ann")), log.store._rows.token_hash(token_of("bob"))),
            )

        with pytest.raises(CorruptLog, match="not authentic"):
            await log.store.read_entries(5, 1)
        with pytest.raises(CorruptLog, match="not authentic"):
            await log.store.find_clusters([token_of("bob")])
        assert token_of("ann") in await log.store.find_clusters([token_of("ann")])


async def test_sqlite_log_member_that_leads_nowhere_or_elsewhere_is_found(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        for name in ("ann", "bob", "cid"):
            await log.sequencer.submit(make_request(name))
        await log.sequencer.submit(Submission((make_link("ann", "bob"),)))
        second = max(token_of("ann"), token_of("bob"))
        async with log.store._database.writing() as connection:
            await connection.execute(
                "UPDATE member SET cluster_hash = ?", (log.store._rows.token_hash(token_of("cid")),)
            )
        with pytest.raises(CorruptLog, match="a cluster that is not its own"):
            await log.sequencer.submit(Submission((make_directive("x", token=second),)))
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE member SET cluster_hash = ?", (bytes(16),))
        with pytest.raises(CorruptLog, match="another form"):
            await log.store.find_clusters([second])


async def test_sqlite_log_nothing_that_was_said_is_readable_in_its_files(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        submission = Submission(
            (make_directive("ann", purpose="hidden-purpose", source="hidden-source"), make_link("ann", "bob")),
            IdempotencyKey("hidden-source", "ann@example.com", seed("digest")),
        )
        await log.sequencer.submit(submission)
        await log.sequencer.submit(
            Submission((PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy()),))
        )
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    at_rest = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    for found in (written, at_rest):
        for secret in (
            token_of("ann"),
            token_of("bob"),
            b"hidden-purpose",
            b"hidden-source",
            b"ann@example.com",
            b"newsletter",
            seed("digest"),
            KEYS.kek,
        ):
            assert secret not in found
    assert ORIGIN.encode() in at_rest


async def test_sqlite_log_deleted_row_leaves_no_byte_behind(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        async with log.store._database.reading() as connection:
            ((sealed,),) = await connection.execute_fetchall("SELECT sealed FROM entry WHERE seq = 3")
        assert sealed in b"".join(path.read_bytes() for path in tmp_path.iterdir())
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE entry SET sealed = NULL WHERE seq = 3")
    assert sealed not in (tmp_path / DATABASE_NAME).read_bytes()


async def test_sqlite_log_each_process_seals_under_a_key_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        async with open_log(tmp_path) as log:
            await log.sequencer.submit(make_request(os.urandom(8).hex()))
    async with open_log(tmp_path) as log:
        async with log.store._database.reading() as connection:
            rows = list(await connection.execute_fetchall("SELECT substr(sealed, 1, 12) FROM entry"))
        assert len(set(rows)) == len(rows) == 7
        assert {head[0][:4] for head in rows} == {bytes((0, 0, 0, number)) for number in (1, 2, 3)}
        await verify_everything(log.store)


async def test_sqlite_log_start_that_logs_nothing_leaves_no_key_behind(tmp_path: Path) -> None:
    for _ in range(5):
        async with open_log(tmp_path):
            pass
    async with open_log(tmp_path) as log, log.store._database.reading() as connection:
        assert [tuple(row) for row in await connection.execute_fetchall("SELECT number FROM data_key")] == [(1,)]


async def test_sqlite_log_files_are_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        async with open_log(tmp_path) as log:
            await log.sequencer.submit(make_request("ann"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(umask)
    assert {modes[DATABASE_NAME], modes[f"{DATABASE_NAME}-wal"], modes[f"{DATABASE_NAME}-shm"]} == {0o600}


async def test_sqlite_log_that_a_reader_keeps_from_merging_is_not_settled(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        connection = log.store._database._connection
        assert connection is not None
        await connection.execute_fetchall("PRAGMA busy_timeout = 0")
        reader = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            with pytest.raises(LogWriteFailed, match="cannot merge"):
                await log.store.settle()
        finally:
            reader.close()
        await log.store.settle()
