"""The whole replay of an audit folder."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from auditor.errors import SegmentKeyMissing
from auditor.findings import Finding, Severity
from auditor.folder import AuditFolder
from auditor.log_copy import LogCopy
from auditor.progress import Progress, no_progress
from auditor.replay.errors import LogNotReplayable, ReplayKeysMissing
from auditor.replay.fold import LogFold, find_erasures
from auditor.replay.judge import Judge, Obstacle, Outcome, Verdict, is_permission_plausible, read_question
from auditor.replay.pseudonyms import PseudonymTables
from auditor.replay.report import ReplayReport
from auditor.replay.walk import CallIn, ChainWalk, merge_walks
from consent.decision_record import CallRecord, Item, Situation, item_id
from consent.eventlog.checkpoint import Checkpoint, verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.eventlog.trust import Trust
from consent.policy import Policy

_MS_PER_HOUR: Final = 3_600_000

BootstrapPolicies = Mapping[int, Policy]
"""Policies for the time before a sidecar's first snapshot, by version."""


def replay(
    folder: AuditFolder,
    bootstrap_policies: BootstrapPolicies | None = None,
    progress: Progress = no_progress,
) -> ReplayReport:
    """Compute every recorded decision anew.

    Args:
        folder: With log, journals and replay keys.
        bootstrap_policies: Those that sidecars start from.
        progress: Told how many bytes of journals and log were read, about.

    Raises:
        ReplayKeysMissing: There are no keys for it.
        LogNotReplayable: The log's copy does not fold, or is not what its checkpoint signs.
        MalformedLogCopy, FolderUnusable: Something cannot be read.
    """
    ring = folder.replay_keys()
    if ring is None or not ring.audit_keys:
        raise ReplayKeysMissing(
            "there are no replay keys in the folder: `consentry-feed replay-keys` makes the file replay.keys for an auditor's key"
        )
    log = folder.log
    checkpoint = read_checkpoint(log, folder.trust)
    meter = _Meter(progress, log.size_bytes + _journal_bytes(folder))
    walks = [
        ChainWalk(journal, chain_id, meter.add)
        for journal in folder.journals()
        for chain_id in sorted(journal.chains())
    ]
    fold = LogFold(log, ring, find_erasures(log), meter.add)
    run = _Run(fold, Judge(fold, PseudonymTables(ring)), checkpoint, bootstrap_policies or {})
    run.report.log_size = checkpoint.size
    run.report.sidecars = sorted({walk.sidecar_id for walk in walks})
    for walk, found in merge_walks(walks):
        run.take(walk, found)
    # The rest is folded for its tree alone: only the whole one is signed.
    if not fold.advance(checkpoint.size) or fold.root_hash != checkpoint.root_hash:
        raise LogNotReplayable(
            "the copy is not the log that its checkpoint signs: `consentry-auditor verify` says where it departs"
        )
    run.finish(walks)
    return run.report


def read_checkpoint(log: LogCopy, trust: Trust) -> Checkpoint:
    """The newest checkpoint of a copy, verified.

    Raises:
        LogNotReplayable: There is none that the trusted keys signed.
        MalformedLogCopy, FolderUnusable: The copy cannot be read.
    """
    try:
        return verify_checkpoint(log.checkpoint_note(), trust, None).checkpoint
    except EventLogError as error:
        raise LogNotReplayable(f"log.copy: its checkpoint: {error.reason}: {error}") from None


def _journal_bytes(folder: AuditFolder) -> int:
    return sum(size for journal in folder.journals() for sizes in journal.chains().values() for size in sizes.values())


