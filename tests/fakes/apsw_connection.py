"""A connection of the module `sqlite3`, as far as feed and sidecar use one, over apsw: so that they can run on a VFS of a test's own."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import apsw

_ERRORS: Final = {
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
}


@contextlib.contextmanager
def sqlite_on(vfs: str, directory: Path, replaced: Mapping[str, str] | None = None) -> Iterator[None]:
    """For as long as this runs, whoever opens a database in a directory for writing, with `sqlite3` or `aiosqlite`, gets one on a VFS.

    Args:
        vfs: Its name.
        directory: Databases elsewhere are opened as ever.
        replaced: Statements that are to be run in place of others.
    """
    real = sqlite3.connect

    def connect(database: Any, *, uri: bool = False, **options: Any) -> Any:
        # Who only reads changes nothing of what is durable, and does it with the SQLite of production.
        if uri or Path(database).parent != directory:
            return real(database, uri=uri, **options)
        with _as_sqlite3_errors():
            return ApswConnection(apsw.Connection(str(database), vfs=vfs), replaced or {})

    with patch.object(sqlite3, "connect", connect):
        yield


class ApswConnection:
    """Stands for a `sqlite3.Connection` that begins and ends no transaction by itself.

    Args:
        connection: Ours alone.
        replaced: Statements that are to be run in place of others.
    """

    def __init__(self, connection: apsw.Connection, replaced: Mapping[str, str]) -> None:
        self._connection = connection
        self._replaced = replaced

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def cursor(self) -> "ApswCursor":
        return ApswCursor(self._connection, self._replaced)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "ApswCursor":
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> "ApswCursor":
        return self.cursor().executemany(sql, rows)

    def commit(self) -> None:
        if self.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        # SQLite's close reports nothing of a disk that fails; apsw hands on what the VFS raised.
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)


class ApswCursor:
    """Stands for a `sqlite3.Cursor`; all rows are fetched at once."""

    def __init__(self, connection: apsw.Connection, replaced: Mapping[str, str]) -> None:
        self._connection = connection
        self._replaced = replaced
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.rowcount = -1

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "ApswCursor":
        with _as_sqlite3_errors():
            found = list(self._connection.execute(self._replaced.get(sql, sql), tuple(parameters)))
            self._rows = iter(found)
            self.rowcount = self._connection.changes()
        return self

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> "ApswCursor":
        count = 0
        for row in rows:
            self.execute(sql, row)
            count += self.rowcount
        self.rowcount = count
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def _as_sqlite3_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "extendedresult", 0) or getattr(error, "result", apsw.SQLITE_ERROR)
        known = _ERRORS.get(code & 0xFF, sqlite3.OperationalError)(str(error))
        known.sqlite_errorcode = code
        known.sqlite_errorname = str(
            apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code)
        )
        raise known from error
