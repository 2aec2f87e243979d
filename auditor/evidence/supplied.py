"""Files that others vouch for: copied in as they are, hashed, and shown with the name of who supplied them. What is absent is open."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from auditor.evidence.errors import InvalidEvidenceOption
from auditor.evidence.model import Cell, Report
from auditor.evidence.scope import Scope, SuppliedFile
from auditor.findings import Finding, Severity

DIRECTORY: Final = "supplied"
MAX_SUPPLIED_BYTES: Final = 64 << 20
KINDS: Final = {
    "sbom": ("8.8_8.28", "Bill of materials (SBOM)"),
    "vulnerabilities": ("8.8_8.28", "Vulnerability report"),
    "drill": ("8.13", "Report of a restore drill"),
    "conformance": ("8.29", "Report of a conformance run"),
    "access-review": ("5.16-5.18", "Access review"),
    "incidents": ("5.24-5.30", "Incident records"),
    "internal-checks": ("5.35_5.36", "Internal checks with their closure"),
    "procedures": ("5.37", "Operating procedures"),
}
"""What can be supplied: the section that it belongs to, and what it is."""

_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")
#: Lists in the usual formats (CycloneDX, SPDX, OSV, Grype) whose length is worth telling.
_COUNTED: Final = ("components", "packages", "vulnerabilities", "results", "matches")
_WHO: Final = "whoever is responsible for it; give it with --supply"


def parse_supplied(texts: list[str], suppliers: list[str], exporter: str) -> tuple[SuppliedFile, ...]:
    """Read `NAME=FILE` and `NAME=WHO`; who is not named is the exporter.

    Raises:
        InvalidEvidenceOption: An unknown name, or no file.
    """
    who = dict(_split(text, "--supplied-by") for text in suppliers)
    files = []
    for text in texts:
        name, path = _split(text, "--supply")
        if not Path(path).is_file():
            raise InvalidEvidenceOption(f"--supply: {name}: there is no such file")
        files.append(SuppliedFile(name, Path(path), who.get(name, exporter)))
    return tuple(files)


def add_supplied(report: Report, scope: Scope) -> dict[str, bytes]:
    """Show each file in its section, and what is absent as open.

    Returns:
        The files to be written, by path in the evidence folder. One that holds a known identifier is not among them.

    Raises:
        InvalidEvidenceOption: A file cannot be read or is too large.
    """
    files: dict[str, bytes] = {}
    rows: dict[str, list[tuple[Cell, ...]]] = {}
    for supplied in scope.supplied:
        slug, _ = KINDS[supplied.name]
        content = _read(supplied)
        path = _path_of(supplied, files)
        is_kept = _search(report, scope, supplied, content, path)
        if is_kept:
            files[path] = content
        shown = path if is_kept else "not copied"
        digest = sha256(content).hexdigest()
        row = (supplied.name, shown, len(content), digest, supplied.supplied_by, _count_items(content))
        rows.setdefault(slug, []).append(row)
    for name, (slug, title) in KINDS.items():
        if not any(supplied.name == name for supplied in scope.supplied):
            report[slug].add_open(f"{title}: not supplied", _WHO)
    columns = ("what", "file", "bytes", "SHA-256", "supplied by", "entries listed in it")
    for slug, supplied_rows in rows.items():
        report[slug].add_source("supplied files: copied as they are; this tool does not judge them")
        report[slug].add_table("supplied", "Supplied files", columns, supplied_rows)
    return files


def _split(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value or name not in KINDS:
        raise InvalidEvidenceOption(f"{option}: must be NAME=VALUE with a name of {', '.join(KINDS)}")
    return name, value


def _read(supplied: SuppliedFile) -> bytes:
    try:
        with supplied.path.open("rb") as file:
            content = file.read(MAX_SUPPLIED_BYTES + 1)
    except OSError as error:
        raise InvalidEvidenceOption(f"--supply: {supplied.name}: {error.strerror}") from None
    if len(content) > MAX_SUPPLIED_BYTES:
        raise InvalidEvidenceOption(f"--supply: {supplied.name}: over {MAX_SUPPLIED_BYTES} bytes")
    return content


def _path_of(supplied: SuppliedFile, taken: dict[str, bytes]) -> str:
    """A name of ours: the file's own may say anything."""
    suffix = supplied.path.suffix.lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
    number = 1 + sum(path.startswith(f"{DIRECTORY}/{supplied.name}-") for path in taken)
    return f"{DIRECTORY}/{supplied.name}-{number}{suffix}"


def _search(report: Report, scope: Scope, supplied: SuppliedFile, content: bytes, path: str) -> bool:
    """Whether the file may be copied in."""
    kinds = {match.kind for match in scope.finder.find(content)}
    known = {kind for kind in kinds if kind.startswith("known")}
    section = report["5.34_8.11"]
    for kind in sorted(known):
        text = f"a supplied file holds a {kind} and was not copied in"
        section.add_finding(Finding("IDENTIFIER_IN_CLEAR", text, place=supplied.name))
    for kind in sorted(kinds - known):
        text = f"a supplied file holds what looks like a {kind}; whose it is, its supplier must say"
        section.add_finding(Finding("SUPPLIED_HOLDS_ADDRESS", text, Severity.NOTE, place=path))
    return not known


def _count_items(content: bytes) -> str:
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    return ", ".join(f"{name}: {len(document[name])}" for name in _COUNTED if isinstance(document.get(name), list))
