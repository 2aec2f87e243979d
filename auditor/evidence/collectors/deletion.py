"""8.10: what was deleted, by whose word, and that it is named in the log."""

from auditor.evidence.events import Collector, EntrySeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time
from auditor.evidence.scope import Scope
from consent.event import AdminEvent, DisposalEvent, ErasedEvent, ErasureEvent
from consent.eventlog.journal_head import DisposalGround, JournalDisposal

SLUG, BACKUP = "8.10", "8.13"
_BACKUP_METHODS = ("BackUpLog", "ResumeIntake")


class DeletionCollector(Collector):
    """Lists erasures and disposals.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._erasures = scope.sample("erasures", tuple[Cell, ...])
        self._erased_entries = self._emptied = 0
        self._disposals: list[tuple[Cell, ...]] = []
        self._backups: list[tuple[Cell, ...]] = []

    def see_entry(self, seen: EntrySeen) -> None:
        """Erasures, what they emptied, disposals and backups."""
        match seen.event:
            case ErasureEvent() as event if seen.is_in_period:
                self._erased_entries += len(event.seqs)
                time = format_time(event.occurred_at_ms)
                self._erasures.add(str(seen.seq), (seen.seq, time, len(event.tokens), len(event.seqs), event.source))
            case ErasedEvent():
                self._emptied += 1
            case DisposalEvent() as event if seen.is_in_period:
                self._disposals += (_describe(disposal, seen.seq) for disposal in event.disposals)
            case AdminEvent() as event if seen.is_in_period and event.action.rpartition("/")[2] in _BACKUP_METHODS:
                row = (seen.seq, format_time(event.occurred_at_ms), event.action, event.actor, event.outcome)
                self._backups.append(row)
            case _:
                pass

    def write(self, report: Report) -> None:
        """Both sections."""
        section = report[SLUG]
        section.add_source(
            f"event log: {self._erasures.size} erasures in the period, complete; no identifier stands in them"
        )
        section.add_source(
            f"event log: {len(self._disposals)} disposals of journal segments, complete, signed by the sidecars"
        )
        section.add_figure("persons erased", self._erasures.size)
        section.add_figure("entries that these erasures name", self._erased_entries)
        section.add_figure("entries without payload in the whole copy of the log", self._emptied)
        section.add_sample(
            "erasures",
            f"Erasures, {self._erasures.describe()} drawn by the seed",
            ("seq", "asked for", "pseudonyms", "entries", "by"),
            self._erasures.drawn(),
        )
        columns = ("seq", "time", "sidecar", "chain", "segments", "decisions", "oldest", "ground")
        section.add_table("disposals", "Journal segments disposed of after their retention", columns, self._disposals)
        backup = report[BACKUP]
        backup.add_source("event log: calls for backups and for resuming after a restore")
        backup.add_table(
            "backups", "Backups and resumptions", ("seq", "time", "method", "actor", "outcome"), self._backups
        )


def _describe(disposal: JournalDisposal, seq: int) -> tuple[Cell, ...]:
    try:
        ground = DisposalGround(disposal.ground).name
    except ValueError:
        ground = str(disposal.ground)
    segments = f"{disposal.first_segment} to {disposal.last_segment}"
    time, oldest = format_time(disposal.disposed_at_ms), format_time(disposal.oldest_ms)
    return (seq, time, disposal.sidecar_id, disposal.chain_id.hex(), segments, disposal.decisions, oldest, ground)
