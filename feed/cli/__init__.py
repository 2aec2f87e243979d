"""The command `consentry-feed`."""

import typer

from feed.cli.auditing import replay_keys, resolve
from feed.cli.backup import accept_log, backup, drill, restore, resume_intake
from feed.cli.erase import erase
from feed.cli.imports import import_file
from feed.cli.keys import keys_app
from feed.cli.policy import policy_app
from feed.cli.record import record_app
from feed.cli.server import init, serve, show_config, status
from feed.cli.session import EXIT_USAGE
from feed.cli.sidecars import fleet, sidecars_app
from feed.cli.subject_key import rotate_subject_key
from feed.cli.trail import trail, verify_trail
from feed.cli.verification import verify_log
from hosting.command_line import run_command_line

app = typer.Typer(
    name="consentry-feed",
    help=(
        "The centre: takes what people say about their data, keeps it in a signed, gap-free log, and sends it to every sidecar."
        " Settings come from a YAML file and CONSENTRY_FEED_* variables (docs/configuration.md)."
    ),
    epilog="Exit codes: 0 done; 1 refused, or rows were refused; 2 wrong settings or usage; 3 the feed cannot be reached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(init)
app.command()(serve)
app.command("show-config")(show_config)
app.command()(status)
app.command("import")(import_file)
app.command()(fleet)
app.command()(trail)
app.command("verify-trail")(verify_trail)
app.add_typer(sidecars_app, name="sidecars")
app.command()(erase)
app.command("rotate-subject-key")(rotate_subject_key)
app.command("verify-log")(verify_log)
app.add_typer(keys_app, name="keys")
app.command("replay-keys")(replay_keys)
app.command()(resolve)
app.command()(backup)
app.command()(restore)
app.command()(drill)
app.command("accept-log")(accept_log)
app.command("resume-intake")(resume_intake)
app.add_typer(policy_app, name="policy")
app.add_typer(record_app, name="record")


def main() -> None:
    """Run the command."""
    run_command_line(app, "consentry-feed", EXIT_USAGE)
