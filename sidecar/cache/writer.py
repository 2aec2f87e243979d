"""The one connection that writes the cache file: whole transactions, or nothing."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite

from sidecar.cache.schema import migration_statements
from sidecar.errors import CacheWriteFailed

Statement = tuple[str, Sequence[Sequence[Any]]]
"""SQL, and the parameters of each time it is run."""

# secure_delete overwrites what is deleted; FULL syncs the log of writes at each commit, so that a commit survives a loss of power.
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_size_limit = 4194304",
)


class CacheWriter:
    """Writes, and reads what only a merge needs. Use `open`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, version: int) -> Self:
        """Open the file for writing, and bring its schema up to date.

        Args:
            path: The file; created if it is missing.
            version: What `read_version` said of it.

        Raises:
            CacheWriteFailed: It cannot be opened or written.
        """
        connection = aiosqlite.connect(path, isolation_level=None)
        try:
            await connection
            for pragma in _PRAGMAS:
                await connection.execute(pragma)
            writer = cls(connection)
            await writer.commit([(statement, [()]) for statement in migration_statements(version)])
        except sqlite3.Error as error:
            await connection.close()
            raise _failed("written", error) from None
        except BaseException:
            await connection.close()
            raise
        return writer

    async def commit(self, statements: Iterable[Statement]) -> None:
        """Run statements as one transaction, durable when this returns. A caller that is cancelled does not stop it half-way.

        Raises:
            CacheWriteFailed: Nothing was changed.
        """
        await asyncio.shield(self._commit(list(statements)))

    async def _commit(self, statements: list[Statement]) -> None:
        async with self._lock:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                for sql, rows in statements:
                    await self._run(sql, rows)
                # A crash before this returns leaves either all of it or nothing; the file opens with both.
                await self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                # SQLite has rolled back by itself after most errors of the disk.
                with contextlib.suppress(sqlite3.Error):
                    await self._connection.execute("ROLLBACK")
                raise _failed("written", error) from None

    async def _run(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        # SQLite's many-times form takes no statements but those that change rows.
        if len(rows) == 1:
            await self._connection.execute(sql, rows[0])
        else:
            await self._connection.executemany(sql, rows)

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a query.

        Raises:
            CacheWriteFailed: The file cannot be read.
        """
        async with self._lock:
            try:
                return list(await self._connection.execute_fetchall(sql, parameters))
            except sqlite3.Error as error:
                raise _failed("read", error) from None

    async def truncate_log(self) -> None:
        """Move what was committed into the file and empty the log of writes, where no older key or value then remains."""
        await self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """End the connection."""
        async with self._lock:
            await self._connection.close()


def _failed(what: str, error: sqlite3.Error) -> CacheWriteFailed:
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    return CacheWriteFailed(f"the cache file cannot be {what}: {name}")
