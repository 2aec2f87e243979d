"""What the commands share: settings, the socket to a running feed, and how a command ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    import grpc

    from feed.config import FeedSettings

CONFIG_VARIABLE = "CONSENTRY_FEED_CONFIG"
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
CALL_TIMEOUT_SECONDS = 30.0

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="YAML file with the settings."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for a script.")]


def load(config: Path | None) -> "FeedSettings":
    """The settings, or the end of the command with what is wrong with them."""
    from feed.config import ENV_PREFIX, FeedSettings
    from hosting.errors import SettingsError
    from hosting.settings import load_settings

    others = frozenset({CONFIG_VARIABLE})
    try:
        return load_settings(
            FeedSettings, file=config, env_prefix=ENV_PREFIX, environ=os.environ, other_variables=others
        )
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)


@contextmanager
def connected(address: str) -> Iterator["grpc.Channel"]:
    """A channel to a running feed; what it refuses ends the command with its reason."""
    import grpc

    # A document of the largest size, and its frame.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            _fail_call(error, address)


def _fail_call(error: "grpc.RpcError", address: str) -> NoReturn:
    import grpc

    if not isinstance(error, grpc.Call):
        raise error
    from hosting.grpc_errors import REASON_KEY

    # A feed that answers gives a reason of its own; gRPC alone says UNAVAILABLE where nobody does.
    is_answered = any(key == REASON_KEY for key, _ in error.trailing_metadata() or ())
    if not is_answered and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        path = Path(address.removeprefix("unix://"))
        hint = (
            ""
            if path.exists()
            else "; the socket does not exist: is `consentry-feed serve` running with these settings?"
        )
        fail(f"no feed answers at {address}{hint}", EXIT_UNREACHABLE)
    fail(error.details() or error.code().name, EXIT_REFUSED)


def read_text(path: Path) -> str:
    """A text file, or the end of the command with why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 at byte {error.start}", EXIT_USAGE)
    except OSError as error:
        fail(f"{path}: {error.strerror}", EXIT_USAGE)


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(f"consentry-feed: {message}", err=True)
    raise typer.Exit(code)
