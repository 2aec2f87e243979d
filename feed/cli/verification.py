"""`consentry-feed verify-log`: a whole log, offline."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feed.cli.session import EXIT_REFUSED, EXIT_USAGE, ConfigOption, JsonOption, fail, load

if TYPE_CHECKING:
    from consent.eventlog.trust import Trust
    from feed.verification.verifier import LogReport, Phase


def verify_log(
    trust: Annotated[
        Path,
        typer.Option("--trust", envvar="CONSENTRY_TRUST_FILE", metavar="FILE", help="The trust file: whom to believe."),
    ],
    root_public_key: Annotated[
        Path | None,
        typer.Option(
            "--root-public-key",
            "--root-key",
            metavar="FILE",
            help="Public root key; `root.pub` beside the trust file if not given.",
        ),
    ] = None,
    config: ConfigOption = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="DIR", help="Folder of the log or of a copy, instead of settings.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Folder with feed-kek.key, which the log is sealed under."),
    ] = None,
    with_state: Annotated[
        bool,
        typer.Option(
            "--state",
            help="Also fold every entry, and compare with the log's state roots; needs memory for all subjects.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; as many as there are cores if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a whole log offline: every entry, the tree over all of them, and the head that was signed for it.

    The feed must be stopped, or DIR be a copy of its folder; nothing is written. Exit codes: 0 nothing found; 1 findings, each named with
    its entry; 2 it could not be checked. Example: consentry-feed verify-log -c feed.yaml --trust trust/trust.note
    """
    from feed.errors import FeedError
    from feed.log_store.reader import LogPlace
    from feed.verification.verifier import verify_log as verify
    from hosting.errors import HostingError
    from hosting.locks import keep_still

    directory, keys_directory = _find_folders(config, log, keys)
    trusted = _open_trust(trust, root_public_key or trust.with_name("root.pub"))
    started = time.monotonic()
    try:
        place = LogPlace(directory, trusted.origin, trusted.tenant, _read_kek(keys_directory))
        with keep_still(directory), _shown_progress(as_json) as progress:
            report = verify(
                place, trusted, workers=workers or os.cpu_count() or 1, with_state=with_state, progress=progress
            )
    except (FeedError, HostingError) as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    if as_json:
        typer.echo(json.dumps(_describe(trusted, report)))
    else:
        _print(trusted, report, time.monotonic() - started)
    if report.finding_count:
        raise typer.Exit(EXIT_REFUSED)


def _find_folders(config: Path | None, log: Path | None, keys: Path | None) -> tuple[Path, Path]:
    if log is not None and keys is not None:
        return log, keys
    if log is not None or keys is not None:
        fail("--log and --keys are needed together, or --config alone", EXIT_USAGE)
    settings = load(config)
    return settings.event_log.directory, settings.event_log.keys_directory


def _open_trust(trust: Path, root_file: Path) -> "Trust":
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import parse_verifier_key
    from consent.eventlog.trust import open_trust

    path = root_file
    try:
        root_key = parse_verifier_key(root_file.read_text(encoding="utf-8", errors="replace").strip())
        path = trust
        return open_trust(trust.read_bytes(), root_key)
    except EventLogError as error:
        fail(f"{path}: {error.reason}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{path}: {error.strerror}", EXIT_USAGE)


def _read_kek(keys_directory: Path) -> bytes:
    from feed.signing.key_store import KEK_FILE, KEY_FILES
    from hosting.key_files import read_key_file

    return bytes(read_key_file(keys_directory / KEK_FILE, use=KEY_FILES[KEK_FILE]))


@contextmanager
def _shown_progress(as_json: bool) -> Iterator[Callable[["Phase", int, int], None]]:
    """A bar on a terminal, and nothing anywhere else."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    is_shown = console.is_terminal and not as_json
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not is_shown, transient=True) as bars:
        tasks: dict[Phase, TaskID] = {}

        def advance(phase: "Phase", done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase.value, total=total)
            bars.update(tasks[phase], completed=done)

        yield advance


def _describe(trust: "Trust", report: "LogReport") -> dict[str, object]:
    signed = report.checkpoint
    return {
        "tenant": trust.tenant,
        "origin": trust.origin,
        "entries": report.entry_count,
        "signed_size": signed.size if signed else None,
        "signed_root_hash": signed.root_hash.hex() if signed else None,
        "signed_at_ms": report.time_ms if signed else None,
        "state_checked": report.is_state_checked,
        "finding_count": report.finding_count,
        "findings": [
            {"reason": finding.reason.value, "seq": finding.seq, "text": finding.text} for finding in report.findings
        ],
    }


def _print(trust: "Trust", report: "LogReport", seconds: float) -> None:
    for finding in report.findings:
        typer.echo(f"{finding.reason}: {finding.text}")
    if report.finding_count > len(report.findings):
        typer.echo(f"and {report.finding_count - len(report.findings)} more")
    signed = report.checkpoint
    if signed is not None:
        moment = datetime.fromtimestamp(report.time_ms / 1000, UTC).isoformat()
        typer.echo(f"Signed: {signed.size} entries at {moment}, root {signed.root_hash.hex()}")
    verdict = f"{report.finding_count} findings" if report.finding_count else "nothing found"
    state = ", their folded state too" if report.is_state_checked else ""
    typer.echo(f"{trust.origin}: {report.entry_count} entries verified{state} in {seconds:.1f} s: {verdict}")
