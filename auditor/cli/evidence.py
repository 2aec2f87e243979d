"""`evidence` makes an evidence folder, `verify-evidence` checks one."""

import json
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from auditor.cli.session import EXIT_CLEAN, EXIT_FINDINGS, FolderOption, JsonOption, fail

if TYPE_CHECKING:
    from auditor.evidence.model import Report
    from auditor.evidence.scope import Advance
    from auditor.findings import Finding
    from consent.eventlog.keys import VerifierKey

_SEED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_SHOWN: Final = 20


def evidence(  # noqa: PLR0913, PLR0917 - an option each
    folder: FolderOption,
    key_file: Annotated[
        Path, typer.Option("--key", "-k", metavar="FILE", help="The auditor's own key; it signs the manifest.")
    ],
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First day, YYYY-MM-DD (UTC).")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last day; it belongs to the period.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make; it must not exist.")],
    name: Annotated[str, typer.Option("--name", help="Name of the auditor, as at `keys create`.")] = "auditor",
    seed: Annotated[
        str | None, typer.Option("--seed", help="Seed of the samples; without it one is drawn and recorded.")
    ] = None,
    sample_size: Annotated[
        int, typer.Option("--sample-size", min=1, max=1000, help="Items drawn from each population.")
    ] = 25,
    deadline_days: Annotated[
        int, typer.Option("--deadline-days", min=0, max=366, help="Business days for an opt-out to be in force.")
    ] = 10,
    generated_at: Annotated[
        str | None,
        typer.Option("--generated-at", metavar="TIME", help="Time that the export names, YYYY-MM-DDTHH:MM:SSZ."),
    ] = None,
    supply: Annotated[
        list[str] | None,
        typer.Option(
            "--supply",
            metavar="NAME=FILE",
            help="A file to put in: sbom, vulnerabilities, drill, conformance, access-review, incidents, internal-checks, procedures.",
        ),
    ] = None,
    supplied_by: Annotated[
        list[str] | None, typer.Option("--supplied-by", metavar="NAME=WHO", help="Who vouches for it.")
    ] = None,
    certificates: Annotated[
        Path | None, typer.Option("--certificates", metavar="DIR", help="Folder with certificates (PEM) to judge.")
    ] = None,
    known_identifiers: Annotated[
        Path | None,
        typer.Option("--known-identifiers", metavar="FILE", help="Identifiers to search for, one a line; never shown."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a folder of evidence by controls of ISO/IEC 27001:2022, with a report to print and a signed list of its files."""
    from auditor.errors import AuditorError
    from auditor.evidence.export import export_evidence
    from auditor.evidence.masking import IdentifierFinder, read_known_identifiers
    from auditor.evidence.period import Period
    from auditor.evidence.scope import Scope
    from auditor.evidence.supplied import parse_supplied
    from auditor.folder import open_folder
    from auditor.keys import load_auditor_key
    from consent.eventlog.errors import EventLogError
    from hosting.errors import KeyFileError

    try:
        keys = load_auditor_key(key_file, name)
        opened = open_folder(folder, keys.sealing)
        known = read_known_identifiers(known_identifiers) if known_identifiers else []
        scope = Scope(
            trust=opened.trust,
            period=Period.parse(first, last),
            seed=_parse_seed(seed),
            generated_at_ms=_parse_time(generated_at),
            exporter=name,
            finder=IdentifierFinder(known),
            sample_size=sample_size,
            deadline_days=deadline_days,
            supplied=parse_supplied(supply or [], supplied_by or [], name),
            certificates=certificates,
        )
        with _Bar(is_shown=not as_json) as bar:
            exported = export_evidence(opened, scope, keys.signing, out, bar.advance)
    except (AuditorError, KeyFileError, EventLogError) as error:
        fail(f"{error.reason}: {error}")
    if as_json:
        typer.echo(json.dumps(_summarise(exported.report) | {"files": exported.files, "facts": dict(exported.facts)}))
    else:
        _print_report(exported.report, exported.files, exported.facts["seed"])
    raise typer.Exit(EXIT_CLEAN if exported.report.is_clean else EXIT_FINDINGS)


def verify_evidence(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Evidence folder.")],
    public_key: Annotated[
        str,
        typer.Option(
            "--public-key", metavar="KEY", help="The auditor's public key (`NAME+...`), or a file that holds it."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check an evidence folder: the signature of its list, every file, every proof and signature of its samples."""
    from auditor.errors import AuditorError
    from auditor.evidence.manifest import open_manifest, read_manifest_file, verify_files
    from auditor.evidence.samples import verify_samples

    try:
        manifest = open_manifest(read_manifest_file(directory), _parse_public_key(public_key))
        findings = list(verify_files(directory, manifest))
        # Samples of changed files would only say the same again.
        findings += [] if findings else list(verify_samples(directory))
    except AuditorError as error:
        fail(f"{error.reason}: {error}")
    if as_json:
        rows = [finding._asdict() for finding in findings]
        typer.echo(json.dumps({"facts": dict(manifest.facts), "files": len(manifest.files), "findings": rows}))
    else:
        _print_findings(findings)
        state = "not as signed" if findings else "all as signed"
        typer.echo(f"{len(manifest.files)} files, {state} by {manifest.facts.get('auditor', '')}")
    raise typer.Exit(EXIT_FINDINGS if findings else EXIT_CLEAN)


class _Bar:
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self, *, is_shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        is_drawn = is_shown and sys.stderr.isatty()
        self._progress = Progress(console=Console(stderr=True), transient=True, disable=not is_drawn)
        self._task = self._progress.add_task("")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def advance(self) -> "Advance":
        """What an export tells its progress."""
        return lambda stage, done, total: self._progress.update(
            self._task, description=stage, completed=done, total=total or None
        )


def _parse_seed(seed: str | None) -> str:
    from auditor.evidence.errors import InvalidEvidenceOption

    if seed is None:
        return secrets.token_hex(16)
    if not _SEED.fullmatch(seed):
        raise InvalidEvidenceOption("--seed: must be 1 to 64 letters, digits, points, dashes or underscores")
    return seed


def _parse_time(text: str | None) -> int:
    from auditor.evidence.errors import InvalidEvidenceOption

    if text is None:
        return int(time.time()) * 1000
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        raise InvalidEvidenceOption("--generated-at: must be YYYY-MM-DDTHH:MM:SSZ") from None


def _parse_public_key(text: str) -> "VerifierKey":
    """A verifier key, or the last word of a file's first line, which is one in the auditor's public key file too."""
    from auditor.evidence.errors import EvidenceUnreadable
    from consent.eventlog.errors import MalformedKey
    from consent.eventlog.keys import parse_verifier_key

    if "+" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8").split("\n", 1)[0].split(" ")[-1]
        except (OSError, UnicodeDecodeError):
            raise EvidenceUnreadable("--public-key: no key, and no file that can be read") from None
    try:
        return parse_verifier_key(text.strip())
    except MalformedKey as error:
        raise EvidenceUnreadable(f"--public-key: {error}") from None


def _summarise(report: "Report") -> dict[str, object]:
    return {"open": report.open_count(), "findings": [finding._asdict() for finding in report.findings()]}


def _print_report(report: "Report", files: int, seed: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Evidence by control")
    for column in ("controls", "findings", "notes", "open"):
        table.add_column(column, justify="left" if column == "controls" else "right")
    for section in report:
        serious = sum(finding.severity == "finding" for finding in section.findings)
        style = "bold red" if serious else None
        notes, open_points = len(section.findings) - serious, len(section.open_points)
        table.add_row(", ".join(section.spec.controls), str(serious), str(notes), str(open_points), style=style)
    Console().print(table)
    _print_findings([finding for finding in report.findings() if finding.severity == "finding"])
    typer.echo(f"{files} files, signed; seed {seed}; open report.html")


def _print_findings(findings: "list[Finding]") -> None:
    for finding in findings[:_MAX_SHOWN]:
        where = ", ".join(part for part in (finding.sidecar_id, finding.place) if part)
        typer.echo(f"{finding.reason}: {finding.text}" + (f" ({where})" if where else ""))
    if len(findings) > _MAX_SHOWN:
        typer.echo(f"and {len(findings) - _MAX_SHOWN} more")
