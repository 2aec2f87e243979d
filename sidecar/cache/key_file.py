"""Key-encryption keys in files: a Kubernetes Secret, a systemd credential, or a file of the operator.

A wrapped key is u8 version, 8 bytes key id, 12 bytes nonce, then AES-256-GCM ciphertext and tag; the purpose is additional data. The key
id is a keyed hash of the key-encryption key (KEK), so a key that was not used is known without trying, and the id tells nothing of it.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hosting.errors import KeyFileMissing
from hosting.key_files import create_key_file, read_key_file
from hosting.locks import create_directory
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.errors import MissingCacheKey, WrongCacheKey

KEY_USE = "cache-kek"
"""What a key file must say that its key is for."""

_log = logging.getLogger(__name__)

_VERSION = b"\x01"
_KEK_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_ID_AT, _NONCE_AT = 1, 1 + _ID_BYTES
_CIPHERTEXT_AT = _NONCE_AT + _NONCE_BYTES


class FileKeyProvider:
    """Wraps data keys under keys from files (`sidecar.ports.KeyProvider`).

    To rotate, put the new file first and start again: the cache's key is wrapped anew at once, then the old file may go.

    Args:
        paths: Key files, the newest first.

    Raises:
        KeyFileMissing: One is not there.
        KeyFileError: One cannot be used.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise ValueError("paths: at least one key file")
        self._ciphers: dict[bytes, AESGCM] = {}
        for path in paths:
            kek = read_key_file(path, use=KEY_USE, length_bytes=_KEK_BYTES)
            self._ciphers.setdefault(_key_id(kek), AESGCM(kek))
            kek[:] = bytes(len(kek))
        self._newest_id = next(iter(self._ciphers))

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """Encrypt a data key under the newest KEK, bound to `purpose`."""
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self._newest_id].encrypt(nonce, key, _aad(purpose))
        return _VERSION + self._newest_id + nonce + ciphertext

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        """Decrypt it under the KEK that it names.

        Raises:
            WrongCacheKey: That KEK is not at hand, or it does not open it for this purpose.
        """
        cipher = self._ciphers.get(wrapped_key[_ID_AT:_NONCE_AT]) if wrapped_key[:1] == _VERSION else None
        if cipher is None:
            raise WrongCacheKey("none of the key files holds the key that the cache was sealed under")
        try:
            nonce = wrapped_key[_NONCE_AT:_CIPHERTEXT_AT]
            return bytearray(cipher.decrypt(nonce, wrapped_key[_CIPHERTEXT_AT:], _aad(purpose)))
        except (InvalidTag, ValueError):
            raise WrongCacheKey("the cache's own key does not open under the key file that it names") from None

    def is_current(self, wrapped_key: bytes) -> bool:
        """Whether it is wrapped under the newest KEK."""
        return wrapped_key[:_NONCE_AT] == _VERSION + self._newest_id


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
        create_key_file(paths[0], os.urandom(_KEK_BYTES), use=KEY_USE)
        log.warning(
            "DEVELOPMENT KEY: made the cache's key file %s; whoever has it can read the cache. "
            "In production, mount a key from a secret store.",
            paths[0],
        )
        paths = paths[:1]
    try:
        return FileKeyProvider(paths)
    except KeyFileMissing as error:
        if cache_exists:
            raise MissingCacheKey(f"there is a cache in {cache_directory}, and its key is missing: {error}") from None
        raise MissingCacheKey(f"the cache's key is missing: {error}") from None


def _key_id(kek: bytes | bytearray) -> bytes:
    return hashlib.blake2b(key=bytes(kek), digest_size=_ID_BYTES, person=b"csty-kek-id-v1").digest()


def _aad(purpose: str) -> bytes:
    return b"consentry/wrapped-key/v1/" + purpose.encode("utf-8")
