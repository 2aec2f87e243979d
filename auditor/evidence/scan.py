"""The search for identifiers in clear, in files: names and content, of the audit folder and of the evidence itself."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from auditor.evidence.errors import EvidenceUnreadable
from auditor.evidence.masking import MAX_IDENTIFIER_BYTES, IdentifierFinder
from auditor.progress import Progress

_CHUNK_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 2 * MAX_IDENTIFIER_BYTES


def scan_folder(folder: Path, finder: IdentifierFinder, progress: Progress) -> Iterator[tuple[str, str, int]]:
    """Each file in which something was found: its path in the folder, what, and how often. Paths are not masked.

    Raises:
        EvidenceUnreadable: A file cannot be read.
    """
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        total, done = sum(path.stat().st_size for path in paths), 0
        for path in paths:
            name = path.relative_to(folder).as_posix()
            found = Counter(f"{match.kind} in the name" for match in finder.find(os.fsencode(name)))
            found += scan_file(path, finder)
            yield from ((name, kind, count) for kind, count in sorted(found.items()))
            done += path.stat().st_size
            progress("search", done, total)
    except OSError as error:
        raise EvidenceUnreadable(f"search: {error.strerror}") from None


def scan_file(path: Path, finder: IdentifierFinder) -> Counter[str]:
    """What was found in a file, by kind; memory stays flat."""
    found: Counter[str] = Counter()
    carried = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            content = carried + chunk
            is_last = len(chunk) < _CHUNK_BYTES
            # What begins in the overlap is found with the next chunk, whole.
            limit = len(content) if is_last else len(content) - _OVERLAP_BYTES
            is_noise = b"\x00" in content
            found.update(match.kind for match in finder.find(content, is_noise=is_noise) if match.start < limit)
            carried = b"" if is_last else content[-_OVERLAP_BYTES:]
    return found
