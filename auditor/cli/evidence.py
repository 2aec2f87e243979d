"""`evidence` makes an evidence folder, `verify-evidence` checks one."""

import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from auditor.cli.output import OutputFormat, Report, Table, choose_format, print_report, shown_progress
from auditor.cli.session import (
    ConfigOption,
    FetchOption,
    FolderOption,
    JsonOption,
    KeyOption,
    checking,
    end,
    fail,
    load,
    load_keys,
    open_audit,
)
from auditor.findings import Findings

if TYPE_CHECKING:
    from auditor.evidence.export import Exported
    from auditor.evidence.scope import Check
    from auditor.progress import Progress
    from consent.eventlog.keys import VerifierKey

_SEED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def evidence(  # noqa: PLR0913, PLR0917 - an option each
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First day, YYYY-MM-DD (UTC).")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last day; it belongs to the period.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make; it must not exist.")],
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
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
    skip_checks: Annotated[
        bool,
        typer.Option(
            "--skip-checks", help="Leave `verify`, `replay` and `reconcile` out; the report names them as open."
        ),
    ] = False,
    fetch_first: FetchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a folder of evidence by controls of ISO/IEC 27001:2022: a report to print, files for programs, a signed list of all.

    Exit codes: 0 clean; 1 findings; 2 could not check, and no folder was made.
    Example: consentry-auditor evidence -c auditor.yaml --from 2026-01-01 --to 2026-03-31 --out evidence-2026-q1
    """
    from auditor.evidence.export import export_evidence
    from auditor.evidence.masking import IdentifierFinder, read_known_identifiers
    from auditor.evidence.period import Period
    from auditor.evidence.scope import Scope
    from auditor.evidence.supplied import parse_supplied

    output_format = choose_format(as_json=as_json, as_csv=False)
    keys = load_keys(load(config), key)
    if keys is None:
        fail("--key is missing, and the settings name none either: it signs the evidence")
    with checking():
        period, known = Period.parse(first, last), read_known_identifiers(known_identifiers)
        supplied = parse_supplied(supply or [], supplied_by or [], keys.signing.name)
        seed_text, generated_at_ms = _parse_seed(seed), _parse_time(generated_at)
    opened = open_audit(config, folder, key, fetch_first=fetch_first, output_format=output_format)
    with checking(), shown_progress(output_format) as progress:
        scope = Scope(
            trust=opened.trust,
            period=period,
            seed=seed_text,
            generated_at_ms=generated_at_ms,
            exporter=keys.signing.name,
            finder=IdentifierFinder(known),
            sample_size=sample_size,
            deadline_days=deadline_days,
            supplied=supplied,
            certificates=certificates,
            checks={} if skip_checks else _checks(load(config).silent_seconds, progress),
        )
        exported = export_evidence(opened, scope, keys.signing, out, progress)
    findings = Findings()
    is_for_people = output_format is OutputFormat.PEOPLE
    # On a terminal notes would push what matters out of sight; they stand in the report.
    findings.add(*(found for found in exported.report.findings() if not is_for_people or found.severity != "note"))
    print_report(_describe(exported, out, findings, output_format), output_format)
    end(findings)


def verify_evidence(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Evidence folder.")],
    public_key: Annotated[
        str,
        typer.Option("--public-key", metavar="KEY", help="The auditor's `.pub` file, or its verifier key as text."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check an evidence folder: the signature of its list, every file, every proof and signature of its samples.

    Get the auditor's public key from the auditor, not from whoever hands you the folder.
    Exit codes: 0 as signed; 1 not as signed; 2 could not check. Example: consentry-auditor verify-evidence DIR --public-key jane.pub
    """
    from auditor.evidence.manifest import open_manifest, read_manifest_file, verify_files
    from auditor.evidence.samples import verify_samples

    output_format = choose_format(as_json=as_json, as_csv=False)
    findings = Findings()
    with checking():
        manifest = open_manifest(read_manifest_file(directory), _parse_public_key(public_key))
        findings.add(*verify_files(directory, manifest))
        # Samples of changed files would only say the same again.
        if findings.is_clean:
            findings.add(*verify_samples(directory))
    state = "as signed" if findings.is_clean else "not as signed"
    title = f"{directory}: {len(manifest.files)} files, {state} by {manifest.facts.get('auditor', '')}"
    print_report(Report(title, dict(manifest.facts), findings), output_format)
    end(findings)


def _checks(silent_seconds: float, progress: "Progress") -> "dict[str, Check]":
    """What is run over the same folder, by name."""
    from auditor.reconcile.run import reconcile
    from auditor.replay.run import replay
    from auditor.verify import verify_folder

    return {
        "verify": lambda opened: (
            verify_folder(opened, silent_seconds=silent_seconds, progress=progress).findings.listed
        ),
        "replay": lambda opened: replay(opened, progress=progress).findings.listed,
        "reconcile": lambda opened: reconcile(opened, progress=progress).findings.listed,
    }


def _describe(exported: "Exported", out: Path, findings: Findings, output_format: OutputFormat) -> Report:
    rows = []
    for section in exported.report:
        serious = sum(finding.severity == "finding" for finding in section.findings)
        notes = len(section.findings) - serious
        rows.append((", ".join(section.spec.controls), serious, notes, len(section.open_points)))
    figures = dict(exported.facts) if output_format is OutputFormat.JSON else {"seed": exported.facts["seed"]}
    table = Table("Controls", ("controls", "findings", "notes", "open"), rows)
    title = f"Wrote {out}: {exported.files} files, signed; read report.html there"
    return Report(title, {"files": exported.files, **figures}, findings, (table,))


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
    """A verifier key as text, or that of an auditor's public key file."""
    from auditor.evidence.errors import EvidenceUnreadable
    from consent.eventlog.errors import MalformedKey
    from consent.eventlog.keys import parse_verifier_key
    from journal.auditor_key import parse_auditor_key
    from journal.errors import MalformedAuditorKey

    try:
        if "+" in text:
            return parse_verifier_key(text)
        return parse_auditor_key(Path(text).read_text(encoding="utf-8")).verifier_key
    except (MalformedKey, MalformedAuditorKey) as error:
        raise EvidenceUnreadable(f"--public-key: {error}") from None
    except (OSError, UnicodeDecodeError):
        raise EvidenceUnreadable("--public-key: no key, and no file that can be read") from None
