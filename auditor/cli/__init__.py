"""The command `consentry-auditor`."""

import typer

from auditor.cli.export import export_records
from auditor.cli.reconcile import reconcile_decisions
from auditor.cli.replay import replay_decisions

app = typer.Typer(
    name="consentry-auditor",
    help="Verifies event log and decision journals without trusting whoever runs them, explains decisions, and makes evidence.",
    epilog="Exit codes: 0 clean; 1 findings; 2 could not check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.command("replay")(replay_decisions)
app.command("reconcile")(reconcile_decisions)
app.command("export")(export_records)


@app.callback()
def _program() -> None:
    """Keep commands as commands while there is one of them only."""


def main() -> None:
    """Run the command."""
    app(prog_name="consentry-auditor")
