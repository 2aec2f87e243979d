"""The high-water mark: how far the cache once was, kept in another place than the cache, so that an older file is known for one.

The file is the wrapped data key behind its length, then the sealed mark. It is written anew at each start and under each newer KEK, with
a fresh data key. A mark
that is missing or unreadable protects against nothing and stops nothing: who can take it away could also set it back, and what then
bounds the damage is the age of the newest checkpoint in the older file.
"""

import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple

from consent import encoding as wire
from hosting.key_files import write_file_atomically
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.sealing import DATA_KEY_BYTES, DataKey
from sidecar.errors import CorruptCache, WrongCacheKey
from sidecar.ports import KeyProvider

_KEY_PURPOSE = "cache-high-water"
_AAD = b"consentry/cache/v1/mark"

_log = logging.getLogger(__name__)


class Mark(NamedTuple):
    """How far a cache is; later ones compare greater.

    A generation that starts from nothing has a greater number than any before it, so a restored file is older even than an empty cache.

    Attributes:
        generation: Number of the segments' generation.
        boot_count: Starts of the sidecar that wrote to it.
        size: Log size.
    """

    generation: int
    boot_count: int
    size: int


class HighWaterFile:
    """The mark of one cache.

    Args:
        path: The file; its directory exists.
        keys: Wraps its data key.
        identity: Whose cache.
    """

    def __init__(self, path: Path, keys: KeyProvider, identity: CacheIdentity) -> None:
        self._path = path
        self._keys = keys
        self._aad = _AAD + identity.format()
        self._data_key: DataKey | None = None
        self._wrapped_key = b""

    @property
    def is_key_current(self) -> bool:
        """Whether what this process wrote is wrapped under the newest KEK."""
        return self._keys.is_current(self._wrapped_key)

    def read(self) -> Mark | None:
        """The mark, None where there is none that can be believed.

        Raises:
            KeyServiceUnavailable, KeyServiceRefused: As `KeyProvider.unwrap`.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("the cache's high-water mark cannot be read: %s", error.strerror)
            return None
        try:
            wrapped_key, at = wire.BLOB.read(content, 0)
            data_key = DataKey(self._keys.unwrap(wrapped_key, _KEY_PURPOSE))
            mark = data_key.open("mark", self._aad, content[at:])
            generation, (boot_count, size) = wire.read_whole(_MARK, mark)
        except (WrongCacheKey, CorruptCache, ValueError, struct.error):
            _log.warning("the cache's high-water mark is not authentic: an older cache file cannot be recognised")
            return None
        return Mark(generation, boot_count, size)

    def write(self, mark: Mark) -> None:
        """Keep a mark durably; raises OSError."""
        if self._data_key is None or not self.is_key_current:
            fresh = os.urandom(DATA_KEY_BYTES)
            self._data_key, self._wrapped_key = DataKey(fresh), self._keys.wrap(fresh, _KEY_PURPOSE)
        mark_bytes = _MARK.write((mark.generation, (mark.boot_count, mark.size)))
        sealed = self._data_key.seal("mark", self._aad, mark_bytes)
        write_file_atomically(self._path, wire.BLOB.write(self._wrapped_key) + sealed)


_MARK = wire.pair(wire.U64, wire.pair(wire.U64, wire.U64))
