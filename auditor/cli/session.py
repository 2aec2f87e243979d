"""What the commands share: settings, the folder that they read, and how a command ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from auditor.cli.output import OutputFormat, shown_progress

if TYPE_CHECKING:
    from auditor.config import AuditorSettings
    from auditor.fetch import FetchReport
    from auditor.findings import Findings
    from auditor.folder import AuditFolder
    from auditor.journals import AuditorKey
    from auditor.keys import AuditorKeys

CONFIG_VARIABLE = "CONSENTRY_AUDITOR_CONFIG"
EXIT_FINDINGS = 1
EXIT_NOT_CHECKED = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="YAML file with the settings."),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        "-f",
        metavar="DIR",
        help="Audit folder, as `consentry-auditor fetch` makes it; else as the settings say.",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        "-k",
        metavar="FILE",
        help="The auditor's own key, as `consentry-auditor keys create` makes it; else as the settings say.",
    ),
]
FetchOption = Annotated[bool, typer.Option("--fetch", help="First fetch what is new into the folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV for a program.")]


def load(config: Path | None) -> "AuditorSettings":
    """The settings, or the end of the command with what is wrong with them."""
    from auditor.config import ENV_PREFIX, AuditorSettings
    from hosting.errors import SettingsError
    from hosting.settings import load_settings

    try:
        return load_settings(
            AuditorSettings,
            file=config,
            env_prefix=ENV_PREFIX,
            environ=os.environ,
            other_variables=frozenset({CONFIG_VARIABLE}),
        )
    except SettingsError as error:
        fail(str(error))


def open_audit(
    config: Path | None,
    folder: Path | None,
    key: Path | None,
    *,
    fetch_first: bool = False,
    output_format: OutputFormat = OutputFormat.PEOPLE,
) -> "AuditFolder":
    """The folder that options or settings name, with the auditor's key if there is one; or the end of the command."""
    from auditor.folder import open_folder

    settings = load(config)
    keys = load_keys(settings, key)
    path, sealing = find_folder(settings, folder), None if keys is None else keys.sealing
    with checking():
        if fetch_first:
            fetch_into(settings, path, sealing, output_format)
        return open_folder(path, sealing)


def fetch_into(
    settings: "AuditorSettings", folder: Path, key: "AuditorKey | None", output_format: OutputFormat
) -> "FetchReport":
    """Fetch what is new; where a source cannot be read to its end, the command ends too: it would judge half of the matter."""
    from auditor.fetch import fetch

    if settings.feed is None and not settings.sidecars:
        fail("the settings name neither a feed nor a sidecar to fetch from")
    with shown_progress(output_format) as progress:
        report = fetch(settings, folder, key, progress=progress)
    for failure in report.failures:
        typer.echo(f"consentry-auditor: {failure}", err=True)
    if report.failures:
        raise typer.Exit(EXIT_NOT_CHECKED)
    return report


def find_folder(settings: "AuditorSettings", folder: Path | None) -> Path:
    """The audit folder that the option or the settings name, or the end of the command."""
    found = folder or settings.folder
    if found is None:
        fail("--folder is missing, and the settings name none either")
    return found


def load_keys(settings: "AuditorSettings", key: Path | None) -> "AuditorKeys | None":
    """The auditor's own key, None where neither the option nor the settings name one; or the end of the command."""
    from auditor.keys import DEFAULT_NAME, load_auditor_key, read_public_name

    path = key or settings.key_file
    if path is None:
        return None
    with checking():
        return load_auditor_key(path, settings.name or read_public_name(path) or DEFAULT_NAME)


@contextmanager
def checking() -> Iterator[None]:
    """Let what keeps the auditor from looking end the command with its reason."""
    from auditor.errors import AuditorError
    from hosting.errors import HostingError

    try:
        yield
    except (AuditorError, HostingError) as error:
        fail(f"{error.reason}: {error}")
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or 'cannot be read or written'}")


def end(findings: "Findings") -> None:
    """End the command with the exit code for what was found."""
    if not findings.is_clean:
        raise typer.Exit(EXIT_FINDINGS)


def fail(message: str) -> NoReturn:
    """End the command, which could not check, with a message on standard error."""
    typer.echo(f"consentry-auditor: {message}", err=True)
    raise typer.Exit(EXIT_NOT_CHECKED)
