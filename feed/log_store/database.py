"""One SQLite file and its one connection: transactions, turns, and what SQLite's errors mean here.

One connection because SQLite below 3.51.3 can corrupt a write-ahead log that several use. A reader on it would see a transaction that
is not yet committed, so whoever reads waits for the writer's end; readers wait in a line of their own, of which only the first stands
in the writer's way.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import aiosqlite

from feed.errors import CorruptLog, LogStoreError, LogWriteFailed

_PRAGMAS: Final = (
    # FULL: a commit is on the disk when it returns. NORMAL may lose the last ones with the power.
    "PRAGMA synchronous = FULL",
    # What was deleted is overwritten, so that an erased payload is gone from the file.
    "PRAGMA secure_delete = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    # 40 MB of log before it is merged into the file: pages that change often are written there once instead of each time.
    "PRAGMA wal_autocheckpoint = 10000",
    "PRAGMA cell_size_check = ON",
)
_FILE_MODE: Final = 0o600
_PRIMARY_CODE_BITS: Final = 0xFF
# Where SQLite quotes a damaged schema, Python stumbles over the bytes of the message.
_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
_CORRUPT_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """A file and its connection.

    Args:
        path: Of the file; its directory must exist and be the caller's alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._is_open = False
        self._turn = asyncio.Lock()
        self._reader_turn = asyncio.Lock()

    async def open(self) -> None:
        """Open the file, created where it is missing; what a crash left in its write-ahead log is taken up.

        Raises:
            CorruptLog: Not a database, or a damaged one.
            LogWriteFailed: It cannot be opened for writing.
        """
        async with self._turn:
            await self._connect()
            self._is_open = True

    async def settle(self) -> None:
        """Make what is to be seen durable, whatever an earlier fsync has said.

        After a failed fsync the pages of the write-ahead log count as written and may not be. Merging them into the database file
        writes their content anew, and that file's own fsync then tells the truth.

        Raises:
            LogWriteFailed: It cannot be merged.
        """
        async with self._turn:
            try:
                is_merged = await _merge(await self._require())
            except _SQLITE_ERRORS as error:
                raise _explain_write_error(error) from error
            if not is_merged:
                raise LogWriteFailed("SQLite cannot merge its write-ahead log: somebody else has the file open")

    async def close(self) -> None:
        """Close the file for good; without effect if it is closed."""
        async with self._turn:
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    # A convenience for whoever copies the file: without it, the next start does it.
                    await _merge(self._connection)
            self._is_open = False
            await self._disconnect()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection on which nothing uncommitted is to be seen.

        Raises:
            CorruptLog: SQLite found the file damaged.
            LogStoreError: It cannot be read.
        """
        async with self._reader_turn, self._turn:
            connection = await self._require()
            try:
                yield connection
            except _SQLITE_ERRORS as error:
                raise _explain_read_error(error) from error

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[aiosqlite.Connection]:
        """A transaction: committed, fsync included, when the block ends, and undone where it raises.

        Raises:
            CorruptLog: SQLite found the file damaged.
            LogWriteFailed: Nothing, or not surely everything, was written.
        """
        async with self._turn:
            connection = await self._require()
            try:
                await connection.execute_fetchall("BEGIN IMMEDIATE")
                yield connection
                await connection.execute_fetchall("COMMIT")
            except BaseException as error:
                # A crash here leaves either all of the transaction or nothing of it to the next open.
                await self._undo(connection)
                if isinstance(error, _SQLITE_ERRORS):
                    raise _explain_write_error(error) from error
                raise

    async def _undo(self, connection: aiosqlite.Connection) -> None:
        try:
            await connection.rollback()
        except sqlite3.Error:
            # Nobody knows what this connection would show. The next one, opened when it is needed, shows what is in the file.
            await self._disconnect()

    async def _require(self) -> aiosqlite.Connection:
        if not self._is_open:
            raise LogWriteFailed("the log's database is closed")
        return self._connection or await self._connect()

    async def _connect(self) -> aiosqlite.Connection:
        connection = None
        try:
            # Where the file cannot be opened at all, aiosqlite leaves its thread behind, so that is found out without it.
            await asyncio.to_thread(_probe, self._path)
            connection = await aiosqlite.connect(self._path, isolation_level=None)
            rows = await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            if [tuple(row) for row in rows] != [("wal",)]:
                raise LogWriteFailed(f"{self._path.name}: the file system keeps no write-ahead log")
            for pragma in _PRAGMAS:
                await connection.execute_fetchall(pragma)
        except (*_SQLITE_ERRORS, LogStoreError) as error:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    await connection.close()
            if isinstance(error, LogStoreError):
                raise
            raise _explain_write_error(error) from error
        self._connection = connection
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                await connection.close()


async def write_rows(connection: aiosqlite.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Run a statement once for each row; nothing to do for none."""
    rows = list(rows)
    if rows:
        async with connection.executemany(statement, rows) as cursor:
            if cursor.rowcount != len(rows):
                raise CorruptLog("a statement did not find the row that it changes")


def _explain_write_error(error: sqlite3.Error | UnicodeDecodeError) -> LogStoreError:
    """The error of ours for one of SQLite's; its text names no value."""
    return _find_corruption(error) or LogWriteFailed(f"SQLite cannot write: {_name(error)}")


def _explain_read_error(error: sqlite3.Error | UnicodeDecodeError) -> LogStoreError:
    return _find_corruption(error) or LogStoreError(f"SQLite cannot read: {_name(error)}")


def _find_corruption(error: sqlite3.Error | UnicodeDecodeError) -> CorruptLog | None:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE_BITS
    # A row that is in the way, or one of another shape: nothing but damage makes our statements meet either.
    if isinstance(error, sqlite3.IntegrityError | UnicodeDecodeError) or code in _CORRUPT_CODES:
        return CorruptLog(f"SQLite finds the database damaged: {_name(error)}")
    return None


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _probe(path: Path) -> None:
    # SQLite creates files as the umask lets it, and its write-ahead log with the mode of the file.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
        path.chmod(_FILE_MODE)
    sqlite3.connect(path).close()


async def _merge(connection: aiosqlite.Connection) -> bool:
    """Merge the write-ahead log into the file; returns whether all of it is there: SQLite reports a reader in the way as a row only."""
    rows = [tuple(row) for row in await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")]
    return len(rows) == 1 and rows[0][0] == 0
