"""The log in memory: folds, hashes and answers repetitions for real; it only signs and stores nothing."""

import asyncio
import os
from collections.abc import Callable, Sequence

from consent.authority import Authority
from consent.event import Event, EventType, LinkEvent, PolicyEvent, RejectedEvent, format_event
from consent.eventlog.attestation import Attestation
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.policy import ForbiddenReplacement, Policy, PolicyError
from consent.state import Cluster, Member, fold_event
from consent.tenant_state import EMPTY_TENANT, EventOutOfOrder, TenantState, fold_tenant_event
from feed.errors import ClusterTooLarge, IdempotencyKeyReused, PolicyConflict, PolicyRejected
from feed.ports import Accepted, FeedHead, IdempotencyKey, StoredEntry, Submission
from feed.sequencer.batch_builder import KEY_DIVIDER, MAX_CLUSTER_MEMBERS
from hosting.clock import Clock


class MemoryLog:
    """`feed.ports.Log` without a disk.

    Args:
        clock: Time of acceptance.
        authority: Judges who may say what; None believes everybody.

    Attributes:
        entries: Every entry, in order.
        clusters: The folded state.
        failure: Raised by the next submission, once.
    """

    def __init__(self, clock: Clock, authority: Authority | None = None) -> None:
        self._authority = authority
        self._clock = clock
        self._frontier = Frontier()
        self._tenant: TenantState = EMPTY_TENANT
        self._policy: Policy | None = None
        self._answers: dict[tuple[str, str], tuple[bytes, Accepted]] = {}
        self._watchers: list[Callable[[], None]] = []
        self.entries: list[StoredEntry] = []
        self.clusters: dict[bytes, Cluster] = {}
        self.failure: Exception | None = None

    @property
    def head(self) -> FeedHead:
        return FeedHead(self._frontier.copy(), b"", self._clock.now_ms(), self._tenant)

    @property
    def policy(self) -> Policy | None:
        return self._policy

    async def submit(self, submission: Submission) -> Accepted:
        # As with the real one, nothing is committed before others had their turn.
        await asyncio.sleep(0)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        known = self._find_answer(submission.idempotency)
        if known is not None:
            return known
        self._verify_authority(submission)
        self._verify_size(submission.events)
        tenant = self._tenant
        for offset, event in enumerate(submission.events):
            tenant = self._fold_tenant(tenant, event, len(self.entries) + 1 + offset)
        attestations = submission.attestations or [()] * len(submission.events)
        for event, signatures in zip(submission.events, attestations, strict=True):
            self._append(event, submission.traceparent, signatures)
        if tenant is not self._tenant:
            self._tenant, self._policy = tenant, tenant.load_policy()
        last = submission.events[-1]
        rejection = last.rejection if isinstance(last, RejectedEvent) else ""
        accepted = Accepted(last.request_id, len(self.entries), self._clock.now_ms(), rejection)
        if submission.idempotency is not None:
            key = submission.idempotency
            self._answers[key.source, key.key] = (key.digest, accepted)
        for on_change in list(self._watchers):
            on_change()
        return accepted

    def lead_event(self, event: Event) -> Event:
        """This log stays in its first key epoch."""
        return event

    async def find_cluster(self, token: bytes) -> Cluster | None:
        return self.clusters.get(token)

    async def read_entries(self, from_seq: int, limit: int) -> Sequence[StoredEntry]:
        return self.entries[from_seq - 1 : from_seq - 1 + limit]

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        self._watchers.append(on_change)
        return lambda: self._watchers.remove(on_change)

    def _verify_authority(self, submission: Submission) -> None:
        if self._authority is None:
            return
        attestations = submission.attestations or [()] * len(submission.events)
        events = zip(submission.events, attestations, strict=True)
        for seq, (event, signatures) in enumerate(events, start=len(self.entries) + 1):
            self._authority.verify(event, format_event(event), signatures, seq)

    def _verify_size(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, LinkEvent):
                clusters = (self.clusters.get(token, Cluster((Member(token),))) for token in (event.left, event.right))
                if len({member.token for cluster in clusters for member in cluster.members}) > MAX_CLUSTER_MEMBERS:
                    raise ClusterTooLarge("too many identifiers")

    def _find_answer(self, key: IdempotencyKey | None) -> Accepted | None:
        if key is None:
            return None
        keys = (key.key.partition(KEY_DIVIDER)[0], key.key)
        known = next((self._answers[key.source, each] for each in keys if (key.source, each) in self._answers), None)
        if known is None:
            return None
        digest, accepted = known
        if digest != key.digest:
            raise IdempotencyKeyReused("idempotency_key came before with other content")
        return Accepted(accepted.request_id, accepted.seq, accepted.accepted_at_ms, accepted.rejection, is_replay=True)

    @staticmethod
    def _fold_tenant(tenant: TenantState, event: Event, seq: int) -> TenantState:
        if not isinstance(event, PolicyEvent):
            return tenant
        try:
            return fold_tenant_event(tenant, event, seq)
        except (EventOutOfOrder, ForbiddenReplacement) as error:
            raise PolicyConflict(str(error)) from None
        except PolicyError as error:
            raise PolicyRejected(str(error)) from None

    def _append(self, event: Event, traceparent: str, attestations: tuple[Attestation, ...]) -> None:
        event_bytes = format_event(event)
        opening = os.urandom(32)
        seq = len(self.entries) + 1
        self._frontier.append(hash_leaf(leaf_data(event_bytes[1], commit(opening, event_bytes))))
        self.entries.append(StoredEntry(seq, event_bytes[1], opening, event_bytes, traceparent, attestations))
        if event_bytes[1] < EventType.RECEIVED:
            self.clusters |= fold_event(event, seq, self.clusters.get, self._tenant.drop_seqs)
