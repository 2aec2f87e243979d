"""`consentry-feed import`: suppression files as email providers export them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from feed.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, ConfigOption, JsonOption, connected, fail, load

if TYPE_CHECKING:
    from feed.intake.imports.reading import ImportOptions
    from feed.intake.imports.rows import Verdict
    from feed.intake.imports.run import ImportReport
    from feed.intake.imports.survey import Survey

EXIT_SOME_REJECTED = EXIT_REFUSED


def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A plain CSV, or Mailchimp's export of unsubscribed members.")
    ],
    purpose: Annotated[
        str,
        typer.Option(
            "--purpose",
            "-p",
            metavar="NAME",
            help="What people unsubscribed from, where the file does not say; * is everything.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge every row and record nothing.")] = False,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            "--verdicts", metavar="FILE", help="Write a CSV with the fate of each row: line, verdict, reason."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a suppression file into a running feed.

    Rows become denials; a grant counts only where nothing is recorded of the person, and proves nothing. Run it with --dry-run first. A
    run that was broken off goes on where it stopped when it is started again, and importing a file twice changes nothing.

    Exit codes: 0 every row was recorded or said nothing; 1 some rows were rejected; 2 the file or the call is wrong; 3 the feed does not
    answer. Example: consentry-feed import unsubscribed.csv -p newsletter_email --dry-run
    """
    from feed.errors import FeedError, InvalidRequest
    from feed.intake.imports.run import ImportInterrupted

    settings = load(config)
    if settings.import_address is None:
        fail("import_address is not set, so the feed takes no imports", EXIT_USAGE)
    if verdicts is not None and verdicts.exists() and file.exists() and verdicts.samefile(file):
        fail("--verdicts names the file that is to be imported, and would overwrite it", EXIT_USAGE)
    options = _fetch_options(settings.admin_address, purpose)
    try:
        report = _import(file, options, None if dry_run else settings.import_address, verdicts)
    except ImportInterrupted as error:
        fail(f"{error.reason}: {error}", EXIT_UNREACHABLE)
    except InvalidRequest as error:
        fail(f"{error.reason}: {error} (--purpose)", EXIT_USAGE)
    except FeedError as error:
        fail(f"{error.reason}: {file}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror}", EXIT_USAGE)
    _show(report, dry_run=dry_run, as_json=as_json)
    if report.rejected:
        raise typer.Exit(EXIT_SOME_REJECTED)


def _fetch_options(address: str, purpose: str) -> "ImportOptions":
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    from consent.policy import parse_policy
    from feed.cli.session import CALL_TIMEOUT_SECONDS
    from feed.intake.imports.reading import ImportOptions

    with connected(address) as channel:
        stub = intake_pb2_grpc.PolicyServiceStub(channel)
        document = stub.GetPolicy(intake_pb2.GetPolicyRequest(), timeout=CALL_TIMEOUT_SECONDS).document
    if not document:
        fail("no policy was published yet; `consentry-feed policy publish` puts one in force", EXIT_REFUSED)
    policy = parse_policy(document)
    known = frozenset(name for name in policy.purposes if policy.find_purpose(name) is not None)
    return ImportOptions(known_purposes=known, purpose=purpose)


def _import(file: Path, options: "ImportOptions", address: str | None, verdicts: Path | None) -> "ImportReport":
    from feed.errors import UnreadableImport
    from feed.intake.imports.survey import survey_file
    from feed.intake.imports.verdicts import VerdictWriter

    with ExitStack() as stack:
        stream = stack.enter_context(file.open("rb"))
        survey = survey_file(stream)
        stream.seek(0)
        on_verdict: Callable[[Verdict], None] | None = None
        if verdicts is not None:
            on_verdict = VerdictWriter(stack.enter_context(verdicts.open("w", encoding="utf-8", newline=""))).write
        on_progress = stack.enter_context(_progress(survey.row_count))
        report = asyncio.run(_run(stream, survey, options, address, on_verdict, on_progress))
    if report.rows != survey.row_count:
        raise UnreadableImport("the file was changed while it was imported; run the import again")
    return report


async def _run(
    stream: BinaryIO,
    survey: "Survey",
    options: "ImportOptions",
    address: str | None,
    on_verdict: "Callable[[Verdict], None] | None",
    on_progress: Callable[[int], None],
) -> "ImportReport":
    import grpc

    from feed.grpc_api.intake_client import IntakeClient
    from feed.intake.imports.reading import read_rows
    from feed.intake.imports.run import make_import_id, run_import

    rows = read_rows(stream, survey.shape, options)
    import_id = make_import_id(survey.file_digest, options.purpose)
    if address is None:
        return await run_import(rows, None, import_id, on_verdict=on_verdict, on_progress=on_progress)
    async with grpc.aio.insecure_channel(address) as channel:
        recorder = IntakeClient(channel)
        return await run_import(rows, recorder, import_id, on_verdict=on_verdict, on_progress=on_progress)


@contextmanager
def _progress(row_count: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=row_count)
        yield lambda rows: bar.update(task, completed=rows)


def _show(report: "ImportReport", *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        counts = {
            "recorded": report.recorded,
            "replayed": report.replayed,
            "skipped": report.skipped,
            "rejected": report.rejected,
        }
        details = {"rows": report.rows, "without_zone": report.without_zone, "reasons": dict(report.reasons)}
        typer.echo(json.dumps({"dry_run": dry_run, **counts, **details}))
        return
    verb = "would be recorded" if dry_run else "recorded"
    earlier = f", {report.replayed} recorded earlier" if report.replayed else ""
    typer.echo(
        f"{report.rows} rows: {report.recorded} {verb}{earlier}, {report.skipped} skipped, {report.rejected} rejected"
    )
    for reason, count in report.reasons.items():
        typer.echo(f"  {count:>8}  {reason}")
