"""`consentry-auditor replay`: every recorded decision computed anew."""

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
    from auditor.replay.report import ReplayReport


def replay_decisions(
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    *,
    bootstrap_policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--bootstrap-policy",
            metavar="FILE",
            help="Signed policy that sidecars start from before their first snapshot; may be given for each version.",
        ),
    ] = None,
    fetch_first: FetchOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Compute every recorded decision anew from the log, and name each that differs.

    Needs the folder's replay.keys, which `consentry-feed replay-keys` makes for the auditor's key. What it shows and what it cannot:
    docs/replay.md. CSV has a line for each sidecar and hour.
    Exit codes: 0 no difference; 1 findings; 2 could not replay, or not all of it.
    Example: consentry-auditor replay -f audit -k auditor.key
    """
    from auditor.cli.output import choose_format, print_report, shown_progress
    from auditor.replay.run import replay
    from hosting.bootstrap_policy import load_bootstrap_policy

    output_format = choose_format(as_json=as_json, as_csv=as_csv)
    audit = open_audit(config, folder, key, fetch_first=fetch_first, output_format=output_format)
    with checking():
        policies = [load_bootstrap_policy(path, audit.trust, None) for path in bootstrap_policy or ()]
        with shown_progress(output_format) as progress:
            report = replay(audit, {policy.version: policy for policy in policies}, progress)
    print_report(_describe(report), output_format)
    end(report.findings)
    if report.unread:
        fail(f"{report.unread} chains could not be read to their end, so that not all was replayed")


def _describe(replayed: "ReplayReport") -> "Report":
    from auditor.cli.output import Report, Table
    from auditor.replay.judge import Outcome

    hours = [
        (sidecar_id, hour * 3_600_000, *(replayed.hours[sidecar_id, hour, outcome] for outcome in Outcome))
        for sidecar_id, hour in sorted({(sidecar_id, hour) for sidecar_id, hour, _ in replayed.hours})
    ]
    answers = [(effect.value, reason.value, count) for (effect, reason), count in sorted(replayed.answers.items())]
    reasons = sorted(replayed.reasons.items())
    return Report(
        "Replay of the recorded decisions",
        {
            "log_size": replayed.log_size,
            "sidecars": len(replayed.sidecars),
            "decisions": replayed.decisions,
            **{outcome.value: replayed.outcomes[outcome] for outcome in Outcome},
            "unread_chains": replayed.unread,
        },
        replayed.findings,
        [
            Table("Hours", ("sidecar_id", "hour_ms", *(outcome.value for outcome in Outcome)), hours),
            Table("Answers", ("effect", "reason", "decisions"), answers),
            *([Table("Reasons", ("reason", "times"), reasons)] if reasons else ()),
        ],
    )
