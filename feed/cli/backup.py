"""`consentry-feed backup`, `restore`, `drill`, `accept-log` and `resume-intake` (docs/operations.md)."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feed.cli.session import EXIT_REFUSED, ConfigOption, JsonOption, connected, fail, load

if TYPE_CHECKING:
    from feed.backup.opening import LogPlace
    from feed.backup.reading import Progress
    from feed.backup.restoring import RestoreSource


OutOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="The backup's file; replaced when it is whole.")]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="A backup; without one, the archive must go back to the first entry."),
]
ArchiveOption = Annotated[
    Path | None,
    typer.Option("--archive", metavar="DIR", help="The archive; default: event_log.archive_directory of the settings."),
]


def backup(
    out: OutOption,
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Read the log of a feed that is stopped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the whole log of a running feed to a file, sealed under its feed-kek, while it goes on.

    Example: consentry-feed backup --out /backup/log-monday.consentry -c feed.yaml
    """
    from feed.backup.files import write_pieces

    settings = load(config)
    with _progress() as progress, _explained():
        if offline:
            size = asyncio.run(_back_up_closed_log(_place(config), out, progress))
        else:
            with connected(settings.admin_address) as channel:
                size = write_pieces(out, _received(channel, progress))
    if as_json:
        typer.echo(json.dumps({"file": str(out), "log_size": size}))
        return
    typer.echo(
        f"Wrote {size} entries to {out}. It can be read with this feed's feed-kek.key only: keep that elsewhere."
    )


def restore(
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="New directory for the log; must be empty.")],
    backup_file: FromOption = None,
    archive: ArchiveOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the log anew from a backup and what the archive has beyond it; every entry is verified against the signed head.

    Nothing is restored that is older than the high-water mark. Example: consentry-feed restore --from FILE --into ./log.new -c feed.yaml
    """
    from feed.backup.restoring import restore as run
    from feed.log_store.high_water import Mark

    place = _place(config)
    with _progress() as progress, _explained():
        mark = place.marks.read()
        verified = asyncio.run(run(_source(place, backup_file, archive), into, mark, progress))
        place.marks.write(Mark(verified.size, verified.root_hash))
    if as_json:
        fields = {"directory": str(into), "log_size": verified.size, "root_hash": verified.root_hash.hex()}
        typer.echo(json.dumps({**fields, "from_archive": verified.size - verified.base_size}))
        return
    typer.echo(
        f"Restored {verified.size} entries to {into}, {verified.size - verified.base_size} of them beyond the backup. "
        "Put it in the place of event_log.directory and start the feed."
    )


def drill(
    backup_file: FromOption = None,
    archive: ArchiveOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore to a temporary directory, verify the whole log, and check that every opt-out after the backup is in force.

    Changes nothing, and the feed may run meanwhile. Exit code 1: a restore would lose something. Example: consentry-feed drill --from FILE
    """
    from feed.backup.drill import drill as run

    place = _place(config)
    with _progress() as progress, _explained():
        report = asyncio.run(run(_source(place, backup_file, archive), place.marks.read(), progress))
    fields: dict[str, object] = {
        "log_size": report.size,
        "root_hash": report.root_hash.hex(),
        "from_backup": report.backup_size,
        "from_archive": report.archived,
        "subjects": report.subjects,
        "opt_outs_after_backup": report.opt_outs_after_backup,
        "opt_outs_not_in_force": list(report.opt_outs_not_in_force),
        "passed": not report.opt_outs_not_in_force,
    }
    typer.echo(json.dumps(fields)) if as_json else _print_table(fields)
    if report.opt_outs_not_in_force:
        raise typer.Exit(EXIT_REFUSED)


def accept_log(
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Say so without being asked.")] = False,
) -> None:
    """Say that the log in event_log.directory is the newest one, where its high-water mark is gone or cannot be read.

    The feed must be stopped. A log that is behind a mark that can be read is never accepted: restore it.
    """
    with _explained():
        size = asyncio.run(_accept(_place(config), yes=yes))
    typer.echo(f"Accepted the log of {size} entries.")


def resume_intake(
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Resume without being asked.")] = False,
) -> None:
    """Let a running feed take requests again although a sidecar holds entries that the log has lost.

    What was lost stays lost, and sidecars that hold it are refused until they start from nothing. Restore the log if there is any way.
    """
    from consentry.intake.v1 import backup_pb2, backup_pb2_grpc

    _confirm("Entries that a sidecar holds are missing from this log. Go on without them?", yes=yes)
    with connected(load(config).admin_address) as channel:
        response = backup_pb2_grpc.BackupServiceStub(channel).ResumeIntake(
            backup_pb2.ResumeIntakeRequest(), timeout=30.0
        )
    typer.echo("The intake is open." if response.was_stopped else "The intake was not stopped.")


def _received(channel: Any, progress: "Progress") -> Iterator[tuple[bytes, int]]:
    from consentry.intake.v1 import backup_pb2, backup_pb2_grpc

    for response in backup_pb2_grpc.BackupServiceStub(channel).BackUpLog(backup_pb2.BackUpLogRequest()):
        progress("back up", response.written_entries, response.log_size)
        yield response.chunk, response.written_entries


async def _back_up_closed_log(place: "LogPlace", out: Path, progress: "Progress") -> int:
    from feed.backup.files import write_pieces_from
    from feed.backup.opening import open_log
    from feed.backup.writing import write_backup
    from feed.ports import FeedHead

    opened = await open_log(place)
    try:
        stored = await opened.store.load_head()
        head = FeedHead(stored.frontier, stored.checkpoint_note, stored.checkpoint_time_ms, stored.tenant)
        pieces = write_backup(opened.store, head, place.identity, place.kek)
        return await write_pieces_from(out, pieces, lambda written: progress("back up", written, head.size))
    finally:
        await opened.close()


async def _accept(place: "LogPlace", *, yes: bool) -> int:
    from feed.backup.opening import accept_log as run

    def confirm(size: int) -> None:
        _confirm(f"The log in {place.directory} holds {size} entries. Is it the newest there is?", yes=yes)

    return await run(place, confirm)


def _confirm(question: str, *, yes: bool) -> None:
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        fail("this needs an operator's word; repeat with --yes to give it", EXIT_REFUSED)
    typer.confirm(question, abort=True, err=True)


def _place(config: Path | None) -> "LogPlace":
    from feed.runtime import place_of
    from feed.signing.key_store import load_keys

    settings = load(config)
    with _explained():
        return place_of(settings, load_keys(settings.event_log.keys_directory, settings.origin))


def _source(place: "LogPlace", backup_file: Path | None, archive: Path | None) -> "RestoreSource":
    from feed.backup.restoring import RestoreSource

    return RestoreSource(backup_file, archive or place.archive_directory, place.identity, place.kek, place.subject_keys)


@contextmanager
def _explained() -> Iterator[None]:
    from consent.eventlog.errors import EventLogError
    from feed.errors import FeedError
    from hosting.errors import HostingError

    try:
        yield
    except (FeedError, HostingError, EventLogError) as error:
        fail(f"{error.reason}: {error}", EXIT_REFUSED)


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total or None)

        yield show


def _print_table(fields: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
