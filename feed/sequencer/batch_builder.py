"""Puts the entries of one commit together: places, openings, leaves, the folded state, and the answers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from consent.event import DirectiveEvent, Event, LinkEvent, RejectedEvent, format_event
from consent.eventlog.merkle import OPENING_BYTES, Node, hash_entry
from consent.policy import ForbiddenReplacement, PolicyError
from consent.state import Cluster, fold_event
from consent.tenant_state import EventOutOfOrder, TenantState, fold_tenant_event
from consent.vocabulary.directive import Kind
from feed.errors import ClusterTooLarge, IdempotencyKeyReused, PolicyConflict, PolicyRejected
from feed.log_store.port import Batch, LoggedRequest, RequestName, StoredHead
from feed.ports import Accepted, IdempotencyKey, StoredEntry, Submission
from feed.sequencer.state_changes import StateChanges, tokens_of

#: Bounds on one person's record, far beyond any person: it is folded anew for each of their events. Only what could permit something is
#: refused beyond them, links and grants; a denial or a restriction always counts. A chain of wrong links must not make one person of a
#: whole customer base.
MAX_CLUSTER_MEMBERS: Final = 256
MAX_CLUSTER_DIRECTIVES: Final = 10_000
MAX_MEMBER_GRANTS: Final = 256


KEY_DIVIDER: Final = "\n"
"""In an idempotency key, between the source's own, which never holds it, and the reason of a refusal that does not use that up."""


@dataclass(frozen=True, slots=True)
class FormattedRequest:
    """A submission whose events are canonical bytes already.

    Attributes:
        submission: As it came.
        event_bytes: Of each event.
        tokens: Those whose clusters the events concern.
        names: Source and key under each of which it may have been answered before, the source's own key first; under the last one its
            answer is kept. Empty where it has no idempotency key.
    """

    submission: Submission
    event_bytes: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    names: tuple[RequestName, ...]


def format_request(submission: Submission) -> FormattedRequest:
    """Write a submission's events.

    Raises:
        ValueError, struct.error: A field is out of range: a bug of the caller.
    """
    return FormattedRequest(
        submission,
        tuple(format_event(event) for event in submission.events),
        tuple(token for event in submission.events for token in tokens_of(event)),
        _names(submission.idempotency),
    )


def _names(idempotency: IdempotencyKey | None) -> tuple[RequestName, ...]:
    if idempotency is None:
        return ()
    # A request that was accepted before is answered so, although it would be refused now.
    keys = dict.fromkeys((idempotency.key.partition(KEY_DIVIDER)[0], idempotency.key))
    return tuple((idempotency.source, key) for key in keys)


