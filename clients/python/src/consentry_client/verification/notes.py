"""Signed notes, their keys, and the checkpoints in them (c2sp.org/signed-note, /tlog-checkpoint, /tlog-cosignature)."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from consentry_client.errors import ConfigurationError
from consentry_client.verification.errors import InvalidReceipt

HASH_BYTES = 32
LOG_KEY_TYPE = 1
COSIGNER_KEY_TYPE = 4

_PUBLIC_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_KEY_ID_BYTES = 4
_TIME_BYTES = 8
_NOTE_BYTES_MAX = 256 * 1024
_SIGNATURES_MAX = 64
_TIME_UNIX_SECONDS_MAX = (2**63 - 1) // 1000
_SIZE_MAX = 2**63 - 1
_LINE_PREFIX = "\N{EM DASH} "
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_EMPTY_ROOT = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key.

    Attributes:
        name: For a log's key, the log's name.
        key_type: 1 for a log, 4 for a cosigner.
        public_key: Ed25519, 32 bytes.
    """

    name: str
    key_type: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """What its signature lines carry, 4 bytes."""
        named_key = self.name.encode() + b"\n" + bytes((self.key_type,)) + self.public_key
        return hashlib.sha256(named_key).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the signature lines under it, none of them checked.

    Attributes:
        text: What is signed.
        origin: Name of the log.
        size: Number of entries.
        root_hash: Root over them, 32 bytes.
        lines: Key name, key id and signature of each line.
    """

    text: str
    origin: str
    size: int
    root_hash: bytes
    lines: tuple[tuple[str, bytes, bytes], ...]


def parse_verifier_key(text: str) -> VerifierKey:
    """Reads a public key: `name+hex(key id)+base64(type || public key)`.

    Raises:
        ConfigurationError: It has another form, is of another type than a log's or a cosigner's, or is damaged.
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    content = decode_base64(encoded)
    if not _KEY_NAME.fullmatch(name) or not content or len(content) != 1 + _PUBLIC_KEY_BYTES:
        raise ConfigurationError("KEY_FORM", "a key has the form name+key id+base64")
    if content[0] not in (LOG_KEY_TYPE, COSIGNER_KEY_TYPE):
        raise ConfigurationError("KEY_KIND", "the key is neither a log's nor a cosigner's")
    key = VerifierKey(name, content[0], content[1:])
    if key.key_id.hex() != key_id:
        raise ConfigurationError("KEY_DAMAGED", "the key's id does not belong to its name and bytes")
    return key


def decode_base64(text: str) -> bytes | None:
    """Reads standard base64; None for anything but the one canonical form of the bytes."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode("ascii") == text else None


def parse_number(text: str) -> int | None:
    """Reads a decimal number without sign or leading zeros, at most 63 bits long; None for anything else."""
    number = int(text) if _NUMBER.fullmatch(text) else -1
    return number if 0 <= number <= _SIZE_MAX else None


def parse_checkpoint(note_bytes: bytes) -> SignedCheckpoint:
    """Reads a signed checkpoint.

    Raises:
        InvalidReceipt: MALFORMED_NOTE or MALFORMED_CHECKPOINT.
    """
    text, lines = _split_note(note_bytes)
    origin, size_text, root_text, *extensions = text[:-1].split("\n") + [""] * max(0, 3 - text.count("\n"))
    size, root_hash = parse_number(size_text), decode_base64(root_text)
    if not origin or size is None or root_hash is None or len(root_hash) != HASH_BYTES or "" in extensions:
        raise InvalidReceipt("MALFORMED_CHECKPOINT", "the signed text is no checkpoint")
    if size == 0 and root_hash != _EMPTY_ROOT:
        raise InvalidReceipt("MALFORMED_CHECKPOINT", "the root is not that of the empty tree")
    return SignedCheckpoint(text, origin, size, root_hash, lines)


def verify_log_signature(checkpoint: SignedCheckpoint, key: VerifierKey) -> None:
    """Checks that the log has signed.

    Raises:
        InvalidReceipt: INSUFFICIENT_SIGNATURES or INVALID_SIGNATURE.
    """
    for signature in _find_signatures(checkpoint, key):
        _verify(key, checkpoint.text.encode(), signature)


def verify_cosignature(checkpoint: SignedCheckpoint, key: VerifierKey) -> int:
    """Checks that a cosigner has signed.

    Returns:
        When it called the checkpoint the newest, Unix seconds.

    Raises:
        InvalidReceipt: INSUFFICIENT_SIGNATURES or INVALID_SIGNATURE.
    """
    times = []
    for signature in _find_signatures(checkpoint, key):
        time_unix_seconds = int.from_bytes(signature[:_TIME_BYTES], "big")
        if len(signature) != _TIME_BYTES + _SIGNATURE_BYTES or time_unix_seconds > _TIME_UNIX_SECONDS_MAX:
            raise InvalidReceipt("INVALID_SIGNATURE", "the cosignature has another form")
        message = f"cosignature/v1\ntime {time_unix_seconds}\n{checkpoint.text}".encode()
        _verify(key, message, signature[_TIME_BYTES:])
        times.append(time_unix_seconds)
    return max(times)


def _split_note(note_bytes: bytes) -> tuple[str, tuple[tuple[str, bytes, bytes], ...]]:
    try:
        content = note_bytes.decode("utf-8") if len(note_bytes) <= _NOTE_BYTES_MAX else ""
    except UnicodeDecodeError:
        content = ""
    text, boundary, signatures = content.rpartition("\n\n")
    text += "\n"
    if not boundary or not signatures.endswith("\n") or _CONTROL.search(text):
        raise InvalidReceipt("MALFORMED_NOTE", "the checkpoint is no signed note")
    lines = signatures[:-1].split("\n")
    if len(lines) > _SIGNATURES_MAX:
        raise InvalidReceipt("MALFORMED_NOTE", "the checkpoint has too many signatures")
    return text, tuple(_parse_line(line) for line in lines)


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_LINE_PREFIX).partition(" ")
    content = decode_base64(encoded)
    if (
        not line.startswith(_LINE_PREFIX)
        or not _KEY_NAME.fullmatch(name)
        or content is None
        or len(content) <= _KEY_ID_BYTES
    ):
        raise InvalidReceipt("MALFORMED_NOTE", "a signature line has another form")
    return name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:]


def _find_signatures(checkpoint: SignedCheckpoint, key: VerifierKey) -> list[bytes]:
    # Lines of other keys are ignored, so that keys rotate and others cosign.
    found = [signature for name, key_id, signature in checkpoint.lines if (name, key_id) == (key.name, key.key_id)]
    if not found:
        raise InvalidReceipt("INSUFFICIENT_SIGNATURES", "the checkpoint is not signed by the key")
    return found


def _verify(key: VerifierKey, message: bytes, signature: bytes) -> None:
    try:
        # Here, so that everything else works without the extra.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "VERIFIER_MISSING", "checking signatures needs the extra: pip install 'consentry-client[verify]'"
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except InvalidSignature:
        raise InvalidReceipt("INVALID_SIGNATURE", "a signature does not verify under the key that it names") from None
