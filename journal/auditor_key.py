"""The public half of an auditor's key: one line, which whoever hands something out to the auditor is given.

`consentry-auditor-key v1 <name> <X25519 public key, base64> <Ed25519 verifier key>`
"""

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, VerifierKey, format_verifier_key, parse_verifier_key
from journal.errors import MalformedAuditorKey

SEALING_KEY_BYTES: Final = 32

_PREFIX: Final = ("consentry-auditor-key", "v1")
_FIELDS: Final = 5


@dataclass(frozen=True, slots=True)
class AuditorPublicKey:
    """What an auditor shows.

    Attributes:
        sealing_key: X25519 public key of 32 bytes: what is sealed to it only the auditor opens.
        verifier_key: Ed25519 key of kind AUDITOR; evidence is signed under it. Its name is the auditor's.

    Raises:
        MalformedAuditorKey: One of them has the wrong form.
    """

    sealing_key: bytes
    verifier_key: VerifierKey

    def __post_init__(self) -> None:
        if len(self.sealing_key) != SEALING_KEY_BYTES:
            raise MalformedAuditorKey(f"sealing key: must be {SEALING_KEY_BYTES} bytes")
        if self.verifier_key.kind is not KeyKind.AUDITOR:
            raise MalformedAuditorKey("verifier key: is not an auditor's")

    @property
    def name(self) -> str:
        """Name of the auditor, bound into everything sealed to it."""
        return self.verifier_key.name


def format_auditor_key(key: AuditorPublicKey) -> str:
    """The line, without its end."""
    sealing_key = b64encode(key.sealing_key).decode("ascii")
    return " ".join((*_PREFIX, key.name, sealing_key, format_verifier_key(key.verifier_key)))


def parse_auditor_key(text: str) -> AuditorPublicKey:
    """Read the line back; white space around it does not count.

    Raises:
        MalformedAuditorKey: Not what `format_auditor_key` writes.
    """
    fields = text.strip().split(" ")
    if len(fields) != _FIELDS or tuple(fields[:2]) != _PREFIX:
        raise MalformedAuditorKey("not the public key of an auditor, or of a version that is not known here")
    try:
        key = AuditorPublicKey(b64decode(fields[3], validate=True), parse_verifier_key(fields[4]))
    except (binascii.Error, ValueError):
        raise MalformedAuditorKey("sealing key: not base64") from None
    except EventLogError as error:
        raise MalformedAuditorKey(f"verifier key: {error}") from None
    if format_auditor_key(key) != " ".join(fields):
        raise MalformedAuditorKey("the name is not that of the verifier key, or base64 is not canonical")
    return key
