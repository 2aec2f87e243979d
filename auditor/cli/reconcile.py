"""`consentry-auditor reconcile`: answered, recorded, exported, asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli.session import (
    ConfigOption,
    CsvOption,
    FetchOption,
    FolderOption,
    JsonOption,
    KeyOption,
    checking,
    end,
    fail,
    open_audit,
)

if TYPE_CHECKING:
    from auditor.cli.output import Report
    from auditor.reconcile.report import ReconcileReport


def reconcile_decisions(  # noqa: PLR0913 - one for each option
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    *,
    spans: Annotated[
        list[Path] | None,
        typer.Option(
            "--spans",
            metavar="FILE",
            help="Exported spans, OTLP requests in JSON, one a line; several times for several files.",
        ),
    ] = None,
    calls: Annotated[
        Path | None,
        typer.Option(
            "--calls", metavar="FILE", help="CSV `caller,hour_utc,decisions`: what a service says it asked for."
        ),
    ] = None,
    call_ids: Annotated[
        Path | None,
        typer.Option("--call-ids", metavar="FILE", help="Decision ids that a service was given, one a line."),
    ] = None,
    silent_hours: Annotated[
        int,
        typer.Option("--silent-hours", min=1, help="From how many hours on a caller of the policy counts as silent."),
    ] = 24,
    gap_seconds: Annotated[
        float, typer.Option("--gap-seconds", min=1, help="From how long on a time without heads counts as a gap.")
    ] = 300,
    fetch_first: FetchOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Hold what was answered, recorded, exported and asked for against each other, per sidecar and hour.

    Heads and records are taken as they stand; run `verify` for whether they are authentic. CSV has a line for each sidecar and hour.
    docs/reconcile.md says what each column and finding means.
    Example: consentry-auditor reconcile -f audit -k auditor.key --spans spans.json --calls shop.csv
    """
    from auditor.cli.output import choose_format, print_report, shown_progress
    from auditor.reconcile.run import Claims, reconcile

    output_format = choose_format(as_json=as_json, as_csv=as_csv)
    audit = open_audit(config, folder, key, fetch_first=fetch_first, output_format=output_format)
    with checking(), shown_progress(output_format) as progress:
        report = reconcile(
            audit,
            Claims(tuple(spans or ()), calls, call_ids),
            gap_seconds=gap_seconds,
            silent_hours=silent_hours,
            progress=progress,
        )
    print_report(_describe(report), output_format)
    end(report.findings)
    if report.unread:
        fail(f"{report.unread} chains could not be read to their end, so that not all was compared")


def _describe(reconciled: "ReconcileReport") -> "Report":
    from auditor.cli.output import Report, Table

    hours = [
        (sidecar_id, hour * 3_600_000, row.answered, row.unrecorded, row.journalled, row.uncovered, row.exported)
        for (sidecar_id, hour), row in sorted(reconciled.hours.items())
    ]
    columns = ("sidecar_id", "hour_ms", "answered", "unrecorded", "journalled", "uncovered", "exported")
    calls = [(row.caller, row.hour * 3_600_000, row.claimed, row.recorded) for row in reconciled.calls]
    totals = reconciled.total()
    figures: dict[str, object] = {name: getattr(totals, name) for name in columns[2:]}
    if reconciled.spans is not None:
        spans = reconciled.spans
        figures |= {"spans_decisions": spans.decisions, "spans_repeated": spans.repeated}
        figures |= {"spans_missing": spans.missing, "spans_waiting": spans.waiting}
    return Report(
        "Reconciliation of answered, recorded and exported decisions",
        figures | {"unread_chains": reconciled.unread},
        reconciled.findings,
        [
            Table("Hours", columns, hours),
            *(
                [Table("Gaps", ("sidecar_id", "from_ms", "until_ms", "how"), reconciled.gaps)]
                if reconciled.gaps
                else ()
            ),
            *([Table("Calls", ("caller", "hour_ms", "claimed", "recorded"), calls)] if calls else ()),
        ],
    )
