"""Ed25519 keys for notes: their roles, their text forms, and the signatures that they make.

Text forms: C2SP signed-note's verifier keys, `name+hex(key id)+base64(signature type || public key)`, and the private
form that Go's sumdb/note gives them, `PRIVATE+KEY+name+hex(key id)+base64(signature type || seed)`.
"""

from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature as RefusedByCryptography
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consent.eventlog.errors import InsufficientSignatures, InvalidSignature, MalformedKey, WrongKeyKind
from consent.eventlog.note_text import decode_base64, encode_base64, is_key_name
from consent.eventlog.signed_note import KEY_ID_BYTES, Note, NoteSignature, check_text, format_note

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64
#: The last second whose milliseconds fit into 64 bits; the specification allows more, our storage does not.
MAX_TIME_UNIX_SECONDS = (2**63 - 1) // 1000

_PRIVATE_PREFIX = "PRIVATE+KEY+"
_TIMESTAMP_BYTES = 8


class KeyKind(Enum):
    """A key's role; the value is its C2SP signature type, so it is part of the key id and no key serves two roles.

    Types behind 0xff have no number of their own in C2SP and are told apart by the words that follow.
    """

    #: Ed25519 over the note's text: logs, and the root that seals trust files.
    LOG = b"\x01"
    #: Timestamped cosignature/v1 (c2sp.org/tlog-cosignature).
    COSIGNER = b"\x04"
    #: An intake system that vouches for what relaxes.
    SOURCE = b"\xffconsentry/source/v1"
    #: A person who approves policies and overrides.
    APPROVER = b"\xffconsentry/approver/v1"
    #: A sidecar, which acknowledges what it has in force.
    SIDECAR = b"\xffconsentry/sidecar/v1"
    #: An auditor, who signs the evidence that it exports.
    AUDITOR = b"\xffconsentry/auditor/v1"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and role.

    Attributes:
        name: A URL without scheme by custom, such as `log.example.com/tenant`.
        kind: Role.
        public_key: 32 bytes after RFC 8032.
        key_id: First 4 bytes of SHA-256(name || 0x0a || signature type || public key).

    Raises:
        MalformedKey: Name or public key has the wrong form.
    """

    name: str
    kind: KeyKind
    public_key: bytes
    key_id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise MalformedKey("name: must not be empty or hold a space, a plus or a control character")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise MalformedKey(f"public_key: must be {PUBLIC_KEY_BYTES} bytes")
        named_key = self.name.encode() + b"\n" + self.kind.value + self.public_key
        object.__setattr__(self, "key_id", sha256(named_key).digest()[:KEY_ID_BYTES])

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check a bare Ed25519 signature (64 bytes) over `message`.

        Raises:
            InvalidSignature: It is not this key's signature of this message.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except RefusedByCryptography:
            raise InvalidSignature("signature: does not verify under the key that it names") from None


class SigningKey:
    """A private key with its name and role. No text form of it but `format_signing_key` shows the secret."""

    __slots__ = ("_private_key", "verifier_key")

    def __init__(self, name: str, kind: KeyKind, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.verifier_key = VerifierKey(name, kind, private_key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        """Name of the key."""
        return self.verifier_key.name

    @property
    def kind(self) -> KeyKind:
        """Role of the key."""
        return self.verifier_key.kind

    @property
    def key_id(self) -> bytes:
        """Key id, 4 bytes."""
        return self.verifier_key.key_id

    def sign(self, message: bytes) -> bytes:
        """Make a bare Ed25519 signature (64 bytes). Ed25519 is deterministic: same key and message, same bytes."""
        return self._private_key.sign(message)

    def seed(self) -> bytes:
        """Return the secret, 32 bytes."""
        return self._private_key.private_bytes_raw()

    def __eq__(self, other: object) -> bool:
        return self.verifier_key == other.verifier_key if isinstance(other, SigningKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.verifier_key)

    def __repr__(self) -> str:
        return f"SigningKey(name={self.name!r}, kind={self.kind.name}, key_id={self.key_id.hex()})"


class Cosignature(NamedTuple):
    """What a cosigner puts into a signature line: its time and an Ed25519 signature of 64 bytes."""

    time_unix_seconds: int
    signature: bytes


def generate_signing_key(name: str, kind: KeyKind, seed: bytes) -> SigningKey:
    """Make a key from 32 fresh random bytes.

    Raises:
        MalformedKey: The name has the wrong form or the seed the wrong length.
    """
    if len(seed) != SEED_BYTES:
        raise MalformedKey(f"seed: must be {SEED_BYTES} bytes")
    return SigningKey(name, kind, Ed25519PrivateKey.from_private_bytes(seed))


def parse_verifier_key(text: str) -> VerifierKey:
    """Read a verifier key.

    Raises:
        MalformedKey: Not of the form that `format_verifier_key` writes, or the key id belongs to another key.
    """
    name, key_id, kind, public_key = _split_key(text)
    key = VerifierKey(name, kind, public_key)
    _check_key_id(key, key_id)
    return key


def format_verifier_key(key: VerifierKey) -> str:
    """Write a verifier key: `name+hex(key id)+base64(signature type || public key)`."""
    return f"{key.name}+{key.key_id.hex()}+{encode_base64(key.kind.value + key.public_key)}"


def parse_signing_key(text: str) -> SigningKey:
    """Read a private key.

    Raises:
        MalformedKey: Not of the form that `format_signing_key` writes, or the key id belongs to another key.
    """
    if not text.startswith(_PRIVATE_PREFIX):
        raise MalformedKey("key: not a private key")
    name, key_id, kind, seed = _split_key(text.removeprefix(_PRIVATE_PREFIX))
    key = generate_signing_key(name, kind, seed)
    _check_key_id(key.verifier_key, key_id)
    return key


def format_signing_key(key: SigningKey) -> str:
    """Write a private key, secret included: `PRIVATE+KEY+name+hex(key id)+base64(signature type || seed)`."""
    return f"{_PRIVATE_PREFIX}{key.name}+{key.key_id.hex()}+{encode_base64(key.kind.value + key.seed())}"


def sign_text(text: str, key: SigningKey) -> NoteSignature:
    """Sign a note's text.

    Raises:
        MalformedNote: The text cannot stand in a note.
        WrongKeyKind: A cosigner's key, which signs only together with a time (`cosign`).
    """
    if key.kind is KeyKind.COSIGNER:
        raise WrongKeyKind("key: a cosigner's key signs with a time")
    check_text(text)
    return NoteSignature(key.name, key.key_id, key.sign(text.encode()))


def sign_note(text: str, *signing_keys: SigningKey) -> bytes:
    """Make a signed note.

    Args:
        text: Ends in a newline.
        signing_keys: At least one, none a cosigner's.

    Raises:
        MalformedNote: The text cannot stand in a note, there is no key or there are too many.
        WrongKeyKind: A cosigner's key.
    """
    return format_note(Note(text, tuple(sign_text(text, key) for key in signing_keys)))


def cosign(text: str, key: SigningKey, time_unix_seconds: int) -> NoteSignature:
    """Cosign a checkpoint's text (c2sp.org/tlog-cosignature, cosignature/v1).

    The caller states by it that this is the largest tree of the log that it has seen by that time, consistent with all
    it saw before.

    Raises:
        MalformedNote: The text cannot stand in a note.
        WrongKeyKind: Not a cosigner's key.
        InvalidSignature: The time is negative or beyond `MAX_TIME_UNIX_SECONDS`.
    """
    if key.kind is not KeyKind.COSIGNER:
        raise WrongKeyKind("key: only a cosigner's key cosigns")
    check_text(text)
    _check_time(time_unix_seconds)
    signature = key.sign(_cosigned_message(text, time_unix_seconds))
    return NoteSignature(key.name, key.key_id, time_unix_seconds.to_bytes(_TIMESTAMP_BYTES, "big") + signature)


def parse_cosignature(signature: bytes) -> Cosignature:
    """Take a cosignature/v1 apart: u64 time, 64 bytes of Ed25519.

    Raises:
        InvalidSignature: Another length, or a time beyond `MAX_TIME_UNIX_SECONDS`.
    """
    if len(signature) != _TIMESTAMP_BYTES + SIGNATURE_BYTES:
        raise InvalidSignature("cosignature: wrong length")
    time_unix_seconds = int.from_bytes(signature[:_TIMESTAMP_BYTES], "big")
    _check_time(time_unix_seconds)
    return Cosignature(time_unix_seconds, signature[_TIMESTAMP_BYTES:])


def verify_text_signature(text: str, signature: NoteSignature, key: VerifierKey) -> None:
    """Check one signature line under the key that it names, a cosignature or a plain one as the key's kind demands.

    Raises:
        InvalidSignature: The line names another key or does not verify.
    """
    if (signature.name, signature.key_id) != (key.name, key.key_id):
        raise InvalidSignature("signature: names another key")
    if key.kind is KeyKind.COSIGNER:
        cosignature = parse_cosignature(signature.signature)
        key.verify(_cosigned_message(text, cosignature.time_unix_seconds), cosignature.signature)
    else:
        key.verify(text.encode(), signature.signature)


def verified_signatures(note: Note, *verifier_keys: VerifierKey) -> tuple[tuple[VerifierKey, NoteSignature], ...]:
    """Check every line by one of the keys and return these lines, each with its key, in the note's order.

    Lines of other keys are ignored, so that keys rotate and others cosign.

    Raises:
        InvalidSignature: A line of one of the keys does not verify.
    """
    known = {(key.name, key.key_id): key for key in verifier_keys}
    lines = []
    for signature in note.signatures:
        if key := known.get((signature.name, signature.key_id)):
            verify_text_signature(note.text, signature, key)
            lines.append((key, signature))
    return tuple(lines)


def verify_note(note: Note, *verifier_keys: VerifierKey) -> None:
    """Check that at least one of the keys signed the note, and that none of them signed it wrongly.

    Raises:
        InsufficientSignatures: None of the keys signed.
        InvalidSignature: A line of one of the keys does not verify.
    """
    if not verified_signatures(note, *verifier_keys):
        raise InsufficientSignatures("signatures: none by a trusted key")


def _cosigned_message(text: str, time_unix_seconds: int) -> bytes:
    return f"cosignature/v1\ntime {time_unix_seconds}\n{text}".encode()


def _check_time(time_unix_seconds: int) -> None:
    if not 0 <= time_unix_seconds <= MAX_TIME_UNIX_SECONDS:
        raise InvalidSignature("cosignature: time out of range")


def _split_key(text: str) -> tuple[str, str, KeyKind, bytes]:
    """Return name, hexadecimal key id, kind, and the bytes of key or seed; none but the kind is checked yet."""
    # Base64 may hold a plus itself, a name may not.
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    content = decode_base64(encoded)
    if content is None:
        raise MalformedKey("key: must be a name, a key id and canonical base64, joined by plus signs")
    for kind in KeyKind:
        if content.startswith(kind.value):
            return name, key_id, kind, content.removeprefix(kind.value)
    raise MalformedKey("key: unknown signature type")


def _check_key_id(key: VerifierKey, key_id: str) -> None:
    if key_id != key.key_id.hex():
        raise MalformedKey("key id: does not belong to this name and key")
