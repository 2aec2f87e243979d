"""Keys that sign for real, and a trust file that believes them."""

from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from consent.eventlog.trust import Trust, TrustedKey

ORIGIN = "log.example.com/tenant-a"


def make_key(name: str, kind: KeyKind, number: int = 0) -> SigningKey:
    """A key that name and number decide, so that failures repeat."""
    return generate_signing_key(name, kind, f"{name}#{number}".encode().rjust(32, b"\0")[-32:])


LOG_KEY = make_key(ORIGIN, KeyKind.LOG)
COSIGNER_KEY = make_key("cosigner.example.com/1", KeyKind.COSIGNER)
SECOND_COSIGNER_KEY = make_key("cosigner.example.com/2", KeyKind.COSIGNER)
THIRD_COSIGNER_KEY = make_key("cosigner.example.com/3", KeyKind.COSIGNER)
SOURCE_KEY = make_key("intake.example.com/shop", KeyKind.SOURCE)
APPROVER_KEY = make_key("approver.example.com/1", KeyKind.APPROVER)
WITNESS_KEY = make_key("witness.example.com/1", KeyKind.COSIGNER)
ROOT_KEY = make_key("root.example.com/tenant-a", KeyKind.LOG)


def trusted(*keys: SigningKey) -> tuple[TrustedKey, ...]:
    return tuple(TrustedKey(key.verifier_key) for key in keys)


TRUST = Trust(
    tenant="tenant-a", origin=ORIGIN, log_keys=trusted(LOG_KEY), cosigner_keys=trusted(COSIGNER_KEY), minimum_size=1
)
