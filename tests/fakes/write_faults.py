"""Every write of a program, named, and made to fail: before it was done, or after.

Stands between the program and whatever changes files: the statements of SQLite that write, and the calls of the operating system. A write
is named by what it does and to which kind of file, such as `COMMIT` or `fsync .mark.*.tmp`, so that a table of tests can name them all and
a run without faults can show that none is missing from it.
"""

import errno
import os
import re
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

#: What these change is not in a file, or nothing at all.
_HARMLESS_STATEMENTS: Final = re.compile(
    r"SELECT|ROLLBACK|PRAGMA (synchronous|secure_delete|cache_size|temp_store|wal_autocheckpoint|cell_size_check|"
    r"trusted_schema|journal_size_limit|\w+$)"
)
_STATEMENT_NAME: Final = re.compile(
    r"(?:INSERT(?: OR REPLACE)? INTO|UPDATE|DELETE FROM|CREATE TABLE|DROP TABLE IF EXISTS) \w+|BEGIN|COMMIT|PRAGMA \w+"
)
_NUMBERED: Final = re.compile(r"[0-9a-f]{8,}|\d+")


@dataclass
class _Plan:
    write: str
    is_persisted: bool
    skipped: int


class WriteFaults:
    """Watches the writes below a directory, and lets one of them fail.

    Args:
        root: Files elsewhere are nobody's business.

    Attributes:
        has_failed: Whether the write that was to fail has failed.
    """

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._plan: _Plan | None = None
        self.has_failed = False

    def fail(self, write: str, *, is_persisted: bool, skipped: int) -> None:
        """Let a write fail, once.

        Args:
            write: Its name.
            is_persisted: Whether it is done all the same.
            skipped: So many of that name succeed before.
        """
        self._plan, self.has_failed = _Plan(write, is_persisted, skipped), False

    def take_seen(self) -> Counter[str]:
        """How many writes there were of each name since the last call."""
        with self._lock:
            seen, self._seen = self._seen, Counter()
        return seen

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For as long as this runs, writes are seen, and fail as planned."""
        with ExitStack() as stack:
            for name, name_of in _CALLS.items():
                stack.enter_context(patch.object(os, name, self._wrap(getattr(os, name), name, name_of)))
            stack.enter_context(patch.object(os, "fdopen", self._wrap_fdopen(os.fdopen)))
            stack.enter_context(patch.object(Path, "write_bytes", self._wrap(Path.write_bytes, "write", _path_of)))
            stack.enter_context(patch.object(sqlite3, "connect", self._wrap_connect(sqlite3.connect)))
            yield

    def run(self, write: str, do: Callable[[], Any], error: Callable[[], Exception]) -> Any:
        """Do a write, or let it fail as planned."""
        with self._lock:
            self._seen[write] += 1
            plan = self._plan
            is_planned = plan is not None and plan.write == write
            if plan is None or not is_planned or plan.skipped:
                if plan is not None and is_planned:
                    plan.skipped -= 1
                plan = None
            else:
                self._plan, self.has_failed = None, True
        if plan is None:
            return do()
        if plan.is_persisted:
            do()
        raise error()

    def _wrap(self, real: Callable[..., Any], call: str, name_of: "Callable[..., str | None]") -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            path = name_of(*arguments)
            if path is None or not path.startswith(self._root):
                return real(*arguments, **options)

            def do() -> Any:
                return real(*arguments, **options)

            return self.run(_describe(call, path), do, _input_output_error)

        return wrapped

    def _wrap_fdopen(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(descriptor: int, *arguments: Any, **options: Any) -> Any:
            file, path = real(descriptor, *arguments, **options), _path_of_descriptor(descriptor)
            return _File(self, file, path) if path is not None and path.startswith(self._root) else file

        return wrapped

    def _wrap_connect(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(database: Any, **options: Any) -> Any:
            if not str(database).startswith(self._root):
                return real(database, **options)
            connection = real(database, factory=_Connection, **options)
            connection.faults = self
            return connection

        return wrapped


class _Connection(sqlite3.Connection):
    faults: WriteFaults

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self._run(sql, super().execute, *parameters)

    def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self._run(sql, super().executemany, *parameters)

    def _run(self, sql: str, do: Callable[..., sqlite3.Cursor], *parameters: Any) -> sqlite3.Cursor:
        if _HARMLESS_STATEMENTS.match(sql):
            return do(sql, *parameters)
        named = _STATEMENT_NAME.match(sql)
        assert named, f"a statement that has no name here: {sql}"
        found: sqlite3.Cursor = self.faults.run(named[0], lambda: do(sql, *parameters), _sqlite_error)
        return found


class _File:
    """A file opened from a descriptor; what it writes reaches the file at once."""

    def __init__(self, faults: WriteFaults, file: Any, path: str) -> None:
        self._faults = faults
        self._file = file
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> Any:
        def do() -> None:
            self._file.write(data)
            self._file.flush()

        return self._faults.run(_describe("write", self._path), do, _input_output_error)


def _path_of(path: Any, *_: Any) -> str | None:
    return str(path)


def _path_of_descriptor(descriptor: Any, *_: Any) -> str | None:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).removesuffix(" (deleted)")
    except OSError:
        return None


def _path_of_created(path: Any, flags: int, *_: Any) -> str | None:
    return str(path) if flags & os.O_CREAT else None


_CALLS: Final[dict[str, Callable[..., str | None]]] = {
    "open": _path_of_created,
    "write": _path_of_descriptor,
    "fsync": _path_of_descriptor,
    "ftruncate": _path_of_descriptor,
    "posix_fallocate": _path_of_descriptor,
    "fchmod": _path_of_descriptor,
    "rename": _path_of,
    "replace": _path_of,
    "unlink": _path_of,
    "mkdir": _path_of,
    "chmod": _path_of,
}
assert sys.platform == "linux", "descriptors are named by /proc"


def _describe(call: str, path: str) -> str:
    return f"{call} {_NUMBERED.sub('*', os.path.basename(path))}"  # noqa: PTH119 - a text, no file


def _input_output_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _sqlite_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
    return error
