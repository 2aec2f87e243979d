"""Times in which nothing was said: sidecars without heads, and callers that the policy expects to ask and that did not."""

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from auditor.findings import Finding, Severity
from auditor.reconcile.chain_count import ENDS
from auditor.reconcile.ledger import HeadRow, Ledger
from auditor.reconcile.log_facts import LogFacts
from auditor.reconcile.report import Gap
from auditor.reconcile.times import format_time
from consent.eventlog.journal_head import HeadKind


def find_gaps(ledger: Ledger, facts: LogFacts, gap_ms: int) -> Iterator[Gap]:
    """Times longer than `gap_ms` between the heads of an enrolled sidecar, and from its last one to the log's end."""
    crashed = set(ledger.select("SELECT sidecar, chain FROM heads WHERE kind = ?", int(HeadKind.RECOVERY)))
    before: HeadRow | None = None
    for head in ledger.heads_by_time():
        if before is not None and before.sidecar_id != head.sidecar_id:
            yield from _gap_at_end(before, facts, gap_ms, crashed)
            before = None
        if before is not None and head.at_ms - before.at_ms > gap_ms:
            yield Gap(head.sidecar_id, before.at_ms, head.at_ms, _how(before, crashed))
        before = head
    if before is not None:
        yield from _gap_at_end(before, facts, gap_ms, crashed)


def describe_gap(gap: Gap) -> Finding:
    """A gap that its sidecar's journal explains is a note."""
    text = f"no head was made for {(gap.until_ms - gap.from_ms) // 1000} s from {format_time(gap.from_ms)} on"
    if gap.how == "silent":
        return Finding("HEADS_SILENT", f"{text}, while the sidecar was enrolled", sidecar_id=gap.sidecar_id)
    return Finding("HEADS_PAUSED", f"{text}: {gap.how}", Severity.NOTE, gap.sidecar_id)


def find_silent_callers(
    callers: Collection[str], active: Iterable[tuple[str, int]], first_hour: int, last_hour: int, silent_hours: int
) -> Iterator[Finding]:
    """Callers of the policy without any decision for so many hours.

    Args:
        callers: That the policy in force lists.
        active: (caller, hour of Unix time) of every hour with a decision.
        first_hour: In which the journals begin.
        last_hour: In which the log ends.
        silent_hours: From how many hours on silence counts.
    """
    if not callers:
        return
    if last_hour - first_hour + 1 < silent_hours:
        text = f"the journals cover less than {silent_hours} hours: too short a time to tell who has fallen silent"
        yield Finding("PERIOD_TOO_SHORT", text, Severity.NOTE)
        return
    hours: dict[str, list[int]] = {caller: [] for caller in callers}
    for caller, hour in sorted(active):
        if caller in hours:
            hours[caller].append(hour)
    for caller in sorted(hours):
        # Somebody who never asked was silent for all of it; else the time before the first question is not held against a new caller.
        seen = hours[caller] or [first_hour - 1]
        longest = max(later - earlier - 1 for earlier, later in pairwise([*seen, last_hour + 1]))
        if longest >= silent_hours:
            text = f"caller {caller}, which the policy lists, asked nothing for {longest} hours: is there processing that never asks?"
            yield Finding("CALLER_SILENT", text)


def _how(head: HeadRow, crashed: Collection[tuple[object, ...]]) -> str:
    if head.kind == HeadKind.FINAL:
        return "ended"
    return "crashed" if head.kind in ENDS or (head.sidecar_id, head.chain_id) in crashed else "silent"


def _gap_at_end(last: HeadRow, facts: LogFacts, gap_ms: int, crashed: Collection[tuple[object, ...]]) -> Iterator[Gap]:
    if facts.end_ms - last.at_ms > gap_ms:
        is_enrolled = last.sidecar_id in facts.enrolled_ms
        yield Gap(last.sidecar_id, last.at_ms, facts.end_ms, _how(last, crashed) if is_enrolled else "retired")
