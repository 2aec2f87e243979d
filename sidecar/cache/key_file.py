"""Key-encryption keys in files: a Kubernetes Secret, a systemd credential, or a file of the operator.

A wrapped key is u8 version, 8 bytes key id, 12 bytes nonce, then AES-256-GCM ciphertext and tag; the purpose is additional data. The key
id is a keyed hash of the key-encryption key (KEK), so a key that was not used is known without trying, and the id tells nothing of it.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hosting.errors import KeyFileError, KeyFileMissing
from hosting.key_files import create_key_file, read_key_file
from hosting.locks import create_directory
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.key_wrapping import KEK_BYTES, KEK_ID_BYTES, Kek
from sidecar.errors import MissingCacheKey, WrongCacheKey

KEY_USE = "cache-kek"
"""What a key file must say that its key is for."""

_log = logging.getLogger(__name__)

_VERSION = b"\x01"
_SEALED_AT = 1 + KEK_ID_BYTES


class _Held(NamedTuple):
    """Keys at hand; replaced as a whole, since several threads wrap and unwrap."""

    newest_id: bytes
    keks: dict[bytes, Kek]


class FileKeyProvider:
    """Wraps data keys under keys from files (`sidecar.ports.KeyProvider`).

    To rotate, put the new file first, or a new key into the first file and the older key into the second. A running sidecar takes it
    up with `refresh`, and whatever reads a value that names an unknown key looks at the files again. Keys once read stay at hand
    until the process ends, so the order in which files are replaced does not matter.

    Args:
        paths: Key files, the newest first.
        log: Where a new key, and files that cannot be read any more, are announced.

    Raises:
        KeyFileMissing: One is not there.
        KeyFileError: One cannot be used.
    """

    def __init__(self, paths: Sequence[Path], log: logging.Logger = _log) -> None:
        if not paths:
            raise ValueError("paths: at least one key file")
        self._paths = tuple(paths)
        self._log = log
        self._held = _read_files(self._paths)
        self._is_unreadable = False

    def refresh(self) -> None:
        """Read the files again; while one of them cannot be used, everything stays as it is."""
        try:
            found = _read_files(self._paths)
        except KeyFileError as error:
            # Said once: the next attempt comes within the minute.
            if not self._is_unreadable:
                self._log.error("the key files cannot be used as they are now, the keys read before stay: %s", error)
            self._is_unreadable = True
            return
        self._is_unreadable = False
        held = self._held
        if found.newest_id != held.newest_id:
            self._log.warning("the key files hold another newest key: %s", self._paths[0])
        self._held = _Held(found.newest_id, held.keks | found.keks)

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """Encrypt a data key under the newest KEK, bound to `purpose`."""
        newest_id, keks = self._held
        return _VERSION + newest_id + keks[newest_id].wrap(key, purpose)

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        """Decrypt it under the KEK that it names.

        Raises:
            WrongCacheKey: That KEK is not at hand, or it does not open it for this purpose.
        """
        key_id = wrapped_key[1:_SEALED_AT]
        if wrapped_key[:1] == _VERSION and key_id not in self._held.keks:
            self.refresh()
        kek = self._held.keks.get(key_id) if wrapped_key[:1] == _VERSION else None
        if kek is None:
            raise WrongCacheKey("none of the key files holds the key that the cache was sealed under")
        return kek.unwrap(wrapped_key[_SEALED_AT:], purpose)

    def is_current(self, wrapped_key: bytes) -> bool:
        """Whether it is wrapped under the newest KEK."""
        return wrapped_key[:_SEALED_AT] == _VERSION + self._held.newest_id


def load_key_files(
    paths: Sequence[Path], *, cache_directory: Path, create_for_development: bool, log: logging.Logger = _log
) -> FileKeyProvider:
    """Load the key files of a cache, or make the first one where that is allowed.

    Args:
        paths: Key files, the newest first.
        cache_directory: Where the cache is, or will be.
        create_for_development: If no cache exists and no file is there, make a key instead of refusing.
        log: Where a key that was made is announced.

    Raises:
        MissingCacheKey: A file is not there.
        KeyFileError: One cannot be used.
    """
    missing = [path for path in paths if not path.exists()]
    cache_exists = (cache_directory / CACHE_FILE_NAME).exists()
    if missing and create_for_development and not cache_exists and len(missing) == len(paths):
        create_directory(paths[0].parent, 0o700)
        create_key_file(paths[0], os.urandom(KEK_BYTES), use=KEY_USE)
        log.warning(
            "DEVELOPMENT KEY: made the cache's key file %s; whoever has it can read the cache. "
            "In production, mount a key from a secret store.",
            paths[0],
        )
        paths = paths[:1]
    try:
        return FileKeyProvider(paths, log)
    except KeyFileMissing as error:
        if cache_exists:
            raise MissingCacheKey(f"there is a cache in {cache_directory}, and its key is missing: {error}") from None
        raise MissingCacheKey(f"the cache's key is missing: {error}") from None


def _read_files(paths: Sequence[Path]) -> _Held:
    keks: dict[bytes, Kek] = {}
    for path in paths:
        secret = read_key_file(path, use=KEY_USE, length_bytes=KEK_BYTES)
        kek = Kek(secret)
        keks.setdefault(kek.key_id, kek)
        secret[:] = bytes(len(secret))
    return _Held(next(iter(keks)), keks)
