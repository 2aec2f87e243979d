"""`consentry-auditor fetch`: everything that an audit reads, copied into a folder."""

from pathlib import Path
from typing import Annotated

import typer

from auditor.cli.output import Report, choose_format, print_report
from auditor.cli.session import (
    ConfigOption,
    CsvOption,
    FolderOption,
    JsonOption,
    KeyOption,
    checking,
    end,
    fetch_into,
    find_folder,
    load,
    load_keys,
)

_NoKeysOption = Annotated[
    bool, typer.Option("--no-keys", help="Ask for no segment keys: chains can be verified, records cannot be read.")
]


def fetch(
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    no_keys: _NoKeysOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Copy the log and every journal into the audit folder, byte for byte; what is there already is not fetched again.

    Nothing is verified yet. It may be stopped at any time, and run again. Exit codes: 0 all fetched; 1 a source gives something else
    than it had given before; 2 a source could not be read. Example: consentry-auditor fetch -c auditor.yaml
    """
    output_format = choose_format(as_json=as_json, as_csv=as_csv)
    settings = load(config)
    path: Path = find_folder(settings, folder)
    keys = None if no_keys else load_keys(settings, key)
    with checking():
        report = fetch_into(settings, path, None if keys is None else keys.sealing, output_format)
    figures = {
        "new_entries": report.entries,
        "log_size": report.log_size,
        "segments_grown": report.segments,
        "journal_bytes": report.journal_bytes,
        "segment_keys": report.keys,
    }
    print_report(Report(f"Fetched into {path}", figures, report.findings), output_format)
    end(report.findings)
