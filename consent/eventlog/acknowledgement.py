"""What a sidecar signs with its own key: that the key is its own, and which size of the log it has in force since when.

Both are texts of a few lines, so that they can be rebuilt from a log entry alone; the first line keeps the two apart, and with the origin
neither can be moved to another log.
"""

from dataclasses import dataclass
from typing import Final

from consent.eventlog.errors import EventLogError, InvalidAcknowledgement, InvalidPossession, WrongKeyKind
from consent.eventlog.keys import KeyKind, SigningKey, VerifierKey
from consent.eventlog.merkle import HASH_BYTES
from consent.eventlog.note_text import encode_base64

NO_STATE_ROOT: Final = bytes(HASH_BYTES)
"""In the place of a state root that was not computed."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed acknowledgement.

    Attributes:
        sidecar_id: Who acknowledges.
        size: Entries that it holds durably and has in force.
        root_hash: Root over them, 32 bytes.
        state_root: Of the folded state at that size, 32 bytes; `NO_STATE_ROOT` where it was not computed.
        applied_at_ms: Unix ms, by the sidecar's clock, since when.
        signature: Ed25519 by its own key, 64 bytes.
    """

    sidecar_id: str
    size: int
    root_hash: bytes
    state_root: bytes
    applied_at_ms: int
    signature: bytes


def sign_ack(
    key: SigningKey,
    origin: str,
    size: int,
    root_hash: bytes,
    applied_at_ms: int,
    *,
    state_root: bytes = NO_STATE_ROOT,
) -> Receipt:
    """Acknowledge a size of a log.

    Args:
        key: The sidecar's own; its name is the sidecar's.
        origin: Name of the log.
        size: Entries in force.
        root_hash: Root over them, 32 bytes.
        applied_at_ms: Unix ms since when.
        state_root: Of the folded state, 32 bytes.

    Raises:
        WrongKeyKind: Not a sidecar's key.
    """
    _check_kind(key)
    text = _ack_text(origin, key.name, size, root_hash, state_root, applied_at_ms)
    return Receipt(key.name, size, root_hash, state_root, applied_at_ms, key.sign(text))


def verify_ack(receipt: Receipt, origin: str, public_key: bytes) -> None:
    """Check that the sidecar of this key (32 bytes) has signed this acknowledgement about this log.

    Raises:
        InvalidAcknowledgement: It has not.
    """
    text = _ack_text(
        origin, receipt.sidecar_id, receipt.size, receipt.root_hash, receipt.state_root, receipt.applied_at_ms
    )
    try:
        VerifierKey(receipt.sidecar_id, KeyKind.SIDECAR, public_key).verify(text, receipt.signature)
    except EventLogError:
        raise InvalidAcknowledgement("acknowledgement: not signed by the sidecar's key") from None


def sign_possession(key: SigningKey, origin: str) -> bytes:
    """Show, by 64 bytes of signature, that the key is in the hands of the sidecar whose name it has.

    Raises:
        WrongKeyKind: Not a sidecar's key.
    """
    _check_kind(key)
    return key.sign(_possession_text(origin, key.name))


def verify_possession(sidecar_id: str, public_key: bytes, possession: bytes, origin: str) -> None:
    """Check what `sign_possession` made.

    Raises:
        InvalidPossession: It is not this key's (32 bytes), or not about this name and log.
    """
    try:
        VerifierKey(sidecar_id, KeyKind.SIDECAR, public_key).verify(_possession_text(origin, sidecar_id), possession)
    except EventLogError:
        raise InvalidPossession("possession: not signed by the key that is to be enrolled") from None


def _ack_text(
    origin: str, sidecar_id: str, size: int, root_hash: bytes, state_root: bytes, applied_at_ms: int
) -> bytes:
    root_text, state_text = encode_base64(root_hash), encode_base64(state_root)
    lines = ("consentry/ack/v1", origin, sidecar_id, str(size), root_text, state_text, str(applied_at_ms))
    return "".join(f"{line}\n" for line in lines).encode()


def _possession_text(origin: str, sidecar_id: str) -> bytes:
    return f"consentry/enrolment/v1\n{origin}\n{sidecar_id}\n".encode()


def _check_kind(key: SigningKey) -> None:
    if key.kind is not KeyKind.SIDECAR:
        raise WrongKeyKind("key: must be a sidecar's key")
