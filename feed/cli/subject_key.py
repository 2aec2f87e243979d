"""`consentry-feed rotate-subject-key`: a new key epoch."""

import json
import sys
import time
from typing import Annotated

import typer

from feed.cli.session import CALL_TIMEOUT_SECONDS, EXIT_REFUSED, ConfigOption, JsonOption, connected, fail, load

REKEY_TIMEOUT_SECONDS = 3600.0
"""Tens of seconds for a million people; a feed that takes longer than this has stopped."""


def rotate_subject_key(
    config: ConfigOption = None,
    number: Annotated[
        int | None,
        typer.Option("--epoch", min=1, metavar="N", help="The epoch to begin; one that began before changes nothing."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Begin a new key epoch: a new subject key, and everybody under new tokens, at the feed and at every sidecar.

    The feed makes subject-N.key beside its other keys, or takes the one that is there. Requests wait while it works. Keep every subject
    key: a new one works on the tokens of those before. Example: consentry-feed rotate-subject-key -c feed.yaml
    """
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    with connected(load(config).admin_address) as channel:
        stub = intake_pb2_grpc.SubjectServiceStub(channel)
        current = stub.GetKeyEpoch(intake_pb2.GetKeyEpochRequest(), timeout=CALL_TIMEOUT_SECONDS).epoch
        epoch = number or current + 1
        if not yes:
            _confirm(epoch)
        typer.echo(f"Beginning key epoch {epoch} ...", err=True)
        started = time.monotonic()
        request = intake_pb2.BeginKeyEpochRequest(epoch=epoch)
        response = stub.BeginKeyEpoch(request, timeout=REKEY_TIMEOUT_SECONDS)
        seconds = time.monotonic() - started
    token = f"{response.token.origin}:{response.token.seq}"
    if as_json:
        fields = {"epoch": response.epoch, "token": token, "subjects": response.subject_count, "seconds": seconds}
        typer.echo(json.dumps(fields))
        return
    if not response.token.seq:
        typer.echo(f"Key epoch {response.epoch} had begun before; nothing changed.")
        return
    typer.echo(
        f"Key epoch {response.epoch} began with entry {token}: {response.subject_count} tokens in {seconds:.1f} s"
    )
    typer.echo(f"Back up subject-{response.epoch}.key now: without it nobody is found under the new tokens.")


def _confirm(epoch: int) -> None:
    if not sys.stdin.isatty():
        fail("a new key epoch cannot be taken back; repeat with --yes to begin it", EXIT_REFUSED)
    typer.confirm(f"Begin key epoch {epoch}? It cannot be taken back.", abort=True, err=True)
