"""How rows are sealed: AES-256-GCM under data keys, which a key outside of the database wraps.

Each process that opens the log makes a data key of its own and counts its nonces in memory. So no nonce comes twice under one key, not
after a failed commit, a crash, or a database that was restored from an older copy.
"""

import itertools
import os
import struct
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from feed.errors import CorruptLog

KEY_BYTES: Final = 32
INDEX_KEY_LABEL: Final = "index-key"
_NONCE_BYTES: Final = 12
#: Number of the data key, then the counter that the nonce is made of.
_HEAD: Final = struct.Struct(">IQ")
_NONCE: Final = struct.Struct(">IQ")


def derive_key(kek: bytes, use: str) -> bytes:
    """A 32-byte key for one use (HKDF-SHA256, RFC 5869)."""
    info = b"consentry/feed/" + use.encode("ascii")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(kek)


def data_key_label(number: int) -> str:
    """What a data key is wrapped for."""
    return f"data-key/{number}"


def identify_kek(kek: bytes) -> bytes:
    """16 bytes that tell one KEK from another and nothing of it."""
    return derive_key(kek, "kek-id/v1")[:16]


class KeyWrap:
    """Wraps keys under the KEK, each bound to what it is for.

    Args:
        kek: 32 bytes.
        context: What all of them belong to: log and tenant.
    """

    def __init__(self, kek: bytes, context: bytes) -> None:
        self._cipher = AESGCM(derive_key(kek, "key-wrap/v1"))
        self._context = context

    def wrap(self, key: bytes, label: str) -> bytes:
        """Seal a key: 12 random bytes of nonce, then the sealed key."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, self._bind(label))

    def unwrap(self, wrapped_key: bytes, label: str) -> bytes:
        """Open what `wrap` made.

        Raises:
            CorruptLog: It was changed, or wrapped for another use.
        """
        try:
            return self._cipher.decrypt(wrapped_key[:_NONCE_BYTES], wrapped_key[_NONCE_BYTES:], self._bind(label))
        except (InvalidTag, ValueError):
            raise CorruptLog(f"{label}: cannot be unwrapped") from None

    def _bind(self, label: str) -> bytes:
        return self._context + label.encode("ascii")


class Sealer:
    """Seals rows under one data key and opens those of every key given.

    Args:
        keys: 32-byte data keys by number.
        current: Number of the one to seal under, made by this process.
        context: What all rows belong to: log and tenant.
    """

    def __init__(self, keys: Mapping[int, bytes], current: int, context: bytes) -> None:
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}
        self._current = current
        self._cipher = self._ciphers[current]
        self._context = context
        # Drawn from in more than one thread, and no number may come twice: `next` of a count is one step.
        self._counts = itertools.count(1)

    def seal(self, place: bytes, content: bytes) -> bytes:
        """Seal a row's content, bound to its place: u32 key number, u64 counter, ciphertext, 16 bytes of tag."""
        count = next(self._counts)
        nonce = _NONCE.pack(0, count)
        return _HEAD.pack(self._current, count) + self._cipher.encrypt(nonce, content, self._context + place)

    def open(self, place: bytes, sealed: object) -> bytes:
        """Open what `seal` made for this place.

        Raises:
            CorruptLog: It was changed, moved from another place, or is no sealed row at all.
        """
        if not isinstance(sealed, bytes) or len(sealed) < _HEAD.size:
            raise CorruptLog("a sealed row has another form")
        number, count = _HEAD.unpack_from(sealed)
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise CorruptLog("a row is sealed under a data key that is not there")
        try:
            return cipher.decrypt(_NONCE.pack(0, count), sealed[_HEAD.size :], self._context + place)
        except InvalidTag:
            raise CorruptLog("a sealed row is not authentic") from None
