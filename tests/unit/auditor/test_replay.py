"""Replay: what a sidecar recorded is what the log says, and whatever differs is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.cli import app
from auditor.folder import JOURNALS_DIRECTORY_NAME, REPLAY_KEYS_FILE_NAME, AuditFolder
from auditor.keys import KEY_USE
from auditor.replay.errors import LogNotReplayable, ReplayKeysMissing
from auditor.replay.judge import Obstacle, Outcome
from auditor.replay.report import ReplayReport
from auditor.replay.run import replay
from consent.decision_record import (
    CallRecord,
    Item,
    format_question,
    format_record,
    format_situation,
    parse_question,
    parse_record,
    parse_situation,
)
from consent.key_ring import KeyRing
from consent.policy import parse_policy
from consent.vocabulary.reason import Effect, Reason
from hosting.key_files import create_key_file
from journal.format import JournalMode
from sidecar.check import Checker, Identifier
from sidecar.journal.writer import FileJournal
from tests.fakes.audit_material import AUDITOR, JournalBuilder, write_folder
from tests.fakes.cache_place import CachePlace
from tests.fakes.journal_material import SealingKeys
from tests.fakes.log_builder import ORIGIN
from tests.fakes.recorded_life import (
    AUDIT_KEYS,
    CALLER,
    DAY_MS,
    FIRST_DAY,
    NO_TRACE,
    SHY_CALLER,
    MemoryCache,
    MemoryJournal,
    RecordedLife,
    seal_segment_keys,
)


class Scene:
    """A log and one sidecar that answers from it, with its records in a list that a test may change before they are replayed."""

    def __init__(self, folder: Path, **life: int) -> None:
        self.folder = folder
        self.life = RecordedLife(**life)  # type: ignore[arg-type]
        self.cache = MemoryCache(self.life.log)
        self.kept = MemoryJournal()
        self.checker = self.make_checker(self.cache, self.kept)

    def make_checker(self, cache: MemoryCache, kept: MemoryJournal) -> Checker:
        return Checker(cache, kept, self.life.clock, "boot-1", ORIGIN)  # type: ignore[arg-type]

    def follow(self) -> None:
        self.life.log.now_ms = self.life.clock.now_ms()
        self.cache.follow()

    async def live(self, decisions: int, events: int = 1) -> None:
        """Time passes: things are logged, the sidecar follows after a while, and people are asked about."""
        for _ in range(decisions):
            self.life.clock.advance(self.life.random.choice((10, 20_000, 70_000)))
            if self.life.random.random() < 0.5:
                self.life.log.append(*(self.life.make_event() for _ in range(events)))
            if self.life.random.random() < 0.7:
                self.follow()
            await self.life.ask(self.checker, items=self.life.random.choice((1, 1, 1, 3)))

    def write(self, *, sidecar_id: str = "pod-1", kept: MemoryJournal | None = None) -> None:
        records = (kept or self.kept).records
        journal = JournalBuilder(self.folder, ORIGIN, sidecar_id)
        for start in range(0, len(records), 50):
            journal.write(records[start : start + 50])

    def open(self, ring: KeyRing | None = None) -> AuditFolder:
        audit = write_folder(self.folder, self.life.log)
        self.life.write_replay_keys(self.folder, ring)
        return audit

    def replay(self) -> ReplayReport:
        self.write()
        return replay(self.open())

    def change(self, at: int, change: Callable[[CallRecord], CallRecord]) -> None:
        self.kept.records[at] = format_record(change(parse_record(self.kept.records[at])))

    def change_item(self, at: int, **fields: object) -> None:
        self.change(at, lambda call: call._replace(items=(call.items[0]._replace(**fields), *call.items[1:])))  # type: ignore[arg-type]

    def change_situation(self, at: int, **fields: object) -> None:
        def changed(call: CallRecord) -> CallRecord:
            situation = replace(parse_situation(call.situation), **fields)  # type: ignore[arg-type]
            return call._replace(situation=format_situation(situation))

        self.change(at, changed)

    def items(self) -> list[Item]:
        return [item for record in self.kept.records for item in parse_record(record).items]

    def find(self, matches: Callable[[Item], bool]) -> int:
        for at, record in enumerate(self.kept.records):
            if matches(parse_record(record).items[0]):
                return at
        raise AssertionError("the scene holds no such decision")


def assert_clean(report: ReplayReport, decisions: int) -> None:
    assert [finding.text for finding in report.findings.listed if finding.severity == "finding"] == []
    assert report.outcomes == {Outcome.SAME: decisions}
    assert report.decisions == decisions == sum(report.answers.values())


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, seed=7)
    scene.life.begin()
    scene.follow()
    await scene.live(150)
    return scene


async def test_replay_of_random_decisions_from_a_real_cache_and_journal_gives_the_same_answers(tmp_path: Path) -> None:
    life = RecordedLife(seed=1, people=200)
    keys = SealingKeys()
    journal = FileJournal.open(
        tmp_path / JOURNALS_DIRECTORY_NAME / "pod-1",
        keys,
        "pod-1",
        JournalMode.GROUP,
        life.clock,
        segment_max_bytes=200_000,
    )
    decisions = 0
    async with CachePlace(tmp_path / "sidecar") as place:
        cache = await place.open()
        checker = Checker(cache, journal, life.clock, "boot-1", ORIGIN)
        await life.ask(checker)
        decisions += 1
        await cache.apply(life.log.batch(life.log.next_epoch(), life.policy_event()))
        await cache.save_key_ring(KeyRing(tuple(life.log.subject_keys), AUDIT_KEYS))
        while decisions < 2000:
            life.clock.advance(life.random.choice((10, 20_000, 70_000, 3_600_000)))
            life.log.now_ms = life.clock.now_ms()
            kind = life.random.random()
            count = life.random.randrange(1, 4)
            events = [life.policy_event()] if kind < 0.03 else [life.make_event() for _ in range(count)]
            await cache.apply(life.log.batch(*events))
            if decisions > 500 * len(life.log.subject_keys):
                begun = life.log.batch(life.log.next_epoch())
                await cache.apply(begun, key_ring=KeyRing(tuple(life.log.subject_keys), AUDIT_KEYS))
            for _ in range(6):
                items = life.random.choice((1, 1, 5))
                await life.ask(checker, items)
                decisions += items
        await cache.close()
    journal.close()
    seal_segment_keys(tmp_path, "pod-1", keys)
    folder = write_folder(tmp_path, life.log)
    life.write_replay_keys(tmp_path)
    assert len(life.log.subject_keys) == 4
    report = replay(folder)
    assert_clean(report, decisions)
    assert len(report.answers) > 20


async def test_replay_of_an_unchanged_scene_finds_nothing_and_counts_every_decision(scene: Scene) -> None:
    items = scene.items()
    report = scene.replay()
    assert_clean(report, len(items))
    assert report.log_size == scene.life.log.size
    assert report.sidecars == ["pod-1"]
    assert sum(report.hours.values()) == len(items)
    assert report.answers[Effect.DENY, Reason.INVALID_REQUEST] == sum(
        item.reason is Reason.INVALID_REQUEST for item in items
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"effect": Effect.ALLOW}, "ALLOW"),
        ({"reason": Reason.PROHIBITED}, "PROHIBITED"),
        ({"deciding_seq": 3}, "deciding seq 3 recorded"),
        ({"valid_until_ms": 12}, "valid until 12 recorded"),
    ],
    ids=["effect", "reason", "seq", "validity"],
)
async def test_replay_names_the_decision_whose_answer_was_changed(
    scene: Scene, fields: dict[str, object], said: str
) -> None:
    at = scene.find(lambda item: item.effect is Effect.DENY and item.deciding_seq > 3 and bool(item.pseudonyms))
    scene.change_item(at, **fields)
    report = scene.replay()
    (found,) = report.findings.listed
    assert (found.reason, found.sidecar_id) == ("ANSWER_DIFFERS", "pod-1")
    call = parse_record(scene.kept.records[at])
    identifier = call.call_id.hex()
    assert f"{identifier[:8]}-{identifier[8:12]}" in found.text
    assert said in found.text
    assert call.items[0].pseudonyms[0].hex() not in found.text
    assert report.outcomes[Outcome.DIFFERS] == 1
    assert report.decisions == len(scene.items())


async def test_replay_names_a_changed_input_of_a_decision(scene: Scene) -> None:
    at = scene.find(lambda item: item.reason is Reason.OPT_OUT)

    def ask_something_else(call: CallRecord) -> CallRecord:
        question = replace(parse_question(call.question), purposes=("contract",))
        return call._replace(question=format_question(question))

    scene.change(at, ask_something_else)
    assert [found.reason for found in scene.replay().findings.listed] == ["ANSWER_DIFFERS"]


async def test_replay_names_a_root_a_policy_version_and_a_log_that_never_were(scene: Scene) -> None:
    scene.change_situation(40, root_hash=bytes(32))
    scene.change_situation(60, policy_version=9)
    scene.change_situation(80, origin="log.example.org/other")
    scene.change_situation(100, checkpoint_time_ms=None)
    report = scene.replay()
    found = [finding.reason for finding in report.findings.listed]
    assert found == ["ROOT_DIFFERS", "POLICY_VERSION_DIFFERS", "OTHER_LOG", "CHECKPOINT_MISSING"]
    # What was answered is true all the same: it is judged by the log and not by what the record says of it.
    assert report.outcomes == {Outcome.SAME: len(scene.items())}


async def test_replay_names_a_caller_that_the_policy_does_not_let_through(scene: Scene) -> None:
    at = len(scene.kept.records)
    for _ in range(30):
        await scene.life.ask(scene.checker, caller=SHY_CALLER)
    refused = next(
        number
        for number in range(at, len(scene.kept.records))
        if not parse_question(parse_record(scene.kept.records[number]).question).is_caller_permitted
    )

    def let_through(call: CallRecord) -> CallRecord:
        return call._replace(question=format_question(replace(parse_question(call.question), is_caller_permitted=True)))

    scene.change(refused, let_through)
    report = scene.replay()
    assert "CALLER_PERMISSION_DIFFERS" in report.reasons


async def test_replay_of_records_beyond_the_log_or_on_a_smaller_log_says_so(scene: Scene) -> None:
    size = parse_situation(parse_record(scene.kept.records[100]).situation).log_size
    scene.change_situation(100, log_size=size - 5)
    scene.change_situation(len(scene.kept.records) - 1, log_size=scene.life.log.size + 1)
    report = scene.replay()
    assert [finding.reason for finding in report.findings.listed if finding.severity == "finding"] == ["SIZE_WENT_BACK"]
    assert report.reasons["RECORDS_AHEAD"] == 1
    assert report.obstacles[Obstacle.SIZE_WENT_BACK] == len(parse_record(scene.kept.records[100]).items)
    assert report.obstacles[Obstacle.BEYOND_THE_LOG] == len(parse_record(scene.kept.records[-1]).items)


async def test_replay_merges_sidecars_that_were_at_different_sizes(tmp_path: Path) -> None:
    first = Scene(tmp_path, seed=3)
    first.life.begin()
    behind, kept = MemoryCache(first.life.log), MemoryJournal()
    slow = first.make_checker(behind, kept)
    first.follow()
    behind.follow()
    for number in range(60):
        await first.live(2)
        if number % 10 == 0:
            behind.follow()
        await first.life.ask(slow, items=2)
    first.write(sidecar_id="pod-1")
    first.write(sidecar_id="pod-2", kept=kept)
    report = replay(first.open())
    assert_clean(report, len(first.items()) + 120)
    assert {sidecar for sidecar, *_ in report.hours} == {"pod-1", "pod-2"}


async def test_replay_across_key_epochs_and_days_finds_everybody_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=5, people=12)
    scene.life.begin()
    for _ in range(4):
        scene.follow()
        await scene.live(40)
        scene.life.clock.advance(DAY_MS)
        scene.life.log.append(scene.life.log.next_epoch())
        scene.life.publish_policy()
    assert_clean(scene.replay(), len(scene.items()))


async def test_replay_without_the_key_of_an_epoch_cannot_be_made(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.life.begin()
    scene.life.log.append(scene.life.log.next_epoch())
    scene.follow()
    await scene.live(3)
    scene.write()
    with pytest.raises(LogNotReplayable, match="key of epoch 1"):
        replay(scene.open(KeyRing((bytes(32),), AUDIT_KEYS)))


async def test_replay_of_people_erased_since_is_no_difference_and_is_counted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=11, people=6)
    scene.life.begin()
    scene.follow()
    await scene.live(120)
    for name in ("person-1", "person-4"):
        scene.life.erase(name)
    await scene.live(60)
    before = len(scene.items())
    report = scene.replay()
    assert [finding for finding in report.findings.listed if finding.severity == "finding"] == []
    assert report.outcomes[Outcome.ERASED] > 5
    assert report.outcomes[Outcome.SAME] + report.outcomes[Outcome.ERASED] == before


async def test_replay_does_not_excuse_a_difference_by_the_erasure_of_somebody_else(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=13, people=40)
    scene.life.begin()
    scene.life.log.append(scene.life.log.lead(scene.life.log.directive("x", token=scene.life.first_tokens["person-0"])))
    erased_seq = scene.life.log.size
    scene.follow()
    checker_items = len(scene.kept.records)
    scene.life.random.seed(1)
    await scene.live(40)
    at = scene.find(lambda item: item.effect is Effect.DENY and bool(item.pseudonyms) and item.deciding_seq > 0)
    assert checker_items == 0
    scene.change_item(at, effect=Effect.ALLOW, reason=Reason.GRANTED, deciding_seq=erased_seq)
    event = scene.life.erase("person-0")
    assert erased_seq in event.seqs
    assert scene.replay().reasons["ANSWER_DIFFERS"] == 1


async def test_replay_of_people_erased_in_a_later_key_epoch_is_told_apart_by_what_decided(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=17, people=5)
    scene.life.begin()
    scene.follow()
    await scene.live(80)
    scene.life.log.append(scene.life.log.next_epoch())
    for name in scene.life.names:
        scene.life.erase(name)
    report = scene.replay()
    assert [finding for finding in report.findings.listed if finding.severity == "finding"] == []
    assert report.outcomes[Outcome.ERASED] > 0
    assert report.obstacles[Obstacle.ERASED_IN_A_LATER_EPOCH] > 0


async def test_replay_under_a_bootstrap_policy_needs_the_policy(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=19)
    policy = parse_policy(scene.life.policy_event().document)
    scene.checker = Checker(scene.cache, scene.kept, scene.life.clock, "boot-1", ORIGIN, policy)  # type: ignore[arg-type]
    for _ in range(30):
        await scene.life.ask(scene.checker)
    scene.life.begin()
    folder = scene.open()
    scene.write()
    report = replay(folder)
    assert report.obstacles == {Obstacle.BOOTSTRAP_POLICY: 30}
    assert report.findings.is_clean
    assert_clean(replay(folder, {policy.version: policy}), 30)


async def test_replay_before_any_policy_and_before_any_key_is_the_same(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=23)
    for _ in range(20):
        await scene.life.ask(scene.checker)
    scene.life.log.append(scene.life.log.next_epoch())
    scene.follow()
    scene.cache.key_ring = None
    for _ in range(20):
        await scene.life.ask(scene.checker)
    scene.life.publish_policy()
    scene.follow()
    scene.cache.key_ring = None
    for _ in range(40):
        await scene.life.ask(scene.checker)
    assert_clean(scene.replay(), 80)


async def test_replay_of_a_sidecar_that_got_no_newer_audit_key_tries_the_earlier_ones(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=29)
    scene.life.begin()
    scene.life.clock.advance(5 * DAY_MS)
    for _ in range(40):
        scene.life.log.append(scene.life.make_event())
        scene.follow()
        scene.cache.follow(AUDIT_KEYS[:2])
        await scene.life.ask(scene.checker, caller=CALLER)
    report = scene.replay()
    assert_clean(report, 40)
    assert report.reasons["OTHER_DAYS_KEY"] == 1


async def test_replay_of_a_day_without_a_key_says_so_and_accuses_nobody(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=31)
    scene.life.begin()
    scene.follow()
    await scene.live(60)
    scene.write()
    report = replay(scene.open(scene.life.replay_ring([(FIRST_DAY - 3, b"\x05" * 32)])))
    assert report.obstacles[Obstacle.DAY_WITHOUT_KEY] > 30
    assert report.findings.is_clean


async def test_replay_of_an_allow_without_pseudonyms_is_not_called_the_same(scene: Scene) -> None:
    at = scene.find(lambda item: item.effect is Effect.ALLOW and bool(item.pseudonyms))
    scene.change_item(at, pseudonyms=())
    report = scene.replay()
    assert report.obstacles == {Obstacle.NO_PSEUDONYMS: 1}
    assert report.outcomes[Outcome.SAME] == report.decisions - 1


async def test_replay_of_a_stranger_answered_as_somebody_known_differs(scene: Scene) -> None:
    """A pseudonym that is nobody's under any key is an unknown subject, and the answer must be one to that."""
    call_id = await scene.life.ask(scene.checker, caller=CALLER)
    scene.kept.records.pop()
    await scene.checker.check(CALLER, scene.life.make_question(), [[Identifier("user", "stranger")]], call_id, NO_TRACE)
    scene.change_item(len(scene.kept.records) - 1, effect=Effect.ALLOW, reason=Reason.GRANTED, deciding_seq=4)
    assert scene.replay().reasons["ANSWER_DIFFERS"] == 1


