"""Signed heads of journals as the log has them: chains (5.33), gaps (8.15), weak modes (8.9), crashes (5.24 to 5.30), clocks (8.17)."""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

from auditor.evidence.events import Collector, EntrySeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import MS_PER_SECOND, format_time, hour_of
from auditor.evidence.scope import Scope
from auditor.findings import Finding, Severity
from consent.event import EnrolEvent, JournalHeadsEvent, RetireEvent
from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import HeadKind, JournalHead, WeakestMode, format_head, hash_head, verify_head

SILENCE_MS: Final = 300_000
"""As long as a feed waits before it raises its alarm; an idle sidecar makes a head every 60 s."""
MAX_CLOCK_AHEAD_MS: Final = 1000
_MAX_GAP_ROWS: Final = 2000
_VERIFY: Final = "verify"
_NO_WORD: Final = "no word"


@dataclass(slots=True)
class _Chain:
    last: JournalHead
    last_hash: bytes
    heads: int = 0
    missing: int = 0
    first_ms: int = 0


@dataclass(slots=True)
class _Sidecar:
    public_key: bytes
    is_enrolled: bool = True
    last: JournalHead | None = None
    unrecorded: int = 0


@dataclass(frozen=True, slots=True)
class _Gap:
    sidecar_id: str
    chain_id: bytes
    start_ms: int
    end_ms: int
    ended_in_order: bool


