"""AES-256-GCM under the keys of one generation.

Each generation has a fresh random data key. HKDF-SHA256 (RFC 5869) makes the keys in use from it:

* segments: one key, the nonce is the segment's number; the data key is new, so no number is ever used twice under it;
* everything else: one key for each use and each start of the sidecar, made with 16 random bytes of that start as the salt; the nonce is
  a counter. A counter kept in the file would be set back by whoever restores an older file, and nonces would be used
  again; the salt is drawn anew at every start, so no history of files, kills or clones leads to the same key.

A sealed value is its salt, its counter (u64) and the ciphertext with its tag.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.errors import CorruptCache

DATA_KEY_BYTES = 32
TAG_BYTES = 16
_SALT_BYTES = 16
_COUNTER_BYTES = 8
_HEAD_BYTES = _SALT_BYTES + _COUNTER_BYTES
_NONCE_BYTES = 12


class DataKey:
    """The data key of one generation, as this start of the sidecar uses it."""

    def __init__(self, data_key: bytes | bytearray) -> None:
        if len(data_key) != DATA_KEY_BYTES:
            raise ValueError(f"data_key: must be {DATA_KEY_BYTES} bytes")
        self._data_key = bytearray(data_key)
        self._salt = os.urandom(_SALT_BYTES)
        self._sealed_count = 0
        self._segments_sealed = 0
        self._keys: dict[tuple[str, bytes], AESGCM] = {}
        self._segment_key = self._derive("segment", b"")

    def seal(self, use: str, aad: bytes, plaintext: bytes) -> bytes:
        """Seal a value.

        Args:
            use: Which key: `manifest`, `meta`, `delta` or `mark`.
            aad: What it is bound to.
            plaintext: The value.
        """
        self._sealed_count += 1
        counter = self._sealed_count
        nonce = counter.to_bytes(_NONCE_BYTES, "big")
        ciphertext = self._key_for(use, self._salt).encrypt(nonce, plaintext, aad)
        return self._salt + counter.to_bytes(_COUNTER_BYTES, "big") + ciphertext

    def open(self, use: str, aad: bytes, sealed: bytes) -> bytes:
        """Open what `seal` made.

        Raises:
            CorruptCache: It was changed, or belongs to another place, generation or cache.
        """
        salt, counter = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:_HEAD_BYTES]
        nonce = counter.rjust(_NONCE_BYTES, b"\x00")
        try:
            return self._key_for(use, salt).decrypt(nonce, sealed[_HEAD_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise CorruptCache(f"a sealed value ({use}) is not authentic") from None

    def seal_segment(self, number: int, aad: bytes, plaintext: bytes | memoryview) -> bytes:
        """Seal a segment. Segments are sealed in order, so that no number is used twice under the key."""
        if number != self._segments_sealed:
            raise ValueError("segments are sealed once and in order")
        self._segments_sealed += 1
        return self._segment_key.encrypt(number.to_bytes(_NONCE_BYTES, "big"), plaintext, aad)

    def open_segment(self, number: int, aad: bytes, sealed: bytes, into: memoryview) -> None:
        """Decrypt a segment straight into its place in memory.

        Args:
            number: Its number.
            aad: What it is bound to.
            sealed: The ciphertext with its tag.
            into: Writable, of the plaintext's length.

        Raises:
            CorruptCache: It was changed, has another length, or belongs elsewhere.
        """
        try:
            self._segment_key.decrypt_into(number.to_bytes(_NONCE_BYTES, "big"), sealed, aad, into)
        except (InvalidTag, ValueError):
            raise CorruptCache(f"segment {number} is not authentic") from None

    def reveal(self) -> bytes:
        """The data key itself, only to be wrapped anew."""
        return bytes(self._data_key)

    def wipe(self) -> None:
        """Overwrite the data key; the ciphers keep copies that Python gives no access to."""
        self._data_key[:] = bytes(DATA_KEY_BYTES)

    def _key_for(self, use: str, salt: bytes) -> AESGCM:
        key = self._keys.get((use, salt))
        if key is None:
            key = self._keys[use, salt] = self._derive(use, salt)
        return key

    def _derive(self, use: str, salt: bytes) -> AESGCM:
        hkdf = HKDF(SHA256(), length=32, salt=salt, info=b"consentry/cache/v1/" + use.encode("ascii"))
        return AESGCM(hkdf.derive(bytes(self._data_key)))
