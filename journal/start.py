"""What a process says of itself where its chain begins, and again where what is in effect changes: frames of kind START.

An auditor reads from them what a sidecar was configured to do, and in which mode it really kept its record. The bytes are JSON: keys
sorted, no white space, UTF-8.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from journal.errors import MalformedStart
from journal.format import JournalMode

_FORMAT: Final = 1
_SHA256_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class CertificateNote:
    """A certificate of the sidecar's own that was in use.

    Attributes:
        use: `feed`, or the address of the listener.
        sha256: Of the file, as hexadecimal.
        not_after_ms: Until when it is valid, Unix ms.
    """

    use: str
    sha256: str
    not_after_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNote:
    """What writes the chain.

    Attributes:
        version: Of the program.
        sidecar_id: Its name.
        at_ms: Unix ms by the sidecar's clock.
        mode: The mode in effect, which may be stronger than the configured one.
        on_unavailable: What a failed write does, in effect: `deny` or `allow_and_count`.
        settings: The effective settings, as JSON has them; paths of files, never what is in them.
        trust_sha256: Of the trust file, as hexadecimal.
        certificates: Those in use.
    """

    version: str
    sidecar_id: str
    at_ms: int
    mode: JournalMode
    on_unavailable: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trust_sha256: str = ""
    certificates: tuple[CertificateNote, ...] = ()


def format_start(note: StartNote) -> bytes:
    """The content of a START frame."""
    content = {"format": _FORMAT, **asdict(note)}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_start(content: bytes) -> StartNote:
    """Read it back.

    Raises:
        MalformedStart: Not what `format_start` writes.
    """
    try:
        fields = json.loads(content)
        if fields.pop("format") != _FORMAT:
            raise MalformedStart("start note: another format")
        certificates = tuple(CertificateNote(**each) for each in fields.pop("certificates"))
        note = StartNote(**fields | {"mode": JournalMode(fields["mode"]), "certificates": certificates})
        _verify(note)
        is_canonical = format_start(note) == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedStart("start note: not the expected JSON") from None
    if not is_canonical:
        raise MalformedStart("start note: not the canonical form")
    return note


def _verify(note: StartNote) -> None:
    texts = [note.version, note.sidecar_id, note.on_unavailable, note.trust_sha256]
    texts += [text for each in note.certificates for text in (each.use, each.sha256)]
    times = (note.at_ms, *(each.not_after_ms for each in note.certificates))
    hashes = (note.trust_sha256, *(each.sha256 for each in note.certificates))
    if not all(type(text) is str for text in texts) or not all(type(time) is int for time in times):
        raise ValueError
    if not isinstance(note.settings, dict) or not all(len(text) in (0, _SHA256_CHARACTERS) for text in hashes):
        raise ValueError