class HeadsCollector(Collector):
    """Follows every chain by its logged heads; holds one head per chain.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._sidecars: dict[str, _Sidecar] = {}
        self._chains: dict[tuple[str, bytes], _Chain] = {}
        self._gaps: list[_Gap] = []
        self._more_gaps = 0
        self._crashed: set[tuple[str, bytes]] = set()
        self._crashes: list[tuple[Cell, ...]] = []
        self._weak: set[tuple[str, str, str]] = set()
        self._offsets: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self._decisions_by_hour: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self.sample = scope.sample("journal heads", dict[str, Cell])

    def see_entry(self, seen: EntrySeen) -> None:
        """Heads, and whose keys count."""
        match seen.event:
            case EnrolEvent():
                self._enrol(seen.event)
            case RetireEvent() if seen.event.sidecar_id in self._sidecars:
                self._sidecars[seen.event.sidecar_id].is_enrolled = False
            case JournalHeadsEvent():
                for head in seen.event.heads:
                    self._see_head(seen, head, seen.event.received_at_ms)
            case _:
                pass

    def write(self, report: Report) -> None:
        """Chains, gaps, weak modes, crashes and clocks."""
        self._write_chains(report)
        self._write_gaps(report)
        self._write_modes(report)
        self._write_clocks(report)
        by_day: dict[str, tuple[int, str]] = {}
        for hour, count in self._decisions_by_hour.items():
            by_day[hour[:10]] = max(by_day.get(hour[:10], (0, "")), (count, hour))
        section = report["8.6"]
        section.add_source("event log: decisions between signed heads, by the hour of the later one")
        bars = ((day, float(by_day.get(day, (0, ""))[0])) for day in self._scope.period.days())
        caption = "Decisions in the busiest hour of each day, all sidecars"
        section.add_chart("busiest-hour", caption, "decisions", bars, is_series=True)
        hours = sorted(self._decisions_by_hour.items())
        section.add_table("decisions-by-hour", "Decisions by hour, all sidecars", ("hour", "decisions"), hours)
        busiest = max(((count, hour) for hour, count in self._decisions_by_hour.items()), default=(0, ""))
        section.add_figure("decisions in the busiest hour", busiest[0])
        section.add_figure("busiest hour", busiest[1])

    def _enrol(self, event: EnrolEvent) -> None:
        held = self._sidecars.setdefault(event.sidecar_id, _Sidecar(event.public_key))
        held.public_key, held.is_enrolled = event.public_key, True

    def _see_head(self, seen: EntrySeen, head: JournalHead, received_at_ms: int) -> None:
        sidecar = self._sidecars.get(head.sidecar_id)
        try:
            if sidecar is None:
                raise InvalidJournalHead("not enrolled")
            verify_head(head, self._scope.trust.origin, sidecar.public_key)
        except InvalidJournalHead:
            self._find("HEAD_NOT_AUTHENTIC", "a logged head is not signed by an enrolled sidecar", head, seen.seq)
            return
        self._follow_chain(head, seen)
        if head.kind == HeadKind.RECOVERY:
            self._see_crash(head, seen)
        else:
            self._follow_sidecar(sidecar, head)
        if not self._scope.period.holds(head.at_ms):
            return
        self._offsets[head.sidecar_id].append(received_at_ms - head.at_ms)
        name = f"{head.sidecar_id}/{head.chain_id.hex()}/{head.number}"
        self.sample.add(name, _describe(head, seen.seq, sidecar.public_key))

    def _follow_chain(self, head: JournalHead, seen: EntrySeen) -> None:
        name = (head.sidecar_id, head.chain_id)
        chain = self._chains.get(name)
        if chain is None:
            self._chains[name] = _Chain(head, hash_head(head), 1, head.number, head.at_ms)
            decided = head.decisions
        else:
            decided = head.decisions - chain.last.decisions
            if head.number <= chain.last.number or decided < 0:
                self._find("HEAD_GOES_BACK", "a head says less than an earlier one of its chain", head, seen.seq)
                return
            if head.number == chain.last.number + 1 and head.previous_head_hash != chain.last_hash:
                self._find("HEAD_FORKED", "a head does not name the one before it", head, seen.seq)
            chain.missing += head.number - chain.last.number - 1
            chain.last, chain.last_hash, chain.heads = head, hash_head(head), chain.heads + 1
        if self._scope.period.holds(head.at_ms):
            self._decisions_by_hour[hour_of(head.at_ms)] += decided
            if head.weakest_mode == WeakestMode.ASYNC:
                self._weak.add((head.sidecar_id, head.chain_id.hex(), "async"))

    def _follow_sidecar(self, sidecar: _Sidecar, head: JournalHead) -> None:
        last = sidecar.last
        if last is not None and head.at_ms - last.at_ms > SILENCE_MS and self._touches_period(last.at_ms, head.at_ms):
            if len(self._gaps) < _MAX_GAP_ROWS:
                is_final = last.kind == HeadKind.FINAL
                self._gaps.append(_Gap(head.sidecar_id, last.chain_id, last.at_ms, head.at_ms, is_final))
            else:
                self._more_gaps += 1
        if head.unrecorded and self._scope.period.holds(head.at_ms):
            sidecar.unrecorded = max(sidecar.unrecorded, head.unrecorded)
        if last is None or head.at_ms >= last.at_ms:
            sidecar.last = head

    def _see_crash(self, head: JournalHead, seen: EntrySeen) -> None:
        self._crashed.add((head.sidecar_id, head.chain_id))
        if self._scope.period.holds(head.at_ms):
            row = (
                head.sidecar_id,
                format_time(head.at_ms),
                head.chain_id.hex(),
                head.decisions,
                head.torn_bytes,
                seen.seq,
            )
            self._crashes.append(row)

    def _touches_period(self, start_ms: int, end_ms: int) -> bool:
        return start_ms < self._scope.period.end_ms and end_ms > self._scope.period.start_ms

    def _explain(self, gap: _Gap) -> str:
        if gap.ended_in_order:
            return "stopped in order"
        is_crash = (gap.sidecar_id, gap.chain_id) in self._crashed
        return "crash, recovered at the next start" if is_crash else _NO_WORD

    def _find(self, reason: str, text: str, head: JournalHead, seq: int) -> None:
        place = f"seq {seq}, chain {head.chain_id.hex()}, head {head.number}"
        if len(self._findings) < _MAX_GAP_ROWS:
            self._findings.append(Finding(reason, text, sidecar_id=head.sidecar_id, place=place))

    def _write_chains(self, report: Report) -> None:
        section = report["5.33"]
        heads = sum(chain.heads for chain in self._chains.values())
        section.add_source(f"event log: {heads} signed heads of {len(self._chains)} chains, each signature checked")
        columns = ("sidecar", "chain", "first head", "last head", "how it ended", "heads", "not logged", "decisions")
        rows = [
            (
                name[0], name[1].hex(), format_time(chain.first_ms), format_time(chain.last.at_ms),
                _kind_name(chain.last.kind), chain.heads, chain.missing, chain.last.decisions,
            )
            for name, chain in sorted(self._chains.items())
            if self._touches_period(chain.first_ms, chain.last.at_ms + 1)
        ]  # fmt: skip
        section.add_table("chains", "Chains of journals as their signed heads in the log show them", columns, rows)
        if _VERIFY in self._scope.checks:
            # It follows every chain in the journals too, and names what it finds.
            return
        for finding in self._findings:
            section.add_finding(finding)
        for name, sidecar in sorted(self._sidecars.items()):
            if sidecar.is_enrolled and sidecar.last is None:
                text = "an enrolled sidecar has no signed head in the log"
                section.add_finding(Finding("NO_HEADS", text, sidecar_id=name))

    def _write_gaps(self, report: Report) -> None:
        section = report["8.15"]
        columns = ("sidecar", "from", "to", "seconds", "explanation")
        rows = [
            (gap.sidecar_id, format_time(gap.start_ms), format_time(gap.end_ms), (gap.end_ms - gap.start_ms) // 1000,
             self._explain(gap))
            for gap in self._gaps
        ]  # fmt: skip
        seconds = SILENCE_MS // MS_PER_SECOND
        section.add_table("gaps", f"Times of more than {seconds} s without a signed head", columns, rows)
        for gap in self._gaps:
            if self._explain(gap) == _NO_WORD and _VERIFY not in self._scope.checks:
                text = f"{(gap.end_ms - gap.start_ms) // 1000} s without a signed head, and nothing that says why"
                place = format_time(gap.start_ms)
                section.add_finding(Finding("HEADS_SILENT", text, sidecar_id=gap.sidecar_id, place=place))
        if self._more_gaps:
            section.add_finding(Finding("HEADS_SILENT", f"{self._more_gaps} further gaps are not listed"))
        incidents = report["5.24-5.30"]
        incidents.add_source("event log: signed heads and what they say about crashes")
        incidents.add_figure("times without a signed head", len(rows) + self._more_gaps)
        incidents.add_figure("crashes recovered from", len(self._crashes))
        crash_columns = ("sidecar", "found at", "chain", "decisions kept", "bytes torn off", "seq")
        caption = "Journals that ended without a final head, and what was found at the next start"
        incidents.add_table("crashes", caption, crash_columns, self._crashes)

    def _write_modes(self, report: Report) -> None:
        section = report["8.9_8.32"]
        section.add_source("event log: the weakest mode that each signed head names")
        section.add_table(
            "weak-modes", "Chains written in a mode weaker than group", ("sidecar", "chain", "mode"), sorted(self._weak)
        )
        unrecorded = {
            name: sidecar.unrecorded for name, sidecar in sorted(self._sidecars.items()) if sidecar.unrecorded
        }
        section.add_table(
            "unrecorded",
            "Decisions answered without a record (allow_and_count)",
            ("sidecar", "decisions"),
            unrecorded.items(),
        )
        for name, count in unrecorded.items():
            text = f"{count} decisions were answered without a record"
            section.add_finding(Finding("ANSWERED_WITHOUT_RECORD", text, sidecar_id=name))
        for name in sorted({row[0] for row in self._weak}):
            text = "the journal was written in mode async: a crash can lose answered decisions"
            section.add_finding(Finding("WEAK_MODE", text, Severity.NOTE, name))

    def _write_clocks(self, report: Report) -> None:
        section = report["8.17"]
        section.add_source("event log: time in each signed head against the feed's time when it came; complete")
        rows = list[tuple[Cell, ...]]()
        for name, offsets in sorted(self._offsets.items()):
            ordered = sorted(offsets)
            rows.append((name, len(ordered), *(ordered[at] / 1000 for at in (0, len(ordered) // 2, -1))))
            if ordered[0] < -MAX_CLOCK_AHEAD_MS:
                text = f"the clock was at least {-ordered[0] / 1000:.1f} s ahead of the feed's"
                section.add_finding(Finding("CLOCK_AHEAD", text, sidecar_id=name))
        section.add_table(
            "offsets",
            "Seconds from a head's own time to its arrival at the feed: transport and clock offset together. "
            "Below zero the sidecar's clock is ahead; the smallest value bounds how far it can be behind",
            ("sidecar", "heads", "smallest", "median", "largest"),
            rows,
        )


def _kind_name(kind: int) -> str:
    try:
        return HeadKind(kind).name
    except ValueError:
        return str(kind)


def _describe(head: JournalHead, seq: int, public_key: bytes) -> dict[str, Cell]:
    return {
        "seq": seq,
        "sidecar_id": head.sidecar_id,
        "chain": head.chain_id.hex(),
        "number": head.number,
        "kind": _kind_name(head.kind),
        "time": format_time(head.at_ms),
        "decisions": head.decisions,
        "head": format_head(head).hex(),
        "public_key": public_key.hex(),
    }
