"""The command `consentry-witness`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from witness.config import WitnessSettings

CONFIG_VARIABLE = "CONSENTRY_WITNESS_CONFIG"
EXIT_USAGE = 2

app = typer.Typer(
    name="consentry-witness",
    help=(
        "Cosigns a log's checkpoints as long as it sees the log only grow, so that nobody can show two histories to two parties."
        " Run it on another machine, by other people than the feed's. Any log that speaks c2sp.org/tlog-witness can use it."
    ),
    epilog="Exit codes: 0 done; 2 wrong settings or usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="YAML file with the settings."),
]


@app.command()
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="New folder for the key, the memory and the settings.")
    ],
    name: Annotated[str, typer.Option(help="Name of the witness: a domain of yours and a path.")] = "witness.example/1",
    origin: Annotated[str, typer.Option(help="Name of the log to watch.")] = "consent.example/log",
    log_key: Annotated[
        list[str] | None, typer.Option(help="Key of that log, as its trust file shows it; may be given twice.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 to serve on.")] = 7750,
) -> None:
    """Make a witness's key, its empty memory and its settings, and print the key that trust files and the feed need.

    Example: consentry-witness init ./witness --origin consent.example/log --log-key "$(cat trust/log.pub)"
    """
    from consent.eventlog.errors import EventLogError
    from hosting.errors import HostingError
    from witness.errors import WitnessError
    from witness.setup import set_up

    try:
        public_key = set_up(directory.absolute(), name, origin, log_key or [], port)
    except (WitnessError, HostingError, EventLogError) as error:
        _fail(f"{error.reason}: {error}")
    typer.echo(public_key)
    typer.echo("Give this key to the feed (`witnesses`) and into the trust file (`witness_keys`). Next:", err=True)
    typer.echo(f"  consentry-witness serve -c {directory}/witness.yaml", err=True)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Cosign until SIGTERM or Ctrl-C.

    Example: consentry-witness serve --config witness.yaml
    """
    settings = _load(config)
    from consent.eventlog.errors import EventLogError
    from hosting.errors import HostingError
    from hosting.logs import configure_logging
    from witness.errors import WitnessError
    from witness.runtime import serve as run

    configure_logging(settings.log.level, sys.stderr, settings.log.format)
    try:
        run(settings)
    except (WitnessError, HostingError, EventLogError) as error:
        _fail(f"{error.reason}: {error}")


@app.command("show-config")
def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, defaults included, and check them."""
    from hosting.settings import render_settings

    typer.echo(render_settings(_load(config)), nl=False)


def main() -> None:
    """Run the command."""
    app(prog_name="consentry-witness")


def _load(config: Path | None) -> "WitnessSettings":
    from hosting.errors import SettingsError
    from hosting.settings import load_settings
    from witness.config import ENV_PREFIX, WitnessSettings

    others = frozenset({CONFIG_VARIABLE})
    try:
        return load_settings(
            WitnessSettings, file=config, env_prefix=ENV_PREFIX, environ=os.environ, other_variables=others
        )
    except SettingsError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)
