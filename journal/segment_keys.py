"""Segment keys on their way to an auditor: each sealed to the auditor's own key, so that no sidecar's key-encryption key leaves its place.

HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; auditor, sidecar, chain and number are in `info`.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from consent import encoding as wire
from journal.errors import InvalidSegmentKey
from journal.format import DATA_KEY_BYTES

_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def seal_segment_key(
    data_key: bytes | bytearray,
    recipient_public_key: bytes,
    *,
    recipient_name: str,
    sidecar_id: str,
    chain_id: bytes,
    number: int,
) -> bytes:
    """Seal a segment's data key to an auditor's X25519 public key of 32 bytes.

    Raises:
        InvalidSegmentKey: The public key is not one.
    """
    try:
        public_key = X25519PublicKey.from_public_bytes(recipient_public_key)
        # A point of low order is found out only here.
        return _SUITE.encrypt(bytes(data_key), public_key, _info(recipient_name, sidecar_id, chain_id, number))
    except ValueError:
        raise InvalidSegmentKey("recipient_public_key must be an X25519 public key of 32 bytes") from None


def open_segment_key(
    sealed_key: bytes,
    private_key: X25519PrivateKey,
    *,
    recipient_name: str,
    sidecar_id: str,
    chain_id: bytes,
    number: int,
) -> bytes:
    """Open what `seal_segment_key` made for this auditor and segment: 32 bytes.

    Raises:
        InvalidSegmentKey: It was sealed to another auditor, or for another segment, or was changed.
    """
    try:
        data_key = _SUITE.decrypt(sealed_key, private_key, _info(recipient_name, sidecar_id, chain_id, number))
    except (InvalidTag, ValueError):
        raise InvalidSegmentKey("the segment's key was not sealed to this auditor, or for another segment") from None
    if len(data_key) != DATA_KEY_BYTES:
        raise InvalidSegmentKey("the segment's key has the wrong length")
    return data_key


def _info(recipient_name: str, sidecar_id: str, chain_id: bytes, number: int) -> bytes:
    names = wire.STRING.write(recipient_name) + wire.STRING.write(sidecar_id)
    return b"consentry/segment-key/v1" + names + chain_id + wire.U64.write(number)
