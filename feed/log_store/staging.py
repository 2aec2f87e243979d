"""The folded state of the next key epoch, made beside the one in force and put in its place by the commit of KEY_EPOCH."""

import asyncio
from collections.abc import Sequence
from typing import Final

import aiosqlite

from consent.key_epoch import rekey_record
from consent.vocabulary.subject import Rekeyer
from feed.errors import CorruptLog
from feed.log_store.database import Database, write_rows
from feed.log_store.port import EMPTY_STATE_SUM, StoredHead
from feed.log_store.rows import Row, RowCodec, read_bytes
from feed.log_store.state_sum import add_records

_PAGE_ROWS: Final = 5_000
_CREATE: Final = (
    "CREATE TABLE next_cluster AS SELECT * FROM cluster LIMIT 0",
    "CREATE TABLE next_member AS SELECT * FROM member LIMIT 0",
)
_TAKE: Final = (
    "DELETE FROM cluster",
    "DELETE FROM member",
    # In the order of the tables' own keys, so that these only grow at their end.
    "INSERT INTO cluster SELECT * FROM next_cluster ORDER BY 1",
    "INSERT INTO member SELECT * FROM next_member ORDER BY 1",
)
_DROP: Final = ("DROP TABLE IF EXISTS next_cluster", "DROP TABLE IF EXISTS next_member")
_READ_PAGE: Final = "SELECT token_hash, sealed FROM cluster WHERE token_hash > ? ORDER BY token_hash LIMIT ?"


async def stage_rekeyed(database: Database, rows: RowCodec, before: StoredHead, rekeyer: Rekeyer) -> bytes:
    """See `LogStore.stage_rekeyed`. Page by page: whoever reads the log is served in between."""
    async with database.writing() as connection:
        await drop_staged(connection)
        await _run(connection, _CREATE)
    try:
        return await _stage_pages(database, rows, before, rekeyer)
    except BaseException:
        async with database.writing() as connection:
            await drop_staged(connection)
        raise


async def take_staged(connection: aiosqlite.Connection) -> None:
    """Put the staged state in the place of the one in force, inside of the caller's transaction."""
    await _run(connection, _TAKE)
    await drop_staged(connection)


async def drop_staged(connection: aiosqlite.Connection) -> None:
    """Remove what a crash or a failed commit has left, inside of the caller's transaction."""
    await _run(connection, _DROP)


async def _run(connection: aiosqlite.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        await connection.execute_fetchall(statement)


async def _stage_pages(database: Database, rows: RowCodec, before: StoredHead, rekeyer: Rekeyer) -> bytes:
    sums, after_hash = _Sums(), b""
    while True:
        async with database.reading() as connection:
            page = list(await connection.execute_fetchall(_READ_PAGE, (after_hash, _PAGE_ROWS)))
        if not page:
            break
        after_hash = read_bytes(page[-1][0], "token_hash")
        clusters, members = await asyncio.to_thread(_rekey_page, rows, page, rekeyer, sums)
        async with database.writing() as connection:
            await write_rows(connection, "INSERT INTO next_cluster VALUES (?, ?)", clusters)
            await write_rows(connection, "INSERT INTO next_member VALUES (?, ?)", members)
    if sums.before != before.state_sum:
        raise CorruptLog("the stored state is not the fold of the log: rows were lost, added or put back")
    return sums.after


class _Sums:
    """Sums over what was read and what was staged."""

    before = EMPTY_STATE_SUM
    after = EMPTY_STATE_SUM


def _rekey_page(
    rows: RowCodec, page: Sequence[Sequence[object]], rekeyer: Rekeyer, sums: _Sums
) -> tuple[list[Row], list[Row]]:
    clusters, members, before, after = [], [], [], []
    for row in page:
        record = rows.read_cluster(*row)
        rekeyed, (first, *others) = rekey_record(record, rekeyer)
        clusters.append(rows.cluster_row(first, rekeyed))
        first_hash = clusters[-1][0]
        members += [(rows.token_hash(token), first_hash) for token in others]
        before.append(record)
        after.append(rekeyed)
    sums.before, sums.after = add_records(sums.before, before), add_records(sums.after, after)
    return clusters, members