class _Meter:
    """Adds up bytes, and tells of them about two hundred times."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = self._told = 0

    def add(self, size_bytes: int) -> None:
        self._done = min(self._done + size_bytes, self._total)
        if self._done - self._told >= self._total // 200:
            self._told = self._done
            self._progress("replaying", self._done, self._total)


class _Run:
    def __init__(self, fold: LogFold, judge: Judge, checkpoint: Checkpoint, bootstrap: BootstrapPolicies) -> None:
        self.report = ReplayReport()
        self._fold = fold
        self._judge = judge
        self._checkpoint = checkpoint
        self._bootstrap = bootstrap
        self._judged_situations: dict[bytes, bytes] = {}
        self._other_days_keys: Counter[str] = Counter()
        self._ahead: Counter[bytes] = Counter()

    def take(self, walk: ChainWalk, found: CallIn) -> None:
        """Judge one call."""
        call, situation = found
        obstacle, policy = self._prepare(walk, call, situation)
        if obstacle is None:
            verdicts = self._judge.judge(walk.chain_id, call, situation, policy)
            self._check_permission(walk, call, policy)
        else:
            verdicts = [Verdict(Outcome.NOT_REPLAYABLE, obstacle=obstacle)] * len(call.items)
        hour, report = call.now_ms // _MS_PER_HOUR, self.report
        for index, (item, verdict) in enumerate(zip(call.items, verdicts, strict=True)):
            report.hours[walk.sidecar_id, hour, verdict.outcome] += 1
            report.answers[item.effect, item.reason] += 1
            if verdict.outcome is not Outcome.SAME or verdict.used_other_days_key:
                self._take_note(walk, call, index, verdict)

    def finish(self, walks: Iterable[ChainWalk]) -> None:
        """Say what is about whole chains, or about all."""
        for walk in walks:
            place = f"chain {walk.chain_id.hex()[:8]}"
            if walk.went_back:
                text = f"{walk.went_back} decisions were made on a smaller log than one before them"
                self.report.add(Finding("SIZE_WENT_BACK", text, sidecar_id=walk.sidecar_id, place=place))
            if ahead := self._ahead[walk.chain_id]:
                text = f"{ahead} decisions were made on a larger log than the copy, which ends at entry {self._checkpoint.size}"
                self.report.add(Finding("RECORDS_AHEAD", text, Severity.NOTE, walk.sidecar_id, place))
            if walk.error is not None:
                self.report.unread += 1
                self.report.add(_describe_unread(walk, place))
        for sidecar_id, count in sorted(self._other_days_keys.items()):
            text = (
                f"{count} decisions bear pseudonyms of another day's key, as a sidecar without a newer one makes them"
            )
            self.report.add(Finding("OTHER_DAYS_KEY", text, Severity.NOTE, sidecar_id))
        for obstacle, count in sorted(self.report.obstacles.items()):
            text = f"{count} decisions: {_OBSTACLE_TEXTS[obstacle]}"
            self.report.add(Finding(f"NOT_REPLAYABLE_{obstacle.value}", text, Severity.NOTE))

    def _take_note(self, walk: ChainWalk, call: CallRecord, index: int, verdict: Verdict) -> None:
        if verdict.used_other_days_key:
            self._other_days_keys[walk.sidecar_id] += 1
        if verdict.obstacle is not None:
            self.report.obstacles[verdict.obstacle] += 1
        if verdict.outcome is Outcome.DIFFERS:
            self.report.add(_describe_difference(walk.sidecar_id, call, index, call.items[index], verdict))

    def _prepare(
        self, walk: ChainWalk, call: CallRecord, situation: Situation
    ) -> tuple[Obstacle | None, Policy | None]:
        """Bring the log to where the sidecar was, and find the policy of then."""
        fold = self._fold
        size = situation.log_size
        if situation.checkpoint_time_ms is None and size == 0:
            if situation.policy_version == 0:
                return None, None
            policy = self._bootstrap.get(situation.policy_version)
            return (Obstacle.BOOTSTRAP_POLICY if policy is None else None), policy
        if size > self._checkpoint.size:
            self._ahead[walk.chain_id] += len(call.items)
            return Obstacle.BEYOND_THE_LOG, None
        if size < fold.size or not fold.advance(size):
            return Obstacle.SIZE_WENT_BACK, None
        if self._judged_situations.get(walk.chain_id) != call.situation:
            self._judged_situations[walk.chain_id] = call.situation
            self._check_situation(walk, call, situation)
        return None, fold.policy

    def _check_situation(self, walk: ChainWalk, call: CallRecord, situation: Situation) -> None:
        """Once for each situation of a chain: what the sidecar says of the log must be true."""
        fold, version = self._fold, self._fold.tenant.policy_version
        problems = []
        if situation.root_hash != fold.root_hash:
            problems.append(("ROOT_DIFFERS", "the log had another root at that size"))
        if situation.policy_version != version:
            text = f"policy version {situation.policy_version} is recorded, and {version} was in force"
            problems.append(("POLICY_VERSION_DIFFERS", text))
        if situation.origin != (self._checkpoint.origin if situation.log_size else ""):
            problems.append(("OTHER_LOG", "another log is named"))
        if situation.checkpoint_time_ms is None:
            problems.append(("CHECKPOINT_MISSING", "entries of the log are in force without any checkpoint"))
        for reason, text in problems:
            whole = f"from decision {_format_id(call.call_id)} on, at log size {situation.log_size}: {text}"
            self.report.add(Finding(reason, whole, sidecar_id=walk.sidecar_id))

    def _check_permission(self, walk: ChainWalk, call: CallRecord, policy: Policy | None) -> None:
        question = read_question(call.question).question
        if not is_permission_plausible(question, policy):
            text = f"caller {question.caller} was let through, which the policy of then did not permit"
            whole = f"decision {_format_id(call.call_id)}: {text}"
            self.report.add(Finding("CALLER_PERMISSION_DIFFERS", whole, sidecar_id=walk.sidecar_id))


_OBSTACLE_TEXTS: Final = {
    Obstacle.BOOTSTRAP_POLICY: "made under a bootstrap policy that was not given with --bootstrap-policy",
    Obstacle.DAY_WITHOUT_KEY: "made on a day of which the replay keys hold no audit key",
    Obstacle.NO_PSEUDONYMS: "recorded without pseudonyms, so that nobody can say whom they were about",
    Obstacle.ERASED_IN_A_LATER_EPOCH: "about somebody who may have been erased in a later key epoch",
    Obstacle.BEYOND_THE_LOG: "made on a larger log than the copy",
    Obstacle.SIZE_WENT_BACK: "made on a smaller log than one before them",
}


def _describe_difference(sidecar_id: str, call: CallRecord, index: int, item: Item, verdict: Verdict) -> Finding:
    decision = verdict.decision
    assert decision is not None  # noqa: S101 - only what was computed can differ
    changed = [
        f"{name} {was} recorded, {now} recomputed"
        for name, was, now in (
            ("deciding seq", item.deciding_seq, decision.deciding_seq),
            ("valid until", item.valid_until_ms, decision.valid_until_ms),
        )
        if was != now
    ]
    answers = f"{item.effect} {item.reason} recorded, {decision.effect} {decision.reason} recomputed"
    text = f"decision {_format_id(item_id(call.call_id, index))}: {'; '.join([answers, *changed])}"
    return Finding("ANSWER_DIFFERS", text, sidecar_id=sidecar_id)


def _describe_unread(walk: ChainWalk, place: str) -> Finding:
    error = walk.error
    if isinstance(error, SegmentKeyMissing):
        return Finding(error.reason, f"{error}; its records were not replayed", Severity.NOTE, walk.sidecar_id, place)
    reason = getattr(error, "reason", "SEGMENT_UNREADABLE")
    return Finding(reason, f"the records behind it were not replayed: {error}", sidecar_id=walk.sidecar_id, place=place)


def _format_id(decision_id: bytes) -> str:
    return str(UUID(bytes=decision_id))
