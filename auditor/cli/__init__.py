"""The command `consentry-auditor`."""

import sys
from typing import Any

import typer

from auditor.cli.evidence import evidence, verify_evidence
from auditor.cli.fetch import fetch
from auditor.cli.keys import init, keys_app, show_config
from auditor.cli.session import EXIT_NOT_CHECKED
from auditor.cli.trail import trail
from auditor.cli.verify import verify

app = typer.Typer(
    name="consentry-auditor",
    help=(
        "Verifies event log and decision journals without trusting whoever runs them, explains decisions, and makes evidence."
        " Everything is read from an audit folder, which `fetch` fills or somebody copies. Settings come from a YAML file and"
        " CONSENTRY_AUDITOR_* variables (docs/configuration.md); options win."
    ),
    epilog="Exit codes: 0 clean; 1 findings; 2 could not check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(init)
app.add_typer(keys_app, name="keys")
app.command("show-config")(show_config)
app.command()(fetch)
app.command()(verify)
app.command()(trail)
app.command()(evidence)
app.command("verify-evidence")(verify_evidence)


def main() -> None:
    """Run the command.

    What is typed may be personal data, and the parser's own errors repeat it, so the parameter alone is named.
    """
    try:
        code = app(prog_name="consentry-auditor", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the process boundary: the text of an error may hold what was typed
        typer.echo(_describe(error), err=True)
        code = EXIT_NOT_CHECKED
    sys.exit(code if isinstance(code, int) else 0)


def _describe(error: Exception) -> str:
    # The parser's error classes have no public home, so they are told by what they carry.
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error)
    return f"consentry-auditor: {_name_fault(error)}"


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
