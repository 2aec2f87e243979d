"""What stands for a person in log and journals, as `consentry-feed resolve --json` tells it. It holds no identifier."""

import json
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import FolderUnusable

_BYTES = 16


@dataclass(frozen=True, slots=True)
class ResolvedSubject:
    """A person.

    Attributes:
        tokens: 16 bytes each, one per key epoch.
        pseudonyms: 16 bytes each, of all days that were asked for.
        days: The days, as dates.
        seqs: Of the entries about these tokens, ascending.
    """

    tokens: frozenset[bytes]
    pseudonyms: frozenset[bytes]
    days: tuple[str, ...]
    seqs: tuple[int, ...]


def read_subject(path: Path) -> ResolvedSubject:
    """Read a result of `consentry-feed resolve --json`.

    Raises:
        FolderUnusable: There is none, or it has another form; the text says nothing of what it holds.
    """
    try:
        content = json.loads(path.read_bytes())
        days = content["days"]
        pseudonyms = frozenset(_read_bytes(text) for texts in days.values() for text in texts)
        tokens = frozenset(_read_bytes(text) for text in content["tokens"])
        seqs = tuple(sorted({int(seq) for seq in content["seqs"]}))
        return ResolvedSubject(tokens, pseudonyms, tuple(sorted(map(str, days))), seqs)
    except OSError as error:
        raise FolderUnusable(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FolderUnusable(f"{path}: not a result of consentry-feed resolve --json") from None


def _read_bytes(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != _BYTES:
        raise ValueError("not 16 bytes")
    return value
