"""Keys that the sidecar keeps, only ever sealed."""

from dataclasses import dataclass

from consent import encoding as wire
from consent.key_ring import InvalidKeyRing, KeyRing, format_key_ring, parse_key_ring
from sidecar.errors import CorruptCache


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What the sidecar keeps sealed besides the state.

    Attributes:
        private_key: Its X25519 private key, 32 bytes: the tenant's keys are sealed to it.
        signing_seed: Seed of its Ed25519 key, 32 bytes: it signs acknowledgements.
        key_ring: The tenant's keys, None before they first came.
    """

    private_key: bytes
    signing_seed: bytes
    key_ring: KeyRing | None = None

    def __repr__(self) -> str:
        """Nothing of them."""
        return "Secrets()"


def _read_ring(data: bytes, at: int) -> tuple[KeyRing, int]:
    ring_bytes, at = wire.BLOB.read(data, at)
    try:
        return parse_key_ring(ring_bytes), at
    except InvalidKeyRing:
        raise wire.Truncated("a key ring is not one") from None


_KEY_RING = wire.Field("key ring", lambda ring: wire.BLOB.write(format_key_ring(ring)), _read_ring)
_SECRETS = wire.record(
    Secrets, (("private_key", wire.HASH), ("signing_seed", wire.HASH), ("key_ring", wire.optional(_KEY_RING)))
)


def format_secrets(secrets: Secrets) -> bytes:
    """The bytes of the secrets: only ever kept sealed."""
    return _SECRETS.write(secrets)


def parse_secrets(secrets_bytes: bytes) -> Secrets:
    """Read them back; raises CorruptCache."""
    try:
        secrets: Secrets = wire.read_whole(_SECRETS, secrets_bytes)
    except wire.Truncated as error:
        raise CorruptCache(f"the secrets are not readable: {error}") from None
    return secrets
