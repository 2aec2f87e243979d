"""Making an evidence folder: collect, write beside the final place, search, sign, and only then give it its name."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from auditor.evidence.collection import collect_evidence
from auditor.evidence.errors import EvidenceExists, EvidenceHoldsIdentifiers, EvidenceUnwritable
from auditor.evidence.manifest import FILE_NAME as MANIFEST_NAME
from auditor.evidence.manifest import Manifest, format_manifest, list_files
from auditor.evidence.model import Report
from auditor.evidence.period import format_time
from auditor.evidence.reading import LogRead
from auditor.evidence.rendering import FILE_NAME as REPORT_NAME
from auditor.evidence.rendering import render_report
from auditor.evidence.scan import scan_folder
from auditor.evidence.scope import Scope
from auditor.evidence.tables import format_section
from auditor.folder import AuditFolder
from auditor.progress import Progress
from consent.eventlog.keys import SigningKey

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class Exported(NamedTuple):
    """What an export made.

    Attributes:
        report: Everything that the folder says.
        files: How many files it has, the manifest not counted.
        facts: What the manifest says about the export.
    """

    report: Report
    files: int
    facts: Mapping[str, str]


def export_evidence(folder: AuditFolder, scope: Scope, key: SigningKey, out: Path, progress: Progress) -> Exported:
    """Make an evidence folder.

    Plan: 1. collect; 2. write all of it beside the final place, and search it; 3. sign the list; 4. rename.

    Args:
        folder: What is read.
        scope: What it is about.
        key: The auditor's own; signs the manifest.
        out: The folder to make; it must not exist.
        progress: Told how far it is, in bytes.

    Raises:
        EvidenceExists: `out` exists.
        EvidenceUnwritable: It cannot be written; nothing lies under its name.
        EvidenceHoldsIdentifiers: An identifier would have been exported; nothing lies under its name.
        AuditorError: The audit folder, or something given, cannot be read.
    """
    _refuse_existing(out)
    # 1. Everything that is to be said.
    collected = collect_evidence(folder, scope, progress)
    report = collected.report
    files, facts = dict(collected.files), describe_export(scope, collected.log, key)
    for section in report:
        files |= format_section(section)
    files[REPORT_NAME] = render_report(report, facts)
    # 2. All files, none of which may hold an identifier.
    with _new_folder(out) as place:
        _write_files(place, files)
        _refuse_identifiers(place, scope, progress)
        # 3. The list of all of it; what follows at the end of this block is its name.
        manifest = Manifest(facts, list_files(place))
        _write_files(place, {MANIFEST_NAME: format_manifest(manifest, key)})
    return Exported(report, len(manifest.files), facts)


def describe_export(scope: Scope, log: LogRead, key: SigningKey) -> dict[str, str]:
    """What manifest and report say about the export, by name."""
    return {
        "tenant": scope.trust.tenant,
        "log": scope.trust.origin,
        "from": scope.period.first.isoformat(),
        "to": scope.period.last.isoformat(),
        "generated": format_time(scope.generated_at_ms),
        "auditor": scope.exporter,
        "auditor_key_id": key.key_id.hex(),
        "log_size": str(log.size),
        "log_root": log.root_hash.hex(),
        "seed": scope.seed,
        "sample_size": str(scope.sample_size),
        "deadline_business_days": str(scope.deadline_days),
        "tool": f"consentry-auditor {version('consentry')}",
    }


def _refuse_identifiers(place: Path, scope: Scope, progress: Progress) -> None:
    """No text of ours can hold one, since all are masked: whatever is found here is a defect, and nothing is exported."""
    found = [path for path, kind, _ in scan_folder(place, scope.finder, progress) if not _is_supplied(path, kind)]
    if found:
        raise EvidenceHoldsIdentifiers(f"an identifier in clear in {len(found)} files that were to be exported")


def _is_supplied(path: str, kind: str) -> bool:
    """A supplied file may hold its authors' addresses, which the report notes; a known identifier was kept out before."""
    return path.startswith("supplied/") and not kind.startswith("known")


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise EvidenceExists("--out: exists already; evidence is never written over")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets its name when everything in it is on the disk; a kill leaves one that begins with a dot."""
    place = out.parent / f".{out.name}.{secrets.token_hex(8)}.partial"
    try:
        place.mkdir(mode=_DIRECTORY_MODE)
        try:
            yield place
            _sync_directory(place)
            _refuse_existing(out)
            place.rename(out)
            _sync_directory(out.parent)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    except OSError as error:
        raise EvidenceUnwritable(f"--out: {error.strerror}") from None


def _write_files(place: Path, files: Mapping[str, bytes]) -> None:
    for name, content in sorted(files.items()):
        path = place / name
        path.parent.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for directory in {(place / name).parent for name in files}:
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
