"""The whole reconciliation of an audit folder."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from auditor.errors import FolderUnusable
from auditor.findings import Finding, Severity
from auditor.folder import AuditFolder
from auditor.journals import SidecarJournal
from auditor.progress import Progress, no_progress
from auditor.reconcile.chain_count import CallSeen, ChainCount, ShippedTo, count_chain
from auditor.reconcile.claims import compare_call_ids, compare_calls, read_call_ids, read_calls
from auditor.reconcile.ledger import Ledger, RecordedRow
from auditor.reconcile.log_facts import NOTHING_DISPOSED, LogFacts, read_log
from auditor.reconcile.report import ReconcileReport, SpanCount
from auditor.reconcile.silence import describe_gap, find_gaps, find_silent_callers
from auditor.reconcile.spans import digest_item, find_span_differences, read_spans
from auditor.reconcile.times import MS_PER_HOUR
from consent.decision_record import item_id, parse_question

POSITION_FILE_NAME: Final = "shipped.json"
GAP_SECONDS: Final = 300
SILENT_HOURS: Final = 24

_BATCH_ROWS: Final = 5_000

read_question = lru_cache(maxsize=1024)(parse_question)


@dataclass(frozen=True, slots=True)
class Claims:
    """What is held against the records besides the heads.

    Attributes:
        spans: Files of exported spans.
        calls: CSV of a service's own counts.
        call_ids: Decision ids that a service was given.
    """

    spans: Sequence[Path] = ()
    calls: Path | None = None
    call_ids: Path | None = None

    @property
    def needs_ids(self) -> bool:
        """Whether single decisions are compared."""
        return bool(self.spans) or self.call_ids is not None


NO_CLAIMS: Final = Claims()


def reconcile(
    folder: AuditFolder,
    claims: Claims = NO_CLAIMS,
    *,
    gap_seconds: float = GAP_SECONDS,
    silent_hours: int = SILENT_HOURS,
    progress: Progress = no_progress,
) -> ReconcileReport:
    """Hold what was answered, recorded, exported and asked for against each other.

    Heads and records are taken as they stand: that they are authentic, and complete up to the last head, `verify` shows.

    Args:
        folder: With the log and the journals.
        claims: What else to compare.
        gap_seconds: From how long on a time without heads counts as one.
        silent_hours: From how many hours on a caller counts as silent.
        progress: Told how far it is, in bytes.

    Raises:
        MalformedLogCopy, FolderUnusable: Something cannot be read.
    """
    with Ledger() as ledger:
        facts = read_log(folder, ledger)
        run = _Run(folder, ledger, facts, claims)
        run.count_journals(progress)
        run.count_missing_chains()
        ledger.take_over_written()
        for gap in find_gaps(ledger, facts, round(gap_seconds * 1000)):
            run.report.gaps.append(gap)
            run.report.add(describe_gap(gap))
        run.compare_spans(progress)
        run.compare_claims()
        run.find_silent_callers(silent_hours)
        return run.report


class _Run:
    def __init__(self, folder: AuditFolder, ledger: Ledger, facts: LogFacts, claims: Claims) -> None:
        self.report = ReconcileReport()
        self._folder = folder
        self._ledger = ledger
        self._facts = facts
        self._claims = claims
        self._active: set[tuple[str, int]] = set()
        self._rows: list[RecordedRow] = []
        self._counted: set[tuple[str, bytes]] = set()

    def count_journals(self, progress: Progress) -> None:
        """Every chain in the folder."""
        journals = list(self._folder.journals())
        total = sum(sum(sizes.values()) for journal in journals for sizes in journal.chains().values())
        on_bytes = _counting(progress, "journals", total)
        for journal in journals:
            positions = self._read_positions(journal)
            for chain_id in sorted(journal.chains()):
                name = (journal.sidecar_id, chain_id)
                counted = count_chain(
                    journal,
                    chain_id,
                    self._ledger.heads(*name),
                    disposed=self._facts.disposed.get(name, NOTHING_DISPOSED),
                    shipped=None if positions is None else positions.get(chain_id, ShippedTo(0, 0)),
                    on_call=self._take_call,
                    on_head=self._ledger.add_written_head,
                    on_bytes=on_bytes,
                )
                self._counted.add(name)
                self._judge_chain(journal.sidecar_id, chain_id, counted)
        self._write_rows()

    def count_missing_chains(self) -> None:
        """Chains of which the folder has nothing: what was answered in them is not recorded here."""
        for sidecar_id, chain_id in self._ledger.chains():
            if (sidecar_id, chain_id) in self._counted:
                continue
            counted, heads = ChainCount(), self._ledger.heads(sidecar_id, chain_id)
            disposed = self._facts.disposed.get((sidecar_id, chain_id), NOTHING_DISPOSED)
            counted.take_disposed(disposed.decisions)
            for head in heads:
                counted.cover(head)
            self._judge_chain(sidecar_id, chain_id, counted)

    def compare_spans(self, progress: Progress) -> None:
        """Exported spans against records."""
        if not self._claims.spans:
            return
        on_bytes = _counting(progress, "spans", sum(map(_size_of, self._claims.spans)))
        for path in self._claims.spans:
            for decision in read_spans(path, on_bytes):
                self._ledger.add_span(*decision)
        known = frozenset(journal.sidecar_id for journal in self._folder.journals())
        self.report.spans = SpanCount()
        self.report.add(*find_span_differences(self._ledger, self.report.spans, known))

    def compare_claims(self) -> None:
        """What a service says against records."""
        if self._claims.calls is not None:
            rows, found = compare_calls(read_calls(self._claims.calls), self.report.recorded)
            self.report.calls = rows
            self.report.add(*found)
        if self._claims.call_ids is not None:
            read_call_ids(self._claims.call_ids, self._ledger)
            self.report.add(*compare_call_ids(self._ledger))

    def find_silent_callers(self, silent_hours: int) -> None:
        """Callers of the policy that asked nothing; nobody can tell where a journal could not be read."""
        hours = [hour for _, hour in self.report.hours]
        if hours and not self.report.unread:
            last = max(*hours, self._facts.end_ms // MS_PER_HOUR)
            found = find_silent_callers(self._facts.callers, self._active, min(hours), last, silent_hours)
            self.report.add(*found)

    def _take_call(self, seen: CallSeen) -> None:
        call = seen.call
        caller = read_question(call.question).caller
        self._active.add((caller, call.now_ms // MS_PER_HOUR))
        # The hour of the id, which the caller sees too, and not that of the decision a moment later.
        self.report.recorded[caller, int.from_bytes(call.call_id[:6], "big") // MS_PER_HOUR] += len(call.items)
        if self._claims.needs_ids:
            self._rows += (
                RecordedRow(item_id(call.call_id, index), digest_item(item), caller, seen.is_shipped)
                for index, item in enumerate(call.items)
            )
            if len(self._rows) >= _BATCH_ROWS:
                self._write_rows()

    def _write_rows(self) -> None:
        self._ledger.add_recorded(self._rows)
        self._rows = []

    def _judge_chain(self, sidecar_id: str, chain_id: bytes, counted: ChainCount) -> None:
        for hour, count in counted.hours.items():
            self.report.add_hour(sidecar_id, hour, count)
        self.report.add(*_describe_chain(sidecar_id, chain_id, counted))
        if counted.error or not counted.is_opened:
            self.report.unread += 1

    def _read_positions(self, journal: SidecarJournal) -> dict[bytes, ShippedTo] | None:
        """How far the shipper is in each chain; None where the folder does not say."""
        path = journal.directory / POSITION_FILE_NAME
        try:
            chains = json.loads(path.read_bytes())["chains"]
            return {
                bytes.fromhex(name): ShippedTo(int(place["segment"]), int(place["offset"]))
                for name, place in chains.items()
            }
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FolderUnusable(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text = "the shipper's position cannot be read, so that nobody can say what was exported"
            self.report.add(Finding("POSITION_UNREADABLE", text, Severity.NOTE, journal.sidecar_id, path.name))
            return None


def _describe_chain(sidecar_id: str, chain_id: bytes, counted: ChainCount) -> Iterable[Finding]:
    place = f"chain {chain_id.hex()[:8]}"
    if counted.short is not None:
        head, recorded, is_cut = counted.short
        if is_cut:
            text = f"head {head.number} says {head.decisions} decisions are recorded, and {recorded} are found"
            yield Finding("RECORDS_MISSING", text, sidecar_id=sidecar_id, place=place)
        else:
            text = (
                f"head {head.number}: {head.answered} decisions were answered, {recorded} are recorded and"
                f" {head.unrecorded} left without a record by right"
            )
            yield Finding("ANSWERED_NOT_RECORDED", text, sidecar_id=sidecar_id, place=place)
    last = counted.last
    if last is not None and last.unrecorded:
        text = f"{last.unrecorded} decisions were answered without a record, as `allow_and_count` permits"
        yield Finding("UNRECORDED", text, Severity.NOTE, sidecar_id, place)
    if last is not None and last.decisions + last.unrecorded > last.answered:
        text = f"{last.decisions + last.unrecorded - last.answered} recorded decisions were not answered: the calls were cut off"
        yield Finding("RECORDED_NOT_ANSWERED", text, Severity.NOTE, sidecar_id, place)
    if counted.not_exported:
        text = f"{counted.not_exported} decisions are not exported yet"
        yield Finding("NOT_EXPORTED", text, Severity.NOTE, sidecar_id, place)
    if counted.error:
        yield Finding("CHAIN_UNREADABLE", counted.error, sidecar_id=sidecar_id, place=place)
    elif not counted.is_opened:
        text = "there is no key for it: its records are counted and not read"
        yield Finding("SEGMENT_KEY_MISSING", text, Severity.NOTE, sidecar_id, place)


def _counting(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = told = 0

    def add(size_bytes: int) -> None:
        nonlocal done, told
        done += size_bytes
        if done - told >= total // 200:
            told = done
            progress(what, min(done, total), total)

    return add


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise FolderUnusable(f"{path}: {error.strerror}") from None
