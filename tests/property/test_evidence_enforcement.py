"""Time to force: whatever a fleet does, the flat-memory count says what a plain reckoning over the whole history says."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.evidence.collectors.enforcement import EnforcementCollector
from auditor.evidence.events import EntrySeen, feed_time_of
from auditor.evidence.masking import IdentifierFinder
from auditor.evidence.model import Report
from auditor.evidence.scope import Scope
from consent.event import Event
from tests.fakes.evidence_material import DAY_MS, PERIOD, EvidenceLog
from tests.fakes.log_builder import START_MS

SIDECARS = ("pod-1", "pod-2", "pod-3")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.just(""), st.integers(0, 9)),
        st.tuples(st.sampled_from(("enrol", "retire")), st.sampled_from(SIDECARS), st.just(0)),
        st.tuples(st.just("acknowledge"), st.sampled_from(SIDECARS), st.integers(0, 6)),
    ),
    max_size=40,
)


@dataclass
class Reckoning:
    """Every opt-out with whom it waits for, in the plainest form."""

    fleet: dict[str, int] = field(default_factory=dict)
    waiting: dict[int, tuple[int, set[str], int]] = field(default_factory=dict)
    delays: list[int] = field(default_factory=list)
    without_fleet: int = 0

    def settle(self, sidecar_id: str, size: float, at_ms: int) -> None:
        for seq, (received_ms, lacking, latest_ms) in list(self.waiting.items()):
            if seq <= size and sidecar_id in lacking:
                lacking.discard(sidecar_id)
                self.waiting[seq] = (received_ms, lacking, max(latest_ms, at_ms))
                if not lacking:
                    del self.waiting[seq]
                    # Where all that it waited for are retired, it came into force nowhere.
                    self.delays += [max(latest_ms, at_ms) - received_ms] if max(latest_ms, at_ms) else []


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_enforcement_over_any_history_agrees_with_a_plain_reckoning(steps: list[tuple[str, str, int]]) -> None:
    made, plain, now_ms = EvidenceLog(), Reckoning(), START_MS
    for what, sidecar_id, number in steps:
        now_ms += 1000
        if what == "request":
            seq = made.request("a", now_ms - number)
            if plain.fleet:
                plain.waiting[seq] = (now_ms - number, set(plain.fleet), 0)
            else:
                plain.without_fleet += 1
        elif what == "enrol":
            made.enrol(sidecar_id, now_ms)
            plain.fleet.setdefault(sidecar_id, 0)
        elif sidecar_id in plain.fleet and what == "retire":
            made.retire(sidecar_id, now_ms)
            del plain.fleet[sidecar_id]
            plain.settle(sidecar_id, float("inf"), 0)
        elif sidecar_id in plain.fleet and (size := max(made.size - number, 1)):
            made.acknowledge(sidecar_id, now_ms, size)
            if size > plain.fleet[sidecar_id]:
                plain.fleet[sidecar_id] = size
                plain.settle(sidecar_id, size, now_ms)
    report = collect(made)
    figures = {figure.label: figure.value for figure in report["5.31"].figures}
    assert figures["in force at every sidecar"] == len(plain.delays)
    assert figures["not yet acknowledged by every sidecar"] == len(plain.waiting)
    assert figures["logged while no sidecar was enrolled"] == plain.without_fleet
    slowest = next(table.rows for table in report["5.31"].tables if table.name == "slowest")
    assert sorted(row[3] for row in slowest) == sorted(delay / 1000 for delay in sorted(plain.delays)[-20:])  # type: ignore[type-var]


def collect(made: EvidenceLog) -> Report:
    scope = Scope(
        trust=made.log.trust,
        period=PERIOD,
        seed="s",
        generated_at_ms=START_MS + DAY_MS,
        exporter="auditor",
        finder=IdentifierFinder(),
    )
    collector, report, now_ms = EnforcementCollector(scope, scope.generated_at_ms), Report(scope.finder), 0
    for logged in made.log.logged:
        event: Event = logged.event
        now_ms = max(now_ms, feed_time_of(event) or 0)
        collector.see_entry(EntrySeen(logged.seq, "", event, logged.event_bytes, (), now_ms, 0, PERIOD.holds(now_ms)))
    collector.write(report)
    return report
