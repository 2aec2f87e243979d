"""Reads the database of a log and never writes to it: a log whose feed is stopped, or a copy of one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from feed.errors import CorruptLog, ForeignLog, LogStoreError
from feed.log_store.identity import LogIdentity
from feed.log_store.migrations import APPLICATION_ID, SCHEMA_VERSION
from feed.log_store.port import StoredHead
from feed.log_store.rows import RowCodec, read_bytes, read_number
from feed.log_store.sealing import KEY_BYTES, KeyWrap, Sealer, data_key_label, identify_kek
from feed.log_store.sqlite import DATABASE_NAME
from feed.ports import StoredEntry

#: Where SQLite quotes a damaged schema, Python stumbles over the bytes of the message.
_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
#: The hash that it is for finds requests, and nobody asks for one here.
_NO_INDEX_KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True, repr=False)
class LogPlace:
    """A log's database and what opens it.

    Attributes:
        directory: Of the log.
        origin: Name of the log that must be in it.
        tenant: Whose it must be.
        kek: 32 bytes; wraps the data keys.
    """

    directory: Path
    origin: str
    tenant: str
    kek: bytes

    def __repr__(self) -> str:
        """Which log, and not the key."""
        return f"LogPlace({self.origin!r})"


class LogReader:
    """One connection that reads. Use `open`.

    Every method raises CorruptLog where SQLite finds the file damaged, and LogStoreError where it cannot be read.
    """

    def __init__(self, connection: sqlite3.Connection, rows: RowCodec) -> None:
        self._connection = connection
        self._rows = rows

    @classmethod
    @contextmanager
    def open(cls, place: LogPlace) -> Iterator[Self]:
        """Open a log; whoever calls keeps writers away (`hosting.locks.keep_still`).

        Raises:
            ForeignLog: The file holds another log or is sealed under another key, or another version of this program wrote it.
            CorruptLog: The file, or a key in it, is damaged.
            LogStoreError: There is no database, or it cannot be read.
        """
        path = place.directory / DATABASE_NAME
        if not path.is_file():
            raise LogStoreError(f"{path}: there is no log")
        with _translated():
            connection = sqlite3.connect(_read_only_uri(path), uri=True, isolation_level=None)
        with closing(connection):
            with _translated():
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA cell_size_check = ON")
                rows = _unlock(connection, place)
            yield cls(connection, rows)

    def read_head(self) -> StoredHead | None:
        """The head as it is sealed, None where there is none; neither its signature nor its tree is judged here."""
        with _translated():
            heads = self._connection.execute(
                "SELECT version, frontier, checkpoint_note, checkpoint_time_ms, head.sealed, tenant.sealed "
                "FROM head LEFT JOIN tenant ON tenant.id = head.id"
            ).fetchall()
        return self._rows.read_head(heads[0][:5], heads[0][5]) if heads else None

    def last_seq(self) -> int:
        """Seq of the last entry, 0 for none."""
        with _translated():
            ((last_seq,),) = self._connection.execute("SELECT max(seq) FROM entry").fetchall()
        return 0 if last_seq is None else read_number(last_seq, "seq")

    def entries(self, first_seq: int, last_seq: int) -> Iterator[tuple[int, StoredEntry | CorruptLog]]:
        """Seq and entry of each row in this range, in order; in place of an entry that cannot be read, why.

        They come one by one from the file, so that memory does not grow with the range.
        """
        with _translated():
            cursor = self._connection.execute(
                "SELECT seq, type, sealed FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq", (first_seq, last_seq)
            )
            for row in cursor:
                try:
                    yield row[0], self._rows.read_entry(row)
                except CorruptLog as error:
                    yield row[0], error

    def nodes(self, first_position: int, last_position: int) -> dict[int, bytes]:
        """Hashes of the stored nodes in a range of positions (`feed.log_store.tree.node_position`), those of another form left out."""
        with _translated():
            cursor = self._connection.execute(
                "SELECT position, hash FROM node WHERE position BETWEEN ? AND ?", (first_position, last_position)
            )
            return {position: node_hash for position, node_hash in cursor if isinstance(node_hash, bytes)}


def _read_only_uri(path: Path) -> str:
    # A write-ahead log that a crash left is read too. Without one nothing can change the file, and SQLite need create none.
    log = path.with_name(f"{path.name}-wal")
    is_merged = not log.exists() or log.stat().st_size == 0
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_merged else ''}"


def _unlock(connection: sqlite3.Connection, place: LogPlace) -> RowCodec:
    """Check whose log it is and take up its keys, as `feed.log_store.sqlite` does, without making one."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
    if application_id != APPLICATION_ID:
        raise ForeignLog("the database belongs to another program")
    if version != SCHEMA_VERSION:
        raise ForeignLog(f"schema version {version} is not the one of this version, {SCHEMA_VERSION}")
    identities: list[tuple[Any, ...]] = connection.execute("SELECT origin, tenant, kek_id FROM identity").fetchall()
    if len(identities) != 1:
        raise CorruptLog("the database does not say whose log it is")
    origin, tenant, kek_id = identities[0]
    if (origin, tenant) != (place.origin, place.tenant):
        raise ForeignLog("the file holds the log of another origin or tenant")
    if kek_id != identify_kek(place.kek):
        raise ForeignLog("the file is sealed under another feed-kek")
    context = LogIdentity(place.origin, place.tenant, ()).key_context
    wrap = KeyWrap(place.kek, context)
    keys = {
        read_number(number, "number"): wrap.unwrap(read_bytes(wrapped, "wrapped_key"), data_key_label(number))
        for number, wrapped in connection.execute("SELECT number, wrapped_key FROM data_key")
    }
    # Nothing is sealed here; a row under a key that is gone is found as its own damage.
    keys = keys or {0: bytes(KEY_BYTES)}
    return RowCodec(Sealer(keys, max(keys), context), _NO_INDEX_KEY)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _SQLITE_ERRORS as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, UnicodeDecodeError) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise CorruptLog(f"SQLite finds the database damaged: {name}") from None
        raise LogStoreError(f"SQLite cannot read: {name}") from None