async def test_replay_without_keys_or_with_another_log_cannot_be_made(scene: Scene) -> None:
    scene.write()
    folder = scene.open()
    (folder.path / REPLAY_KEYS_FILE_NAME).unlink()
    with pytest.raises(ReplayKeysMissing, match="consentry-feed replay-keys"):
        replay(folder)
    first = scene.life.log.entries[10]
    scene.life.log.entries[10] = replace(first, opening=bytes(32))
    with pytest.raises(LogNotReplayable, match="not the log"):
        replay(scene.open())


async def test_replay_of_a_journal_without_its_keys_says_that_it_was_not_read(scene: Scene) -> None:
    scene.write()
    folder = scene.open()
    (folder.path / JOURNALS_DIRECTORY_NAME / "pod-1" / "segment-keys.json").unlink()
    report = replay(folder)
    assert (report.decisions, report.unread, report.findings.is_clean) == (0, 1, True)
    assert [finding.reason for finding in report.findings.listed] == ["SEGMENT_KEY_MISSING"]


async def test_replay_of_a_damaged_journal_judges_what_stands_before_the_damage(scene: Scene) -> None:
    scene.write()
    (path,) = (scene.folder / JOURNALS_DIRECTORY_NAME / "pod-1").glob("*.journal")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = replay(scene.open())
    assert 0 < report.decisions < len(scene.items())
    assert report.outcomes == {Outcome.SAME: report.decisions}
    assert [finding.reason for finding in report.findings.listed] == ["CORRUPT_JOURNAL"]


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        app(["replay", *arguments], prog_name="consentry-auditor")
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "auditor.key"
    create_key_file(path, AUDITOR.private_key.private_bytes_raw() + bytes(32), use=KEY_USE)
    return path


