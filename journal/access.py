"""What a journal says about keys of its segments that an auditor was given (frames of kind ACCESS)."""

import hashlib
from dataclasses import dataclass
from typing import Final

from consent import encoding as wire
from journal.errors import CorruptJournal

_VERSION: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class AccessNote:
    """Keys were handed out.

    Attributes:
        at_ms: Unix ms by the sidecar's clock.
        caller: Who asked: the name in the certificate, or of the listener.
        recipient_name: To whom the keys were sealed, as the caller said.
        recipient_key_hash: SHA-256 of the recipient's X25519 public key, 32 bytes.
        segment_count: How many segments' keys.
    """

    at_ms: int
    caller: str
    recipient_name: str
    recipient_key_hash: bytes
    segment_count: int


_NOTE: Final = wire.record(
    AccessNote,
    (
        ("at_ms", wire.TIME),
        ("caller", wire.STRING),
        ("recipient_name", wire.STRING),
        ("recipient_key_hash", wire.HASH),
        ("segment_count", wire.U64),
    ),
)


def hash_recipient_key(public_key: bytes) -> bytes:
    """How a note names a public key, 32 bytes."""
    return hashlib.sha256(public_key).digest()


def format_access(note: AccessNote) -> bytes:
    """The content of the frame."""
    return _VERSION + _NOTE.write(note)


def parse_access(content: bytes) -> AccessNote:
    """Read it back.

    Raises:
        CorruptJournal: Not what `format_access` writes.
    """
    if content[:1] != _VERSION:
        raise CorruptJournal("an access note of a version that is not known here")
    try:
        note: AccessNote = wire.read_whole(_NOTE, content[1:])
    except wire.Truncated as error:
        raise CorruptJournal(f"access note: {error}") from None
    return note
