"""`consentry-auditor verify`: log and journals, offline."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli.output import Report, choose_format, print_report, shown_progress
from auditor.cli.session import (
    ConfigOption,
    CsvOption,
    FetchOption,
    FolderOption,
    JsonOption,
    KeyOption,
    checking,
    end,
    load,
    open_audit,
)

if TYPE_CHECKING:
    from auditor.verify import VerifyReport


def verify(
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    silent_seconds: Annotated[
        float | None,
        typer.Option(
            "--silent-seconds", min=1, help="How long a sidecar may make no signed head; else as the settings say."
        ),
    ] = None,
    fetch_first: FetchOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Verify the log and every journal of an audit folder, from its files and the public keys in its trust file alone.

    With the auditor's key every record is read too; without, the chains are held against the signed heads in the log. A finding names
    the first bad entry, head, segment, frame or record; a note is what a crash leaves, or a disposal. Nothing is written.
    Exit codes: 0 clean; 1 findings; 2 could not check. Example: consentry-auditor verify -f audits/2026/audit -k auditor.key
    """
    from auditor.verify import verify_folder

    output_format = choose_format(as_json=as_json, as_csv=as_csv)
    opened = open_audit(config, folder, key, fetch_first=fetch_first, output_format=output_format)
    started = time.monotonic()
    with checking(), shown_progress(output_format) as progress:
        limit = silent_seconds or load(config).silent_seconds
        report = verify_folder(opened, silent_seconds=limit, progress=progress)
    seconds = time.monotonic() - started
    title = f"Verified {opened.path} ({opened.trust.origin}) in {seconds:.1f} s"
    print_report(Report(title, _figures(report), report.findings), output_format)
    end(report.findings)


def _figures(report: "VerifyReport") -> dict[str, object]:
    signed = report.log.checkpoint
    return {
        "log_entries": report.log.entries,
        "signed_size": signed.size if signed else None,
        "signed_root_hash": signed.root_hash if signed else None,
        "signed_at_ms": report.log.time_ms if signed else None,
        "journal_heads": report.log.heads,
        "sidecars": len(report.sidecars),
        "chains": report.chains,
        "segments": report.segments,
        "frames": report.frames,
        "decisions": report.decisions,
        "journal_bytes": report.size_bytes,
        "records_read": report.is_opened,
    }
