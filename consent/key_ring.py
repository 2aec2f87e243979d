"""The tenant's keys on their way to a sidecar: sealed to its own public key, kept by it only sealed.

HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, with tenant and sidecar in `info`. Who sent it is not
proven here but by the log, which commits to every subject key (`commit_key`).
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from consent import encoding as wire
from consent.errors import ConsentError

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class InvalidKeyRing(ConsentError):
    """A key ring cannot be opened or read. Expected after a mix-up of sidecars or tenants."""

    reason = "INVALID_KEY_RING"


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """The keys of one tenant.

    Attributes:
        subject_keys: 32-byte keys of the key epochs 0, 1, ….
        audit_keys: (day, 32-byte key) of the audit pseudonyms; a day counts from 1970-01-01 UTC.
    """

    subject_keys: tuple[bytes, ...]
    audit_keys: tuple[tuple[int, bytes], ...]

    def __repr__(self) -> str:
        """How many keys, and none of them."""
        return f"KeyRing({len(self.subject_keys)} subject keys, {len(self.audit_keys)} audit keys)"

    def matches(self, commitments: tuple[bytes, ...]) -> bool:
        """Whether the subject keys are those that a log commits to."""
        return tuple(commit_key(key) for key in self.subject_keys) == commitments

    def fit(self, commitments: tuple[bytes, ...]) -> "KeyRing | None":
        """The ring without the keys of epochs that a log has not come to; None where the others are not those that it commits to."""
        fitting = KeyRing(self.subject_keys[: len(commitments)], self.audit_keys)
        return fitting if fitting.matches(commitments) else None

    def audit_key(self, day: int) -> bytes | None:
        """The key of a day, or of the last day before it: a long outage must not end the record. None without any."""
        earlier = [(known, key) for known, key in self.audit_keys if known <= day]
        return max(earlier)[1] if earlier else (self.audit_keys[0][1] if self.audit_keys else None)


def commit_key(subject_key: bytes) -> bytes:
    """32 bytes that bind a subject key and tell nothing of it."""
    return hashlib.blake2b(key=bytes(subject_key), digest_size=32, person=b"csty-commit-v1").digest()


_KEY_RING = wire.record(
    KeyRing,
    (("subject_keys", wire.sequence(wire.HASH)), ("audit_keys", wire.sequence(wire.pair(wire.U64, wire.HASH)))),
)


def format_key_ring(ring: KeyRing) -> bytes:
    """The bytes of a key ring, unsealed: only ever kept under another key."""
    return _KEY_RING.write(ring)


def parse_key_ring(ring_bytes: bytes) -> KeyRing:
    """Read them back; raises InvalidKeyRing."""
    try:
        ring: KeyRing = wire.read_whole(_KEY_RING, ring_bytes)
    except wire.Truncated:
        raise InvalidKeyRing("the key ring is not readable") from None
    return ring


def seal_key_ring(ring: KeyRing, recipient_public_key: bytes, *, tenant: str, sidecar_id: str) -> bytes:
    """Seal a ring to a sidecar's X25519 public key of 32 bytes.

    Raises:
        InvalidKeyRing: The public key is not one.
    """
    ring_bytes = format_key_ring(ring)
    try:
        public_key = X25519PublicKey.from_public_bytes(recipient_public_key)
        # A point of low order is found out only here.
        return _SUITE.encrypt(ring_bytes, public_key, _info(tenant, sidecar_id))
    except ValueError:
        raise InvalidKeyRing("recipient_public_key must be an X25519 public key of 32 bytes") from None


def open_key_ring(sealed: bytes, private_key: X25519PrivateKey, *, tenant: str, sidecar_id: str) -> KeyRing:
    """Open what `seal_key_ring` made for this tenant and sidecar.

    Raises:
        InvalidKeyRing: It was sealed to another key, tenant or sidecar, or was changed.
    """
    try:
        opened = _SUITE.decrypt(sealed, private_key, _info(tenant, sidecar_id))
    except (InvalidTag, ValueError):
        raise InvalidKeyRing("the key ring was not sealed to this sidecar of this tenant") from None
    return parse_key_ring(opened)


def _info(tenant: str, sidecar_id: str) -> bytes:
    return b"consentry/key-ring/v1" + wire.STRING.write(tenant) + wire.STRING.write(sidecar_id)
