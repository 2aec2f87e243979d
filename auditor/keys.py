"""The auditor's own key: one file that opens what is sealed to the auditor and signs the evidence that the auditor exports.

The file holds 64 bytes: an X25519 private key, then an Ed25519 seed.
"""

import secrets
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from auditor.journals import AuditorKey
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from hosting.key_files import create_key_file, read_key_file, write_file_atomically
from journal.auditor_key import AuditorPublicKey, format_auditor_key, parse_auditor_key
from journal.errors import MalformedAuditorKey

KEY_USE: Final = "auditor"
DEFAULT_NAME: Final = "auditor"
"""Of an auditor whose name nothing says."""
PUBLIC_SUFFIX: Final = ".pub"
"""Of the public half's file, beside the key."""

_KEY_BYTES: Final = 32


class AuditorKeys(NamedTuple):
    """The two halves of an auditor's key.

    Attributes:
        sealing: Opens what is sealed to the auditor.
        signing: Signs evidence.
    """

    sealing: AuditorKey
    signing: SigningKey


def create_auditor_key(path: Path, name: str) -> AuditorKeys:
    """Make a key file for an auditor of that name.

    Raises:
        KeyFileError: The file exists, or cannot be written.
    """
    secret = secrets.token_bytes(2 * _KEY_BYTES)
    create_key_file(path, secret, use=KEY_USE)
    return _split(secret, name)


def load_auditor_key(path: Path, name: str) -> AuditorKeys:
    """Read a key file.

    Raises:
        KeyFileError: It is missing, open to others, or of another use.
    """
    return _split(bytes(read_key_file(path, use=KEY_USE, length_bytes=2 * _KEY_BYTES)), name)


def public_key_path(path: Path) -> Path:
    """Where the public half of a key file lies."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def write_public_key(path: Path, keys: AuditorKeys) -> None:
    """Write the public half beside a key file: what feed and sidecars are given to seal something to this auditor.

    Raises:
        OSError: It cannot be written.
    """
    public = AuditorPublicKey(keys.sealing.private_key.public_key().public_bytes_raw(), keys.signing.verifier_key)
    write_file_atomically(public_key_path(path), f"{format_auditor_key(public)}\n".encode(), mode=0o644)


def read_public_name(path: Path) -> str | None:
    """The auditor's name, from the public half beside a key file; None where there is none that can be read."""
    try:
        return parse_auditor_key(public_key_path(path).read_text(encoding="utf-8")).name
    except (OSError, UnicodeDecodeError, MalformedAuditorKey):
        return None


def _split(secret: bytes, name: str) -> AuditorKeys:
    private_key = X25519PrivateKey.from_private_bytes(secret[:_KEY_BYTES])
    return AuditorKeys(AuditorKey(name, private_key), generate_signing_key(name, KeyKind.AUDITOR, secret[_KEY_BYTES:]))
