"""The command `consentry-auditor`."""

import typer

from auditor.cli.evidence import evidence, verify_evidence

app = typer.Typer(
    name="consentry-auditor",
    help="Verifies event log and decision journals without trusting whoever runs them, explains decisions, and makes evidence.",
    epilog="Exit codes: 0 clean; 1 findings; 2 could not check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(evidence)
app.command("verify-evidence")(verify_evidence)


@app.callback()
def _program() -> None:
    """Keep commands as commands while there is one of them only."""


def main() -> None:
    """Run the command."""
    app(prog_name="consentry-auditor")
