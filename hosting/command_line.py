"""Commands whose arguments may be personal data: the parser's own errors repeat what was typed, so the parameter alone is named."""

import sys
from typing import Any

import typer


def run_command_line(app: typer.Typer, program: str, misuse_code: int) -> None:
    """Run a program's commands and end the process with their exit code.

    Args:
        app: The commands.
        program: The program's name.
        misuse_code: Exit code for arguments that cannot be, and for an error that should not be.
    """
    try:
        code = app(prog_name=program, standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the process boundary: the text of an error may hold what was typed
        # The parser's error classes have no public home, so they are told by what they carry.
        is_help = type(error).__name__ == "NoArgsIsHelpError"
        typer.echo(str(error) if is_help else f"{program}: {_name_fault(error)}", err=True)
        code = misuse_code
    sys.exit(code if isinstance(code, int) else 0)


def _name_fault(error: Exception) -> str:
    if isinstance(error, typer.Abort):
        return "stopped"
    parameter: Any = getattr(error, "param", None)
    if parameter is not None:
        fault = "is missing" if type(error).__name__ == "MissingParameter" else "has a value that it cannot have"
        return f"{max(parameter.opts, key=len)} {fault}; see --help"
    if hasattr(error, "format_message"):
        return "an unknown command or option, or an argument too many; see --help"
    return f"an error that should not be: {type(error).__name__}"
