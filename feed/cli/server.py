"""`consentry-feed init`, `serve`, `show-config` and `status`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from feed.cli.session import CALL_TIMEOUT_SECONDS, EXIT_USAGE, ConfigOption, JsonOption, connected, fail, load


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="New folder for keys, trust file, certificates and settings.")
    ],
    tenant: Annotated[str, typer.Option(help="Name of the tenant.")] = "demo",
    origin: Annotated[str, typer.Option(help="Name of the log: a domain of yours and a path.")] = "consent.example/log",
    sidecar: Annotated[str, typer.Option(help="Name of the first sidecar.")] = "sidecar-1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 on which the feed serves sidecars.")
    ] = 7740,
) -> None:
    """Set up a feed and its first sidecar for development: keys, a trust file, certificates and settings.

    Example: consentry-feed init ./trial && consentry-feed serve -c ./trial/feed/feed.yaml
    """
    from consent.eventlog.errors import EventLogError
    from feed.errors import FeedError
    from feed.setup import Installation, set_up
    from hosting.errors import HostingError

    target = directory.absolute()
    try:
        set_up(Installation(target, tenant, origin, sidecar, port))
    except (FeedError, HostingError, EventLogError) as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    typer.echo(
        f"Created {directory} for development on this host. The keys in it are secret; back up trust/root.key elsewhere."
    )
    typer.echo("Next:")
    typer.echo(f"  consentry-feed serve -c {directory}/feed/feed.yaml")
    typer.echo(f"  consentry-feed policy publish default -c {directory}/feed/feed.yaml")
    typer.echo(f"  consentry-sidecar serve -c {directory}/sidecar/sidecar.yaml")
    typer.echo(f"  export CONSENTRY_ADDRESS=unix://{target}/run/sidecar.sock")
    typer.echo(f"  export CONSENTRY_INTAKE_ADDRESS=unix://{target}/run/intake-web.sock")


def serve(config: ConfigOption = None) -> None:
    """Keep the log, take requests and send entries to sidecars, until SIGTERM or Ctrl-C.

    Example: consentry-feed serve --config feed.yaml
    """
    settings = load(config)
    from consent.eventlog.errors import EventLogError
    from feed.errors import FeedError
    from feed.runtime import serve as run
    from hosting.errors import HostingError
    from hosting.logs import configure_logging

    configure_logging(settings.log.level, sys.stderr, settings.log.format)
    try:
        asyncio.run(run(settings))
    except (FeedError, HostingError, EventLogError) as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)


def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, defaults included, and check them."""
    from hosting.settings import render_settings

    typer.echo(render_settings(load(config)), nl=False)


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask a running feed what it holds, whether it takes requests, and how far each sidecar has come.

    Example: consentry-feed status -c feed.yaml --json
    """
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    with connected(load(config).admin_address) as channel:
        stub = intake_pb2_grpc.PolicyServiceStub(channel)
        response = stub.GetFeedStatus(intake_pb2.GetFeedStatusRequest(), timeout=CALL_TIMEOUT_SECONDS)
    fields: dict[str, object] = {
        "tenant": response.tenant,
        "log_origin": response.log_origin,
        "log_size": response.log_size,
        "root_hash": response.root_hash.hex(),
        "policy_version": response.policy_version,
        "version": response.version,
        "intake": "open",
    }
    if response.HasField("intake_stop"):
        stop = response.intake_stop
        fields["intake"] = "stopped"
        fields["lost_entries"] = f"{stop.first_lost_seq} to {stop.last_lost_seq}"
        fields["lost_entries_are_held_by"] = stop.sidecar_id or "a sidecar, as an earlier process was told"
    sidecars: list[dict[str, object]] = [
        {
            "sidecar_id": sidecar.sidecar_id,
            "connected": sidecar.connected,
            "acknowledged_size": sidecar.acknowledged_size,
            "acknowledged_at_ms": sidecar.acknowledged_at_ms,
            "last_nack_reason": sidecar.last_nack_reason or None,
        }
        for sidecar in response.sidecars
    ]
    if as_json:
        typer.echo(json.dumps({**fields, "sidecars": sidecars}))
        return
    _print_tables(fields, sidecars)


def _print_tables(fields: dict[str, object], sidecars: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, table = Console(), Table(show_header=False)
    for name, value in fields.items():
        table.add_row(name, str(value))
    console.print(table)
    if not sidecars:
        console.print("No sidecar has acknowledged anything yet.")
        return
    fleet = Table(*(name.replace("_", " ") for name in sidecars[0]))
    for sidecar in sidecars:
        fleet.add_row(*("-" if value is None else str(value) for value in sidecar.values()))
    console.print(fleet)
