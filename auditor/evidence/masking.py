"""Identifiers in clear: how they are recognised, and how no text of ours can carry one on."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from auditor.evidence.errors import InvalidEvidenceOption

MAX_KNOWN_IDENTIFIERS: Final = 1000
MAX_IDENTIFIER_BYTES: Final = 320
_LEAST_IDENTIFIER_BYTES: Final = 6

# From the sign on: what stands before it is looked at backwards, so that a long word without it costs nothing.
_EMAIL_DOMAIN: Final = re.compile(rb"@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
_EMAIL_LOCAL: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-"
_MAX_LOCAL_BYTES: Final = 64
# Not behind a letter or digit: `name+12345678+...` is the beginning of a verifier key.
_PHONE: Final = re.compile(rb"(?<![A-Za-z0-9+/=_-])\+[1-9][0-9]{7,14}(?![A-Za-z0-9+/=])")
#: In noise, such as sealed bytes, a short address occurs by chance: 12 characters in one per 10^10 places.
_LEAST_EMAIL_BYTES_IN_NOISE: Final = 12


class Match(NamedTuple):
    """Something that looks like an identifier, or is one; what it says is nowhere.

    Attributes:
        kind: `e-mail address`, `telephone number`, or `known identifier on line N`.
        start: Where it begins.
        end: Behind its end.
    """

    kind: str
    start: int
    end: int


class IdentifierFinder:
    """Finds identifiers in bytes and texts.

    Args:
        known: Identifiers to look for exactly, letters of either case, each with the line that it came from.
    """

    def __init__(self, known: Iterable[tuple[int, bytes]] = ()) -> None:
        self._known = [(f"known identifier on line {line}", value.lower()) for line, value in known]

    @property
    def known_count(self) -> int:
        """How many identifiers are looked for exactly."""
        return len(self._known)

    def find(self, content: bytes, *, is_noise: bool = False) -> Iterator[Match]:
        """Every match.

        Args:
            content: Where to look.
            is_noise: It may hold sealed or random bytes.
        """
        for found in _EMAIL_DOMAIN.finditer(content):
            before = content[max(0, found.start() - _MAX_LOCAL_BYTES) : found.start()]
            start = found.start() - len(before) + len(before.rstrip(_EMAIL_LOCAL))
            is_chance = is_noise and found.end() - start < _LEAST_EMAIL_BYTES_IN_NOISE
            if start < found.start() and not is_chance:
                yield Match("e-mail address", start, found.end())
        for found in _PHONE.finditer(content):
            yield Match("telephone number", *found.span())
        lowered = content.lower() if self._known else b""
        for kind, value in self._known:
            start = lowered.find(value)
            while start >= 0:
                yield Match(kind, start, start + len(value))
                start = lowered.find(value, start + len(value))

    def mask(self, text: str) -> str:
        """The text, with a word in the place of each identifier."""
        content = text.encode("utf-8", "replace")
        spans = sorted((match.start, match.end, match.kind) for match in self.find(content))
        if not spans:
            return text
        parts, at = list[bytes](), 0
        for start, end, kind in spans:
            if start >= at:
                parts += (content[at:start], f"[withheld: {kind}]".encode())
            at = max(at, end)
        return b"".join((*parts, content[at:])).decode("utf-8", "replace")


def read_known_identifiers(path: Path | None) -> list[tuple[int, bytes]]:
    """Identifiers to look for, one a line; none without a file.

    Raises:
        InvalidEvidenceOption: The file cannot be read, is too long, or a line is too short to mean anything.
    """
    if path is None:
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidEvidenceOption(f"--known-identifiers: {error.strerror}") from None
    known = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if len(known) > MAX_KNOWN_IDENTIFIERS:
        raise InvalidEvidenceOption(f"--known-identifiers: at most {MAX_KNOWN_IDENTIFIERS} lines")
    for number, value in known:
        if not _LEAST_IDENTIFIER_BYTES <= len(value) <= MAX_IDENTIFIER_BYTES:
            raise InvalidEvidenceOption(
                f"--known-identifiers: line {number}: must have {_LEAST_IDENTIFIER_BYTES} to {MAX_IDENTIFIER_BYTES} bytes"
            )
    return known
