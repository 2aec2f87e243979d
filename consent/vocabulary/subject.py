"""Subjects: identifiers, their normal form, and the keyed tokens that stand for them.

Normalisation is versioned: the version goes into the token, so that a later rule never silently makes two people of one.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import idna

from consent.errors import InvalidIdentifier

NORMALISATION_VERSION = 1
TOKEN_BYTES = 16
KEY_BYTES = 32
MAX_VALUE_BYTES = 512

_NAMESPACE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PLAIN_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
# Letters of any script, and of ASCII what RFC 5322 calls atext, and dots: no quotes, colons or brackets, which only decorate.
_LOCAL_PART = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.\-\u0080-\U0010ffff]+")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_SEPARATORS = str.maketrans("", "", " -./()\u00a0\u2009\u202f")

# BLAKE2 personalisation keeps the uses of keyed hashes apart even if a key were used twice (16 bytes at most).
_PERSON_TOKEN = b"csty-token-v1"
_PERSON_EPOCH = b"csty-epoch-v1"
_PERSON_AUDIT = b"csty-audit-v1"


def normalise(namespace: str, value: str) -> str:
    """The normal form of an identifier.

    Args:
        namespace: `email`, `phone` or any other name of lower-case letters, digits, `_` and `-`.
        value: What the caller has.

    Returns:
        email: trimmed, NFC, lower-case, domain as A-labels; dots and tags kept. phone: E.164. Others: trimmed, NFC.

    Raises:
        InvalidIdentifier: The namespace's name or the value cannot be normalised. The text names the field and never the value.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidIdentifier("identifier.namespace must match [a-z][a-z0-9_-]{0,31}")
    text = value.strip() if value.isascii() else unicodedata.normalize("NFC", value).strip()
    if not text:
        raise InvalidIdentifier("identifier.value is empty")
    if len(text) > MAX_VALUE_BYTES or len(text.encode("utf-8", "replace")) > MAX_VALUE_BYTES:
        raise InvalidIdentifier(f"identifier.value is longer than {MAX_VALUE_BYTES} bytes")
    if not text.isprintable():
        raise InvalidIdentifier("identifier.value holds characters that cannot be printed")
    if namespace == "email":
        return _normalise_email(text)
    if namespace == "phone":
        return _normalise_phone(text)
    return text


def _normalise_email(text: str) -> str:
    # A final dot roots the domain and names no other host.
    lowered = text.lower().removesuffix(".")
    if _PLAIN_EMAIL.fullmatch(lowered):
        return lowered
    local, at, domain = unicodedata.normalize("NFC", lowered).rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local) or len(local.encode()) > 64:
        raise InvalidIdentifier("identifier.value is not an e-mail address")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidIdentifier("identifier.value: the domain of the e-mail address is not valid") from None
    return f"{local}@{ascii_domain}"


def _normalise_phone(text: str) -> str:
    # A trunk prefix in brackets is not part of the number; dropping the brackets would dial, and deny, somebody else.
    if "(0" in text:
        raise InvalidIdentifier("identifier.value is not an E.164 number: leave out the trunk prefix '(0)'")
    digits = text.translate(_PHONE_SEPARATORS)
    if not _E164.fullmatch(digits):
        raise InvalidIdentifier("identifier.value is not an E.164 number: '+', country code, number")
    return digits


class Rekeyer:
    """Leads tokens from one key epoch to the next, without any identifier.

    Args:
        epoch_key: 32-byte key of the epoch that they are led to, from 1 on.
    """

    __slots__ = ("_base",)

    def __init__(self, epoch_key: bytes) -> None:
        if len(epoch_key) != KEY_BYTES:
            raise ValueError(f"epoch_key: {KEY_BYTES} bytes")
        self._base = hashlib.blake2b(digest_size=TOKEN_BYTES, key=bytes(epoch_key), person=_PERSON_EPOCH)

    def rekey(self, token: bytes) -> bytes:
        """The 16-byte token that stands for the same identifier in the next epoch."""
        state = self._base.copy()
        state.update(token)
        return state.digest()


class Tokeniser:
    """Makes the tokens of one tenant: keyed BLAKE2b-128, re-keyed once per key epoch.

    Args:
        epoch_keys: 32-byte keys of epoch 0, 1, …; the token of an epoch is the keyed hash of the token of the epoch before, so that
            holders of tokens can follow a new epoch without any identifier.
    """

    __slots__ = ("_base", "_later")

    def __init__(self, epoch_keys: Sequence[bytes]) -> None:
        if not epoch_keys or any(len(key) != KEY_BYTES for key in epoch_keys):
            raise ValueError("epoch_keys: at least one key, each of 32 bytes")
        self._base = hashlib.blake2b(digest_size=TOKEN_BYTES, key=bytes(epoch_keys[0]), person=_PERSON_TOKEN)
        self._later = tuple(map(Rekeyer, epoch_keys[1:]))

    @property
    def epoch(self) -> int:
        """The key epoch of the tokens made."""
        return len(self._later)

    def token(self, namespace: str, value: str) -> bytes:
        """The 16-byte token of an identifier.

        Raises:
            InvalidIdentifier: As `normalise`.
        """
        token = self.first_token(namespace, value)
        return self.lead(token) if self._later else token

    def first_token(self, namespace: str, value: str) -> bytes:
        """The 16-byte token of an identifier in epoch 0: the same for as long as there is a log.

        Raises:
            InvalidIdentifier: As `normalise`.
        """
        normal = normalise(namespace, value)
        name = namespace.encode("ascii")
        state = self._base.copy()
        state.update(bytes((NORMALISATION_VERSION, len(name))) + name + normal.encode("utf-8"))
        return state.digest()

    def lead(self, token: bytes, epoch: int = 0) -> bytes:
        """The token of the newest epoch for one of an older epoch.

        Raises:
            InvalidIdentifier: The epoch has not begun.
        """
        if not 0 <= epoch <= self.epoch:
            raise InvalidIdentifier("identifier.key_epoch has not begun")
        for rekeyer in self._later[epoch:]:
            token = rekeyer.rekey(token)
        return token


class Pseudonymiser:
    """Makes the pseudonyms of one day in journal and traces; without the day's key they join to nothing.

    Args:
        day_key: 32 bytes.
    """

    __slots__ = ("_base",)

    def __init__(self, day_key: bytes) -> None:
        self._base = hashlib.blake2b(digest_size=TOKEN_BYTES, key=bytes(day_key), person=_PERSON_AUDIT)

    def pseudonym(self, token: bytes) -> bytes:
        """The 16-byte audit pseudonym of a token."""
        state = self._base.copy()
        state.update(token)
        return state.digest()
