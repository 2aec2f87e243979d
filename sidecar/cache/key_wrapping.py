"""How a key-encryption key (KEK) wraps a data key: AES-256-GCM with a random nonce, the purpose as additional data."""

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.errors import WrongCacheKey

KEK_BYTES = 32
KEK_ID_BYTES = 8
_NONCE_BYTES = 12


class Kek:
    """One key-encryption key, in memory.

    Args:
        kek: Its 32 bytes; the caller may overwrite them afterwards.

    Attributes:
        key_id: 8 bytes, a keyed hash of the key: names it and tells nothing of it.
    """

    def __init__(self, kek: bytes | bytearray) -> None:
        self.key_id = hashlib.blake2b(key=bytes(kek), digest_size=KEK_ID_BYTES, person=b"csty-kek-id-v1").digest()
        self._cipher = AESGCM(kek)

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """Encrypt a data key, bound to `purpose`: the nonce, then the ciphertext with its tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, _aad(purpose))

    def unwrap(self, sealed_key: bytes, purpose: str) -> bytearray:
        """Decrypt it.

        Raises:
            WrongCacheKey: It was changed, or wrapped under another key or for another purpose.
        """
        try:
            return bytearray(self._cipher.decrypt(sealed_key[:_NONCE_BYTES], sealed_key[_NONCE_BYTES:], _aad(purpose)))
        except (InvalidTag, ValueError):
            raise WrongCacheKey("a wrapped key does not open under the key that it names") from None


def _aad(purpose: str) -> bytes:
    return b"consentry/wrapped-key/v1/" + purpose.encode("utf-8")
