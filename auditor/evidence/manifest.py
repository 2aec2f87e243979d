"""The manifest: every file of an evidence folder with size and SHA-256, signed by the auditor that exported it.

A C2SP signed note. Its text: `consentry/evidence/v1`, lines `name value` about the export, an empty line, and for each file
`<SHA-256 in hexadecimal> <bytes> <path>`, by path.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Final, NamedTuple

from auditor.evidence.errors import EvidenceUnreadable, EvidenceUnwritable
from auditor.findings import Finding
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, SigningKey, VerifierKey, sign_note, verify_note
from consent.eventlog.note_text import is_line
from consent.eventlog.signed_note import MAX_NOTE_BYTES, parse_note

FILE_NAME: Final = "manifest.txt"
FORMAT: Final = "consentry/evidence/v1"
_FACT: Final = re.compile(r"([a-z_]+) (.+)")
_FILE: Final = re.compile(r"([0-9a-f]{64}) (0|[1-9][0-9]{0,18}) (.+)")


class ListedFile(NamedTuple):
    """A file as the manifest names it.

    Attributes:
        digest: SHA-256, hexadecimal.
        size_bytes: Its length.
        path: In the evidence folder, `/` between names.
    """

    digest: str
    size_bytes: int
    path: str


class Manifest(NamedTuple):
    """What a manifest says.

    Attributes:
        facts: About the export, by name, in order.
        files: Every file but the manifest.
    """

    facts: Mapping[str, str]
    files: tuple[ListedFile, ...]


def list_files(folder: Path) -> tuple[ListedFile, ...]:
    """Every file of a folder but its manifest, by path.

    Raises:
        EvidenceUnreadable: One cannot be read, or is no plain file.
    """
    return tuple(sorted(_list_files(folder), key=lambda listed: listed.path))


def format_manifest(manifest: Manifest, key: SigningKey) -> bytes:
    """The signed manifest.

    Raises:
        EvidenceUnwritable: A name cannot stand in a line, or there are too many files.
    """
    lines = [FORMAT, *(f"{name} {value}" for name, value in manifest.facts.items()), ""]
    lines += (f"{listed.digest} {listed.size_bytes} {listed.path}" for listed in manifest.files)
    if not all(is_line(line) for line in lines if line):
        raise EvidenceUnwritable("manifest: a name cannot stand in a line")
    try:
        return sign_note("".join(f"{line}\n" for line in lines), key)
    except EventLogError as error:
        raise EvidenceUnwritable(f"manifest: {error.reason}") from None


def open_manifest(note_bytes: bytes, key: VerifierKey) -> Manifest:
    """Read a manifest that this auditor has signed.

    Raises:
        EvidenceUnreadable: Not signed by this key, or not what `format_manifest` writes.
    """
    if key.kind is not KeyKind.AUDITOR:
        raise EvidenceUnreadable("key: must be an auditor's key")
    try:
        note = parse_note(note_bytes)
        verify_note(note, key)
    except EventLogError as error:
        raise EvidenceUnreadable(f"{FILE_NAME}: {error.reason}") from None
    head, _, tail = note.text.partition("\n\n")
    first, *facts = head.split("\n")
    files = [_FILE.fullmatch(line) for line in tail.split("\n")[:-1]]
    named = [_FACT.fullmatch(line) for line in facts]
    if first != FORMAT or not all(files) or not all(named):
        raise EvidenceUnreadable(f"{FILE_NAME}: of a form that is not known here")
    return Manifest(
        {match[1]: match[2] for match in named if match},
        tuple(ListedFile(match[1], int(match[2]), match[3]) for match in files if match),
    )


def verify_files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Every file that is not as listed, is missing, or is not listed.

    Raises:
        EvidenceUnreadable: A file cannot be read.
    """
    present = {listed.path: listed for listed in list_files(folder)}
    for listed in manifest.files:
        found = present.pop(listed.path, None)
        if found is None:
            yield Finding("FILE_MISSING", "a listed file is not there", place=listed.path)
        elif found != listed:
            yield Finding("FILE_CHANGED", "a file is not as it was listed", place=listed.path)
    for path in sorted(present):
        yield Finding("FILE_NOT_LISTED", "a file is not in the manifest", place=path)


def read_manifest_file(folder: Path) -> bytes:
    """The manifest's bytes.

    Raises:
        EvidenceUnreadable: It cannot be read.
    """
    try:
        with (folder / FILE_NAME).open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise EvidenceUnreadable(f"{FILE_NAME}: {error.strerror}") from None


def _list_files(folder: Path) -> Iterator[ListedFile]:
    try:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                continue
            if path.is_symlink() or not path.is_file():
                raise EvidenceUnreadable("the folder holds something that is no plain file")
            if name != FILE_NAME:
                with path.open("rb") as file:
                    digest = file_digest(file, "sha256").hexdigest()
                yield ListedFile(digest, path.stat().st_size, name)
    except OSError as error:
        raise EvidenceUnreadable(f"the folder cannot be read: {error.strerror}") from None
