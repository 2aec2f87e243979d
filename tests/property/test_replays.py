"""Whatever is logged, and whoever is asked about when: a replay gets the answers of then, and no other answer passes for one."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.folder import AuditFolder
from auditor.replay.judge import Obstacle, Outcome
from auditor.replay.run import replay
from consent.decide import Request
from consent.decision_record import format_record, parse_record
from consent.event import Event
from consent.vocabulary.reason import Effect, Reason
from sidecar.check import Checker, Identifier, Question, make_decision_id
from tests.fakes.audit_material import JournalBuilder, write_folder
from tests.fakes.histories import TOKENS, histories, requests
from tests.fakes.log_builder import ORIGIN
from tests.fakes.recorded_life import CALLER, NO_TRACE, MemoryCache, MemoryJournal, RecordedLife

Ask = tuple[Request, list[bytes]]
Step = list[Event] | Ask | bytes | str

asks = st.tuples(requests(), st.lists(st.sampled_from(TOKENS), min_size=1, max_size=2))
steps = st.lists(
    st.one_of(histories(max_size=6), asks, asks, st.sampled_from(TOKENS), st.sampled_from(("epoch", "policy", "day"))),
    min_size=1,
    max_size=12,
)


class World:
    """A log with four people in it, and a sidecar that is always up to date."""

    def __init__(self) -> None:
        self.life = RecordedLife(people=0)
        self.life.first_tokens = {token.hex(): token for token in TOKENS}
        self.cache, self.kept = MemoryCache(self.life.log), MemoryJournal()
        self.checker = Checker(self.cache, self.kept, self.life.clock, "boot-1", ORIGIN)  # type: ignore[arg-type]
        self.life.begin()

    async def live(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.life.clock.advance(30_000)
            match step:
                case bytes():
                    self.life.erase(step.hex())
                case "epoch":
                    self.life.log.append(self.life.log.next_epoch())
                case "policy":
                    self.life.publish_policy()
                case str():
                    self.life.clock.advance(86_400_000)
                case tuple():
                    await self.ask(*step)
                case list():
                    self.life.log.append(*(self.life.log.lead(event) for event in step))

    async def ask(self, request: Request, tokens: list[bytes]) -> None:
        self.life.log.now_ms = self.life.clock.now_ms()
        self.cache.follow()
        question = Question(
            purposes=request.purposes,
            facts=request.facts,
            sec_gpc=request.sec_gpc,
            recipient=request.recipient,
            data_categories=tuple(sorted(request.data_categories)),
        )
        identifiers = [Identifier("", "", token, 0) for token in tokens]
        call_id = make_decision_id(self.life.clock.now_ms())
        await self.checker.check(CALLER, question, [identifiers], call_id, NO_TRACE)

    def open(self, folder: Path) -> AuditFolder:
        journal = JournalBuilder(folder, ORIGIN)
        if self.kept.records:
            journal.write(self.kept.records)
        self.life.write_replay_keys(folder)
        return write_folder(folder, self.life.log)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_replay_of_any_history_gives_the_answers_of_then_or_names_an_erasure(lived: list[Step]) -> None:
    world = World()
    asyncio.run(world.live(lived))
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        report = replay(world.open(Path(folder)))
    assert report.findings.is_clean
    assert report.decisions == len(world.kept.records)
    is_anybody_erased = any(isinstance(step, bytes) for step in lived)
    assert set(report.outcomes) <= (
        {Outcome.SAME, Outcome.ERASED, Outcome.NOT_REPLAYABLE} if is_anybody_erased else {Outcome.SAME}
    )
    assert set(report.obstacles) <= {Obstacle.ERASED_IN_A_LATER_EPOCH}


changes = st.sampled_from(
    (
        lambda item: item._replace(effect=Effect.DENY if item.effect is Effect.ALLOW else Effect.ALLOW),
        lambda item: item._replace(
            reason=Reason.GRANTED if item.reason is not Reason.GRANTED else Reason.NO_CHOICE_REQUIRED
        ),
        lambda item: item._replace(deciding_seq=item.deciding_seq + 1),
        lambda item: item._replace(valid_until_ms=item.valid_until_ms + 1),
    )
)


@settings(max_examples=30, deadline=None)
@given(steps, changes, st.integers(0, 11))
def test_replay_of_any_history_with_one_changed_answer_does_not_call_it_the_same(
    lived: list[Step], change: object, at: int
) -> None:
    world = World()
    asyncio.run(world.live([*lived, (REQUEST, [TOKENS[0]])]))
    records = world.kept.records
    at %= len(records)
    call = parse_record(records[at])
    assert callable(change)
    records[at] = format_record(call._replace(items=(change(call.items[0]),)))
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        report = replay(world.open(Path(folder)))
    assert report.outcomes[Outcome.SAME] < len(records)
    if not any(isinstance(step, bytes) for step in lived):
        assert report.reasons == {"ANSWER_DIFFERS": 1}


REQUEST = Request(purposes=("left",), now_ms=0)
