"""The sequencer: one task that gathers requests, commits them in one order, and only then answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from consent.authority import Authority, NotAuthorised
from consent.event import Event, KeyEpochEvent
from consent.key_epoch import current_epoch
from consent.policy import Policy
from consent.state import Cluster
from consent.state_record import parse_cluster
from feed.errors import (
    ArchiveWriteFailed,
    CorruptLog,
    FeedError,
    ForeignLog,
    InvalidRequest,
    KeyEpochBegan,
    LogBehindSidecar,
    LogStoreError,
    LogWriteFailed,
    OutcomeUnknown,
    ShuttingDown,
)
from feed.log_store.port import Batch, LogStore, StoredHead
from feed.ports import Accepted, FeedHead, StoredEntry, Submission
from feed.sequencer.batch_builder import BatchBuilder, FormattedRequest, format_request
from feed.sequencer.lone import LoneChange, LoneEntry
from feed.sequencer.recent_entries import RecentEntries
from feed.sequencer.waiting import WaitingRequest, WaitingRequests, refuse_all
from feed.signing.log_signer import LogSigner
from feed.signing.subject_keys import SubjectKeys
from feed.telemetry.metrics import LogMeter
from hosting.clock import Clock

#: Source of the events that the feed itself makes.
FEED_SOURCE: Final = "feed"


@dataclass(frozen=True, slots=True)
class SequencerLimits:
    """How much is taken in at once.

    Attributes:
        resign_seconds: How often the checkpoint is signed anew while nothing happens: the sidecars' freshness.
        max_waiting_requests: Beyond this, submissions are refused as overload.
        max_batch_events: In one commit; a batch is put together in one go, so this bounds how long the loop stands still.
    """

    resign_seconds: float = 2.0
    max_waiting_requests: int = 10_000
    max_batch_events: int = 512


class Sequencer:
    """Implements `feed.ports.Log`.

    Nothing in memory changes before the store has committed. After a commit that failed, the stored head says what became of the batch;
    until it has said so, nothing else is committed.

    Args:
        store: Where the log is kept.
        signer: Signs checkpoints.
        clock: Where the time comes from.
        origin: Name of the log; events made for another are refused.
        subject_keys: The first entry of a new log commits to the first of them; they lead older tokens to the log's epoch.
        authority: Judges who may say what, by the trust file that the sidecars have.
        limits: How much is taken in at once.

    Attributes:
        meter: Counts what is taken and refused.
    """

    def __init__(
        self,
        store: LogStore,
        signer: LogSigner,
        clock: Clock,
        *,
        origin: str,
        subject_keys: SubjectKeys,
        authority: Authority,
        limits: SequencerLimits | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._origin = origin
        self._subject_keys = subject_keys
        self._authority = authority
        self._limits = limits or SequencerLimits()
        self.meter = LogMeter()
        self._stored = StoredHead()
        self._head = FeedHead()
        self._policy: Policy | None = None
        self._recent = RecentEntries()
        self._last_erasure_seq = 0
        self._waiting = WaitingRequests(self._limits.max_waiting_requests)
        self._wake = asyncio.Event()
        # Held while a batch, a lone entry or a checkpoint is made: no two of them overlap.
        self._turn = asyncio.Lock()
        self._unsettled: Batch | None = None
        self._watchers: dict[object, Callable[[], None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._lone_tasks: set[asyncio.Task[LoneEntry]] = set()
        self._is_closing = False
        self._stop_text = ""

    @property
    def head(self) -> FeedHead:
        """What is committed."""
        return self._head

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        return self._policy

    @property
    def is_open(self) -> bool:
        """Whether it takes requests, apart from a stopped intake."""
        return bool(self._tasks) and not self._is_closing

    async def start(self) -> None:
        """Take up the stored log, or begin a new one with its KEY_EPOCH, and sign its checkpoint as of now.

        Raises:
            CorruptLog: What is stored does not hash to the signed head.
            ForeignLog: It is another log's, or of other subject keys.
            LogWriteFailed, OutcomeUnknown: The first entry cannot be kept, or perhaps cannot.
        """
        stored = await self._store.load_head()
        if stored.version and not self._subject_keys.match(stored.tenant):
            raise ForeignLog("the subject keys are not those that the log commits to")
        self._take_head(stored)
        if not stored.version:
            await self._log_lone(LoneChange((self._first_event(),)))
        await self.resign_now()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_fresh())]

    async def close(self) -> None:
        """Log what waits, answer it, and stop; the store stays open."""
        self._is_closing = True
        self._wake.set()
        if self._tasks:
            run, keep_fresh = self._tasks
            keep_fresh.cancel()
            await asyncio.wait([run, keep_fresh, *self._lone_tasks])
            self._tasks = []
            # Whoever called `wait` was told; without that, asyncio would report it as an error that nobody has seen.
            run.exception()

    async def wait(self) -> None:
        """Return when the sequencer has stopped.

        Raises:
            CorruptLog: It had to.
        """
        if self._tasks:
            await asyncio.shield(self._tasks[0])

    def stop_intake(self, text: str) -> None:
        """Log nothing more until `resume_intake`, and refuse what waits: a new entry would take the number of one that was lost.

        Args:
            text: Why, for whoever is refused; without personal data.
        """
        self._stop_text = text
        for waiting in self._waiting.take_all():
            waiting.refuse(LogBehindSidecar(text))

    def resume_intake(self) -> None:
        """Log again."""
        self._stop_text = ""

    async def submit(self, submission: Submission) -> Accepted:
        """Log a request; see `feed.ports.Log`. A caller that stops waiting may find it logged all the same.

        Tokens of an older key epoch are led to the one that the log is in when the request has its turn.

        Raises:
            InvalidRequest: No event, one made for another log, or a KEY_EPOCH, which changes more than the log.
            ClusterTooLarge: A grant or a link would make one person's record larger than any person's.
            LogBehindSidecar: The intake is stopped.
            NotAuthorised: An event lacks a signature that it needs.
            KeyEpochBegan: It was signed for under older tokens.
            LogWriteFailed: Nothing of it is in the log.
            OutcomeUnknown: It may be in the log; to be repeated with the same idempotency key.
        """
        started = time.perf_counter()
        try:
            accepted = await self._submit(submission)
        except Exception:
            self.meter.note_refused()
            raise
        self.meter.note_accepted(accepted, started)
        return accepted

    async def _submit(self, submission: Submission) -> Accepted:
        if not submission.events:
            raise InvalidRequest("events: there is none")
        if any(event.origin != self._origin for event in submission.events):
            raise InvalidRequest("origin: an event was made for another log")
        if any(isinstance(event, KeyEpochEvent) for event in submission.events):
            raise InvalidRequest("events: a key epoch is begun by `KeyEpochs` only")
        if any(event.key_epoch > current_epoch(self._stored.tenant) for event in submission.events):
            raise InvalidRequest("key_epoch: has not begun")
        self._check_open()
        # Here and not in the batch: what cannot be written is its own caller's failure and nobody else's.
        waiting = self._waiting.add(format_request(submission))
        self._wake.set()
        return await waiting.answer

    async def append_alone(self, make_event: Callable[[StoredHead], Awaitable[Event | LoneChange]]) -> LoneEntry:
        """Log one event, or several, that depend on everything before them.

        Nothing else is logged from the call of `make_event`, with the committed head, to the commit of what it returns. The checkpoint
        is signed anew meanwhile, so that sidecars stay fresh however long it takes.

        Raises:
            ShuttingDown, LogWriteFailed, OutcomeUnknown: As `submit`; and whatever `make_event` raises.
        """
        self._check_open()
        # A task of its own: a caller that goes away must not leave a commit half awaited.
        task = asyncio.create_task(self._append_alone(make_event))
        self._lone_tasks.add(task)
        task.add_done_callback(self._forget_lone_task)
        return await asyncio.shield(task)

    def lead_event(self, event: Event) -> Event:
        """The event with its tokens led to the key epoch that the log is in."""
        return self._subject_keys.lead_event(event, self._stored.tenant)

    async def find_cluster(self, token: bytes) -> Cluster | None:
        """What the log knows of a token of epoch 0, committed entries only."""
        while True:
            tenant = self._stored.tenant
            led = self._subject_keys.lead_token(token, tenant)
            record = (await self._store.find_clusters([led])).get(led)
            if tenant.key_commitments == self._stored.tenant.key_commitments:
                return None if record is None else parse_cluster(record)

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        """Committed entries from `from_seq` on; fewer than `limit` at the end of the log or where they are large.

        Raises:
            CorruptLog: One of them is damaged or gone.
        """
        limit = min(limit, self._head.size - from_seq + 1)
        if from_seq < 1 or limit < 1:
            return []
        entries = self._recent.read(from_seq, limit)
        if entries is None:
            entries = await self._store.read_entries(from_seq, limit)
        if not entries:
            raise CorruptLog(f"entry {from_seq} is missing")
        return entries

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` after each commit and each new checkpoint; returns the call that ends it."""
        name = object()
        self._watchers[name] = on_change
        return lambda: self._watchers.pop(name, None) and None

    async def resign_now(self) -> None:
        """Sign the checkpoint anew, as of now.

        It is not written down: a restart signs again, and nobody may conclude anything from an older one.
        """
        async with self._turn:
            self._resign()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._is_closing:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    async with self._turn:
                        await self._log_batch(self._waiting.take(self._limits.max_batch_events))
        finally:
            # Only a damaged log, or a bug, ends the loop early. Nobody must be left waiting for an answer, and a log that has
            # stopped must not look fresh.
            self._is_closing = True
            refuse_all(self._waiting.take_all())

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._limits.resign_seconds)
            if self._is_closing:
                return
            await self.resign_now()

    async def _append_alone(self, make_event: Callable[[StoredHead], Awaitable[Event | LoneChange]]) -> LoneEntry:
        async with self._turn:
            await self._settle()
            making = asyncio.ensure_future(make_event(self._stored))
            while not making.done():
                await asyncio.wait([making], timeout=self._limits.resign_seconds)
                if not making.done():
                    self._resign()
            made = making.result()
            return await self._log_lone(made if isinstance(made, LoneChange) else LoneChange((made,)))

    async def _log_lone(self, change: LoneChange) -> LoneEntry:
        before = self._stored
        request = format_request(Submission(change.events))
        builder = await self._start_batch([request])
        builder.add(request)
        batch = await self._commit(builder, change)
        return LoneEntry(before, batch.entries[-1], batch.head)

    async def _log_batch(self, taken: list[WaitingRequest]) -> None:
        try:
            await self._settle()
            taken = self._lead_all(taken)
            builder = await self._start_batch([waiting.request for waiting in taken])
            accepted = self._add_all(builder, taken)
            if not builder.is_empty:
                await self._commit(builder)
        except CorruptLog as error:
            for waiting in taken:
                waiting.refuse(CorruptLog(str(error)))
            raise
        except LogBehindSidecar as error:
            for waiting in taken:
                waiting.refuse(LogBehindSidecar(str(error)))
        except LogStoreError as error:
            for waiting in taken:
                waiting.refuse(self._explain_failure(waiting.request, error))
        else:
            for waiting, answer in accepted:
                waiting.accept(answer)
        finally:
            refuse_all(taken)

    def _explain_failure(self, request: FormattedRequest, error: LogStoreError) -> LogStoreError:
        # What comes again while its first try is unsettled must not hear that nothing was recorded.
        unsettled = self._unsettled.requests if self._unsettled is not None else {}
        if isinstance(error, OutcomeUnknown) or any(name in unsettled for name in request.names):
            return OutcomeUnknown("it may have been recorded; repeat it with the same idempotency key")
        return ArchiveWriteFailed(str(error)) if isinstance(error, ArchiveWriteFailed) else LogWriteFailed(str(error))

    async def _start_batch(self, requests: Sequence[FormattedRequest]) -> BatchBuilder:
        tokens = {token for request in requests for token in request.tokens}
        names = {name for request in requests for name in request.names}
        records = await self._store.find_clusters(tokens) if tokens else {}
        known = await self._store.find_requests(names) if names else {}
        return BatchBuilder(self._stored, records, known, self._clock.now_ms(), self._authority)

    def _add_all(self, builder: BatchBuilder, taken: list[WaitingRequest]) -> list[tuple[WaitingRequest, Accepted]]:
        accepted = []
        for waiting in taken:
            try:
                accepted.append((waiting, builder.add(waiting.request)))
            except CorruptLog:
                raise
            except (FeedError, NotAuthorised) as refusal:
                waiting.refuse(refusal)
        return accepted

    def _lead_all(self, taken: list[WaitingRequest]) -> list[WaitingRequest]:
        led = []
        for waiting in taken:
            request = self._lead(waiting.request)
            if any(request.attestations) and request.event_bytes != waiting.request.event_bytes:
                # Other tokens, other bytes: the signatures are over the old ones.
                waiting.refuse(
                    KeyEpochBegan("a key epoch has begun meanwhile: repeat it with the same idempotency key")
                )
            else:
                led.append(replace(waiting, request=request))
        return led

    def _lead(self, request: FormattedRequest) -> FormattedRequest:
        """The request in the log's key epoch: one may have begun while it waited, and intake speaks of epoch 0."""
        if not request.tokens or not current_epoch(self._stored.tenant):
            return request
        submission = request.submission
        events = [self._subject_keys.lead_event(event, self._stored.tenant) for event in submission.events]
        return format_request(replace(submission, events=events))

    async def _commit(self, builder: BatchBuilder, change: LoneChange | None = None) -> Batch:
        self._check_intake()
        note, time_ms = self._sign(builder.size, builder.root_hash())
        batch = builder.build(note, time_ms)
        if change is not None:
            batch = batch.with_change(staged_state_sum=change.staged_state_sum, erased=change.erased)
        try:
            await self._store.commit(batch)
        except LogWriteFailed:
            # The data may be there all the same. A crash here leaves the question to the next start, whose answer is the
            # stored head; nobody was told anything yet, and a retry finds its idempotency key.
            self._unsettled = batch
            if not await self._settle_failed():
                raise
        else:
            self._adopt(batch)
        return batch

    async def _settle_failed(self) -> bool:
        """`_settle` right after the failure: who waits for this batch must not be told that it was refused if that is not known."""
        try:
            return await self._settle()
        except CorruptLog:
            raise
        except LogStoreError as error:
            raise OutcomeUnknown(
                f"the commit failed, and the store cannot tell yet what it has kept: {error}"
            ) from error

    async def _settle(self) -> bool:
        """Find out what became of a batch whose commit failed. Returns whether it is in the log.

        Raises:
            LogStoreError: The store cannot tell yet; to be asked again before anything else is written.
            CorruptLog: It holds neither the head before nor that batch.
        """
        batch = self._unsettled
        if batch is None:
            return False
        found = await self._store.load_head()
        is_logged = found.checkpoint_note == batch.head.checkpoint_note and found == batch.head
        if not is_logged and found.version != batch.before.version:
            raise CorruptLog("another writer has changed the log")
        if is_logged:
            await self._store.settle()
            self._adopt(batch)
        self._unsettled = None
        return is_logged

    def _adopt(self, batch: Batch) -> None:
        if batch.erased:
            self._last_erasure_seq = batch.head.size
            self._recent = RecentEntries()
        self._take_head(batch.head)
        self._recent.extend(batch.entries)
        self.meter.note_batch(batch.entries)
        self._notify()

    def _take_head(self, head: StoredHead) -> None:
        if head.tenant is not self._stored.tenant:
            self._policy = head.tenant.load_policy()
        self._stored = head
        self._head = FeedHead(
            head.frontier, head.checkpoint_note, head.checkpoint_time_ms, head.tenant, self._last_erasure_seq
        )

    def _resign(self) -> None:
        note, time_ms = self._sign(self._head.size, self._head.frontier.root_hash())
        self._head = replace(self._head, checkpoint_note=note, checkpoint_time_ms=time_ms)
        self._notify()

    def _sign(self, size: int, root_hash: bytes) -> tuple[bytes, int]:
        now_ms = self._clock.now_ms()
        return self._signer.sign(self._origin, size, root_hash, now_ms), now_ms // 1000 * 1000

    def _notify(self) -> None:
        for on_change in list(self._watchers.values()):
            on_change()

    def _check_open(self) -> None:
        if self._is_closing or not self._tasks:
            raise ShuttingDown("the log takes no more requests")
        self._check_intake()

    def _check_intake(self) -> None:
        if self._stop_text:
            raise LogBehindSidecar(self._stop_text)

    def _first_event(self) -> Event:
        return KeyEpochEvent(
            origin=self._origin, source=FEED_SOURCE, epoch=0, key_commitment=self._subject_keys.first_commitment
        )

    def _forget_lone_task(self, task: asyncio.Task[LoneEntry]) -> None:
        self._lone_tasks.discard(task)
        # Its caller may be gone: an error that nobody fetches would be reported as a bug.
        if not task.cancelled():
            task.exception()