class BatchBuilder:
    """Takes requests one by one; each is in the batch as a whole, or leaves no trace in it.

    Args:
        before: The committed head.
        records: Records of the clusters that the requests concern, as far as the store knows them.
        known: Requests that were logged before.
        now_ms: Unix ms of acceptance.
    """

    def __init__(
        self,
        before: StoredHead,
        records: Mapping[bytes, bytes],
        known: Mapping[RequestName, LoggedRequest],
        now_ms: int,
    ) -> None:
        self._before = before
        self._now_ms = now_ms
        self._known = dict(known)
        self._requests: dict[RequestName, LoggedRequest] = {}
        self._state = StateChanges(records)
        self._tenant = before.tenant
        self._frontier = before.frontier.copy()
        self._entries: list[StoredEntry] = []
        self._nodes: list[Node] = []

    @property
    def size(self) -> int:
        """Entries of the log with this batch."""
        return self._frontier.size

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self._entries

    def root_hash(self) -> bytes:
        """Root of the log with this batch, 32 bytes."""
        return self._frontier.root_hash()

    def add(self, request: FormattedRequest) -> Accepted:
        """Take one more request.

        Returns:
            What to answer once the batch is committed.

        Raises:
            IdempotencyKeyReused: Its key came before with other content.
            PolicyRejected, PolicyConflict: Its POLICY cannot follow the one in force.
            ClusterTooLarge: A grant or a link would make one person's record larger than any person's.
        """
        # 1. What was answered once is answered again.
        repeated = self._find_repeated(request)
        if repeated is not None:
            return repeated
        # 2. The fold, which may refuse; until here nothing has changed.
        folded, self._tenant = self._fold(request.submission.events)
        self._state.apply(folded)
        # 3. Entries and leaves.
        self._append(request)
        accepted = self._accept(request.submission.events[-1])
        if request.names and request.submission.idempotency is not None:
            logged = LoggedRequest(request.submission.idempotency.digest, accepted)
            self._known[request.names[-1]] = self._requests[request.names[-1]] = logged
        return accepted

    def build(self, checkpoint_note: bytes, checkpoint_time_ms: int) -> Batch:
        """The batch, with the signed checkpoint for its size and root."""
        changes, state_sum = self._state.finish(self._before.state_sum)
        head = StoredHead(
            version=self._before.version + 1,
            frontier=self._frontier,
            checkpoint_note=checkpoint_note,
            checkpoint_time_ms=checkpoint_time_ms,
            tenant=self._tenant,
            state_sum=state_sum,
        )
        return Batch(self._before, head, self._entries, self._nodes, changes, self._requests)

    def _find_repeated(self, request: FormattedRequest) -> Accepted | None:
        idempotency = request.submission.idempotency
        logged = next((self._known[name] for name in request.names if name in self._known), None)
        if logged is None or idempotency is None:
            return None
        if logged.digest != idempotency.digest:
            raise IdempotencyKeyReused("idempotency_key: came before with other content")
        return replace(logged.accepted, is_replay=True)

    def _fold(self, events: Sequence[Event]) -> tuple[dict[bytes, Cluster], TenantState]:
        changed: dict[bytes, Cluster] = {}
        tenant = self._tenant

        def find(token: bytes) -> Cluster | None:
            return changed.get(token) or self._state.find(token)

        for seq, event in enumerate(events, start=self.size + 1):
            changed.update(fold_event(event, seq, find, tenant.drop_seqs))
            _check_size(event, changed)
            try:
                tenant = fold_tenant_event(tenant, event, seq)
            except (EventOutOfOrder, ForbiddenReplacement) as error:
                raise PolicyConflict(str(error)) from None
            except PolicyError as error:
                raise PolicyRejected(str(error)) from None
        return changed, tenant

    def _append(self, request: FormattedRequest) -> None:
        submission = request.submission
        for event, event_bytes in zip(submission.events, request.event_bytes, strict=True):
            opening = os.urandom(OPENING_BYTES)
            leaf_hash = hash_entry(event.TYPE, opening, event_bytes)
            self._nodes += self._frontier.append(leaf_hash)
            entry = StoredEntry(self._frontier.size, event.TYPE, opening, event_bytes, submission.traceparent)
            self._entries.append(entry)

    def _accept(self, outcome: Event) -> Accepted:
        rejection = outcome.rejection if isinstance(outcome, RejectedEvent) else ""
        return Accepted(outcome.request_id, self.size, self._now_ms, rejection)


def _check_size(event: Event, changed: Mapping[bytes, Cluster]) -> None:
    """Refuse a grant or a link after which a record would be too large; nothing else is ever refused for its size."""
    if isinstance(event, DirectiveEvent) and event.kind == Kind.GRANT:
        cluster = changed[event.token]
        grants = sum(directive.is_grant for directive in cluster.find(event.token).directives)
        if grants > MAX_MEMBER_GRANTS:
            raise ClusterTooLarge(f"more than {MAX_MEMBER_GRANTS} grants would be kept under one identifier")
    elif isinstance(event, LinkEvent) and event.left in changed:
        cluster = changed[event.left]
        if len(cluster.members) > MAX_CLUSTER_MEMBERS:
            raise ClusterTooLarge(f"more than {MAX_CLUSTER_MEMBERS} identifiers would be one person")
    else:
        return
    if sum(len(member.directives) for member in cluster.members) > MAX_CLUSTER_DIRECTIVES:
        raise ClusterTooLarge(f"more than {MAX_CLUSTER_DIRECTIVES} directives would be kept for one person")
