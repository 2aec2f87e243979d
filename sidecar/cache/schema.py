"""Tables of the cache file, and how an older file becomes a newer one.

Version 1:

* `meta(name, value)`: `key` and `key_copy` (the wrapped data key, twice), `manifest`, `tenant`, `secrets`, all sealed;
* `segment(generation, number, blob)`: the table; rows of another generation than the manifest's are left over and mean nothing;
* `delta(first_seq, last_seq, blob)`: one run of events each, since the segments;
* `receipt_outbox(seq, blob)`: acknowledgements that the log does not hold yet, by size. They are signed and tell nothing about anybody,
  so they are not sealed; an empty one is owed.
"""

import sqlite3

from sidecar.errors import CorruptCache

APPLICATION_ID = 0x43535459
"""`CSTY`, in the header of the file."""

_VERSION_1 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE segment (generation INTEGER, number INTEGER, blob BLOB NOT NULL, PRIMARY KEY (generation, number))",
    "CREATE TABLE delta (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, blob BLOB NOT NULL)",
    "CREATE TABLE receipt_outbox (seq INTEGER PRIMARY KEY, blob BLOB NOT NULL)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1,)
"""Statements that lead from version n to n + 1."""

VERSION = len(MIGRATIONS)


def migration_statements(version: int) -> list[str]:
    """What makes a file of a version into one of the newest; version 0 is an empty file."""
    if version == VERSION:
        return []
    statements = [statement for step in MIGRATIONS[version:] for statement in step]
    return [*statements, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION}"]


def read_version(connection: sqlite3.Connection) -> int:
    """The version of an open file; 0 if nothing was ever committed to it.

    Raises:
        CorruptCache: The file is not a cache, was made by a newer program, or its schema was changed.
    """
    found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")]
    if not found:
        return 0
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise CorruptCache("the file is not a cache")
    if not 1 <= version <= VERSION:
        raise CorruptCache(f"the cache is of version {version}, this program knows versions 1 to {VERSION}")
    if found != _expected_schema(version):
        raise CorruptCache("the cache's schema was changed")
    return version


def _expected_schema(version: int) -> list[str]:
    connection = sqlite3.connect(":memory:")
    try:
        for statement in (statement for step in MIGRATIONS[:version] for statement in step):
            connection.execute(statement)
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
        return [sql for (sql,) in rows]
    finally:
        connection.close()