async def test_replay_command_ends_with_0_1_or_2_and_says_why(
    scene: Scene, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = scene.find(lambda item: item.reason is Reason.OPT_OUT)
    scene.write()
    scene.open()
    options = ("--folder", str(scene.folder), "--key", str(key_file))
    code, said, _ = run_command(capsys, *options, "--json")
    described = json.loads(said)
    assert (code, described["same"], described["differs"]) == (0, len(scene.items()), 0)
    code, said, _ = run_command(capsys, *options, "--csv")
    assert code == 0
    assert said.startswith("sidecar_id,hour_ms,same,differs,erased,not_replayable\npod-1,")
    scene.change_item(at, deciding_seq=1)
    scene.write(sidecar_id="pod-2")
    code, said, _ = run_command(capsys, *options)
    assert code == 1
    assert "ANSWER_DIFFERS" in said
    (scene.folder / REPLAY_KEYS_FILE_NAME).unlink()
    code, _, complaint = run_command(capsys, *options)
    assert code == 2
    assert "REPLAY_KEYS_MISSING" in complaint


@pytest.mark.long(seconds=60)
async def test_replay_of_100_000_random_decisions_finds_no_difference_and_then_the_planted_one(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=41, people=3000)
    life = scene.life
    life.begin()
    life.log.append(*(life.make_event() for _ in range(3000)))
    others = [(MemoryCache(life.log), MemoryJournal()) for _ in range(2)]
    checkers = [scene.make_checker(cache, kept) for cache, kept in others]
    for cache in (scene.cache, *(cache for cache, _ in others)):
        cache.follow()
    for step in range(1000):
        life.clock.advance(life.random.choice((100, 30_000, 300_000)))
        life.log.now_ms = life.clock.now_ms()
        life.log.append(life.policy_event() if step % 100 == 50 else life.make_event())
        if step % 300 == 299:
            life.log.append(life.log.next_epoch())
        scene.follow()
        others[step % 2][0].follow()
        for checker in (scene.checker, *checkers):
            for _ in range(17):
                await life.ask(checker, items=2)
    planted = scene.find(lambda item: item.reason is Reason.OPT_OUT_PARENT)
    scene.write()
    for number, (_, kept) in enumerate(others):
        scene.write(sidecar_id=f"pod-{number + 2}", kept=kept)
    folder = scene.open()
    report = replay(folder)
    assert_clean(report, 102_000)
    scene.change_item(planted, effect=Effect.ALLOW, reason=Reason.GRANTED)
    scene.write()
    assert replay(folder).reasons == {"ANSWER_DIFFERS": 1}
