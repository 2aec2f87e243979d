"""Reading a cache file at the start: nothing in it is believed before it is authentic, and nothing of it is changed by looking.

Wrong key or damage? The wrapped data key stands in the file twice. If neither copy opens, the key at hand is not the one it was wrapped
under, and the start fails (WrongCacheKey) with the file as it was. If one opens, the key is right, and whatever else does not open was
changed (CorruptCache). So one flipped byte is never taken for a wrong key; who destroys both copies on purpose stops the start, as he
could by deleting the file, and learns nothing.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from consent.errors import ConsentError
from consent.event import ErasureEvent
from consent.state import Cluster
from consent.state_record import parse_tenant
from consent.tenant_state import TenantState
from sidecar.cache.cache_file import is_never_written, verify_header
from sidecar.cache.deltas import fold_events, parse_delta
from sidecar.cache.generation import KEY_PURPOSE, Generation
from sidecar.cache.identity import MANIFEST_AAD, Binding, CacheIdentity
from sidecar.cache.manifest import NO_DELTAS_HASH, Manifest, chain, parse_manifest
from sidecar.cache.schema import read_version
from sidecar.cache.sealed_secrets import Secrets, parse_secrets
from sidecar.cache.sealing import DataKey
from sidecar.cache.segments import SealedSegment, open_table
from sidecar.cache.table import Table
from sidecar.errors import CacheWriteFailed, CorruptCache, ForeignCache, WrongCacheKey
from sidecar.ports import KeyProvider

_ALL = 2**63 - 1

SELECT_SEGMENTS = "SELECT number, blob FROM segment WHERE generation = ? AND number >= ? AND number < ? ORDER BY number"
SELECT_DELTAS = "SELECT first_seq, last_seq, blob FROM delta WHERE first_seq > ? ORDER BY first_seq"
SELECT_OUTBOX = "SELECT seq, blob FROM receipt_outbox ORDER BY seq"

_DAMAGE = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_TOOBIG,
}
"""What SQLite says of a damaged file; anything else (permissions, a broken disk) is for the operator to mend."""


@dataclass(frozen=True, slots=True, repr=False)
class CacheContent:
    """Everything that an authentic file holds.

    Attributes:
        has_erasure: Somebody was erased since the segments were made, so that what was known of them is still in the file.
    """

    version: int
    generation: Generation
    manifest: Manifest
    tenant: TenantState
    secrets: Secrets
    table: Table
    overlay: dict[bytes, Cluster]
    outbox_rows: list[tuple[int, bytes]]
    has_erasure: bool


def read_cache_file(path: Path, keys: KeyProvider, identity: CacheIdentity) -> CacheContent | int:
    """Read and verify a whole cache file.

    Args:
        path: The file.
        keys: Opens its data key.
        identity: Whose it must be.

    Returns:
        What it holds; or, where nothing was ever put into it (a new file, or a crash before the first commit), the version of its schema.

    Raises:
        WrongCacheKey: None of the keys opens it.
        ForeignCache: It is authentic and somebody else's.
        CorruptCache: It was changed or damaged.
        CacheWriteFailed: It cannot be opened or read.
    """
    if not path.exists():
        return 0
    try:
        # Read-only: closing such a connection moves nothing from the log of writes into the file.
        verify_header(path)
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            return _read_content(connection, keys, identity)
        finally:
            connection.close()
    except OSError as error:
        raise CacheWriteFailed(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CorruptCache("the cache file is damaged: a text in it is none") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
        if code == sqlite3.SQLITE_READONLY_ROLLBACK and is_never_written(path):
            return 0
        if code == sqlite3.SQLITE_READONLY_ROLLBACK or code & 0xFF in _DAMAGE:
            raise CorruptCache(f"the cache file is damaged: {name}") from None
        raise CacheWriteFailed(f"the cache file cannot be read: {name}") from None


def _read_content(connection: sqlite3.Connection, keys: KeyProvider, identity: CacheIdentity) -> CacheContent | int:
    # 1. The plain frame: a schema that is ours, and the names of the rows in `meta`.
    version = read_version(connection)
    meta = dict(_typed(connection.execute("SELECT name, value FROM meta"), str, bytes)) if version else {}
    if not meta:
        return version
    # 2. Key and manifest: whether it can be opened, and whose it is.
    wrapped_key, data_key = _open_data_key(meta, keys)
    manifest = parse_manifest(data_key.open("manifest", MANIFEST_AAD, _value(meta, "manifest")))
    if manifest.identity != identity:
        theirs = manifest.identity
        raise ForeignCache(
            f"the cache is of sidecar {theirs.sidecar_id}, tenant {theirs.tenant}, log {theirs.origin}; "
            f"expected sidecar {identity.sidecar_id}, tenant {identity.tenant}, log {identity.origin}"
        )
    # 3. What the manifest binds.
    generation = Generation(wrapped_key, data_key, Binding(identity, manifest.generation))
    tenant_bytes = _open_bound(meta, "tenant", manifest.tenant_hash, generation)
    secrets_bytes = _open_bound(meta, "secrets", manifest.secrets_hash, generation)
    rows = connection.execute(SELECT_SEGMENTS, (manifest.generation, 0, _ALL))
    segments = map(SealedSegment._make, _typed(rows, int, bytes))
    table = open_table(segments, manifest.sizes, manifest.segments_hash, data_key, generation.binding)
    # 4. The events since: the same fold as when they came.
    try:
        tenant = parse_tenant(tenant_bytes)
        deltas = _open_deltas(connection, manifest, generation)
        events = [entry for delta in deltas for entry in parse_delta(delta)]
        overlay = fold_events(events, table.find, tenant.drop_seqs)
    except ConsentError as error:
        raise CorruptCache(f"what the cache holds cannot be read by this version: {error.reason}") from None
    # 5. What the manifest does not bind, since a signature does.
    outbox_rows = [(size, blob) for size, blob in _typed(connection.execute(SELECT_OUTBOX), int, bytes)]
    has_erasure = any(isinstance(event, ErasureEvent) for _, event in events)
    secrets = parse_secrets(secrets_bytes)
    return CacheContent(version, generation, manifest, tenant, secrets, table, overlay, outbox_rows, has_erasure)


def _value(meta: dict[str, bytes], name: str) -> bytes:
    try:
        return meta[name]
    except KeyError:
        raise CorruptCache(f"the cache file has no {name}") from None


def _open_data_key(meta: dict[str, bytes], keys: KeyProvider) -> tuple[bytes, DataKey]:
    wrapped_keys = [meta[name] for name in ("key", "key_copy") if name in meta]
    if not wrapped_keys:
        raise CorruptCache("the cache file has no key")
    for wrapped_key in wrapped_keys[:-1]:
        with contextlib.suppress(WrongCacheKey):
            return wrapped_key, DataKey(keys.unwrap(wrapped_key, KEY_PURPOSE))
    return wrapped_keys[-1], DataKey(keys.unwrap(wrapped_keys[-1], KEY_PURPOSE))


def _open_bound(meta: dict[str, bytes], name: str, sealed_hash: bytes, generation: Generation) -> bytes:
    sealed = _value(meta, name)
    if sha256(sealed).digest() != sealed_hash:
        raise CorruptCache(f"row {name} is not the one of the manifest")
    return generation.open_meta(name, sealed)


def _open_deltas(connection: sqlite3.Connection, manifest: Manifest, generation: Generation) -> Iterator[bytes]:
    deltas_hash, next_seq, count = NO_DELTAS_HASH, manifest.base_size + 1, 0
    for first_seq, last_seq, blob in _typed(connection.execute(SELECT_DELTAS, (0,)), int, int, bytes):
        if first_seq != next_seq or last_seq < first_seq:
            raise CorruptCache("deltas are missing or left over")
        deltas_hash, next_seq, count = chain(deltas_hash, blob), last_seq + 1, count + 1
        yield generation.open_delta(first_seq, last_seq, blob)
    if (deltas_hash, next_seq, count) != (manifest.deltas_hash, manifest.frontier.size + 1, manifest.delta_count):
        raise CorruptCache("the deltas are not those of the manifest")


def _typed(rows: Iterable[tuple[Any, ...]], *types: type) -> Iterator[tuple[Any, ...]]:
    """The rows; SQLite gives values of any type, whatever the schema says, if the file was changed."""
    for row in rows:
        if not all(isinstance(value, expected) for value, expected in zip(row, types, strict=True)):
            raise CorruptCache("a row holds values of another type")
        yield row
