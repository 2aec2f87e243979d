"""The command `consentry-auditor`."""

import typer

from auditor.cli.evidence import evidence, verify_evidence
from auditor.cli.export import export_records
from auditor.cli.fetch import fetch
from auditor.cli.keys import init, keys_app, show_config
from auditor.cli.reconcile import reconcile_decisions
from auditor.cli.replay import replay_decisions
from auditor.cli.session import EXIT_NOT_CHECKED
from auditor.cli.trail import trail
from auditor.cli.verify import verify
from hosting.command_line import run_command_line

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
app.command("replay")(replay_decisions)
app.command("reconcile")(reconcile_decisions)
app.command("export")(export_records)
app.command()(evidence)
app.command("verify-evidence")(verify_evidence)


def main() -> None:
    """Run the command."""
    run_command_line(app, "consentry-auditor", EXIT_NOT_CHECKED)
