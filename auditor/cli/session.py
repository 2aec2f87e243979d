"""What the commands share: the folder that they read, and how a command ends."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

EXIT_CLEAN = 0
EXIT_FINDINGS = 1
EXIT_NOT_CHECKED = 2

FolderOption = Annotated[
    Path,
    typer.Option("--folder", "-f", metavar="DIR", help="Audit folder, as `consentry-auditor fetch` makes it."),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", "-k", metavar="FILE", help="The auditor's own key, as `consentry-auditor keys create` makes it."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV for a program.")]


def fail(message: str) -> NoReturn:
    """End the command, which could not check, with a message on standard error."""
    typer.echo(f"consentry-auditor: {message}", err=True)
    raise typer.Exit(EXIT_NOT_CHECKED)
