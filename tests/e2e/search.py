"""Looks for identifiers in bytes, in every form that a program could have left them in by mistake.

Nothing here shows an identifier: a hit names its number in the order given, the form and the place.
"""

import base64
import contextlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from consent.errors import InvalidIdentifier
from consent.vocabulary.subject import normalise

# Whatever is shorter occurs by chance.
MIN_BYTES = 6


@dataclass(frozen=True, slots=True)
class Hit:
    """An identifier that was found.

    Attributes:
        number: Which one, from 0.
        form: How it was written.
        place: File, or what else was searched.
        offset: First byte.
    """

    number: int
    form: str
    place: str
    offset: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search of a folder has come to."""

    files: int
    size_bytes: int
    patterns: int
    hits: tuple[Hit, ...]


class IdentifierSearch:
    """Finds any of some identifiers.

    Args:
        identifiers: As they were used.

    Raises:
        ValueError: One is too short to be told from chance.
    """

    def __init__(self, identifiers: Iterable[str]) -> None:
        self._by_start: dict[bytes, list[tuple[bytes, int, str]]] = {}
        self.patterns = 0
        for number, identifier in enumerate(dict.fromkeys(identifiers)):
            for pattern, form in spell(identifier).items():
                if len(pattern) < MIN_BYTES:
                    raise ValueError(f"identifier {number} is too short to be searched for")
                self._by_start.setdefault(pattern[:MIN_BYTES], []).append((pattern, number, form))
                self.patterns += 1

    def find(self, data: bytes, place: str) -> Iterator[Hit]:
        """Every place in the data."""
        by_start = self._by_start
        for offset in range(len(data) - MIN_BYTES + 1):
            start = data[offset : offset + MIN_BYTES]
            if start in by_start:
                for pattern, number, form in by_start[start]:
                    if data.startswith(pattern, offset):
                        yield Hit(number, form, place, offset)

    def search_folder(self, folder: Path) -> Finding:
        """Search the name and the content of everything below a folder."""
        hits: list[Hit] = []
        files = size_bytes = 0
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            hits += self.find(name.encode("utf-8", "surrogateescape"), f"name of {name!r}")
            if path.is_file():
                content = path.read_bytes()
                hits += self.find(content, name)
                files, size_bytes = files + 1, size_bytes + len(content)
        return Finding(files, size_bytes, self.patterns, tuple(hits))


def spell(identifier: str) -> dict[bytes, str]:
    """The forms to look for, each with a name."""
    forms: dict[bytes, str] = {}
    for text in _texts(identifier):
        plain = text.encode("utf-8")
        for pattern, form in _encode(text, plain):
            forms.setdefault(pattern, form)
    return forms


def _texts(identifier: str) -> list[str]:
    """The identifier as given, as normalised, and both in other cases and compositions."""
    given = identifier.strip()
    texts = [given, *_normalised(given)]
    texts += [changed for text in list(texts) for changed in (text.lower(), text.upper())]
    texts += [unicodedata.normalize(form, text) for text in list(texts) for form in ("NFC", "NFD")]
    return list(dict.fromkeys(texts))


def _normalised(identifier: str) -> Iterator[str]:
    for namespace in ("email", "phone"):
        try:
            yield normalise(namespace, identifier)
        except InvalidIdentifier:
            continue


def _encode(text: str, plain: bytes) -> Iterator[tuple[bytes, str]]:
    yield plain, "UTF-8"
    yield text.encode("utf-16-le"), "UTF-16 little-endian"
    yield text.encode("utf-16-be"), "UTF-16 big-endian"
    with contextlib.suppress(UnicodeEncodeError):
        yield text.encode("latin-1"), "Latin-1"
    yield json.dumps(text)[1:-1].encode(), "JSON"
    yield text.encode("unicode_escape"), "escaped"
    yield quote(text, safe="").encode(), "percent-encoded"
    yield quote(text, safe="").lower().encode(), "percent-encoded in lower case"
    yield plain.hex().encode(), "hexadecimal"
    yield plain.hex().upper().encode(), "hexadecimal in upper case"
    for bytes_before in range(3):
        yield _inner_base64(plain, bytes_before, b"+/"), "base64"
        yield _inner_base64(plain, bytes_before, b"-_"), "URL-safe base64"


def _inner_base64(plain: bytes, bytes_before: int, alphabet_end: bytes) -> bytes:
    """The characters that depend on the identifier alone where so many other bytes stand before it (modulo 3)."""
    encoded = base64.b64encode(bytes(bytes_before) + plain, alphabet_end)
    first = -(-bytes_before * 8 // 6)
    end = (bytes_before + len(plain)) * 8 // 6
    return encoded[first:end]
