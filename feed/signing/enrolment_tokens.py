"""Enrolment tokens: one sidecar may have one key of its own logged once, without anybody looking at it.

A token is `consentry-enrolment-v1.<content>.<tag>`, both in base64url: what it permits, and HMAC-SHA256 over that under a key that is
derived from the feed's key-encryption key. Nothing is stored: a token says how large the log was when it was issued, and an ENROL or RETIRE
of its sidecar behind that size has used it up.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent import encoding as wire
from feed.errors import EnrolmentRefused

_PREFIX: Final = "consentry-enrolment-v1"
_KEY_INFO: Final = b"consentry/feed/enrolment-token/v1"
_MAX_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What a token permits.

    Attributes:
        sidecar_id: Whose key.
        issued_size: Size of the log when it was issued.
        expires_at_ms: Unix ms from which on it is worth nothing.
    """

    sidecar_id: str
    issued_size: int
    expires_at_ms: int


_TOKEN: Final = wire.record(
    EnrolmentToken, (("sidecar_id", wire.STRING), ("issued_size", wire.U64), ("expires_at_ms", wire.TIME))
)


class EnrolmentTokens:
    """Makes tokens and reads them.

    Args:
        kek: The feed's key-encryption key, 32 bytes; tokens do not outlive its change.
        origin: Name of the log that they are good for.
    """

    def __init__(self, kek: bytes, origin: str) -> None:
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_KEY_INFO).derive(kek)
        self._origin = wire.STRING.write(origin)

    def issue(self, token: EnrolmentToken) -> str:
        """The text of a token: one line, a secret."""
        content = _TOKEN.write(token)
        return ".".join((_PREFIX, _encode(content), _encode(self._tag(content))))

    def read(self, text: str, sidecar_id: str, now_ms: int) -> EnrolmentToken:
        """What a token of this feed permits this sidecar now.

        Raises:
            EnrolmentRefused: It is no token of this feed, another sidecar's, or expired.
        """
        prefix, _, rest = text[:_MAX_CHARACTERS].partition(".")
        content, tag = (_decode(part) for part in (*rest.split("."), "", "")[:2])
        if prefix != _PREFIX or rest.count(".") != 1 or not hmac.compare_digest(tag, self._tag(content)):
            raise EnrolmentRefused("enrolment_token: not one of this feed")
        try:
            token: EnrolmentToken = wire.read_whole(_TOKEN, content)
        except wire.Truncated:
            raise EnrolmentRefused("enrolment_token: of another version") from None
        if token.sidecar_id != sidecar_id:
            raise EnrolmentRefused("enrolment_token: was issued for another sidecar")
        if now_ms >= token.expires_at_ms:
            raise EnrolmentRefused("enrolment_token: has expired")
        return token

    def _tag(self, content: bytes) -> bytes:
        return hmac.digest(self._key, self._origin + content, sha256)


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """The bytes, or none where it is not base64url: no content has no valid tag."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
