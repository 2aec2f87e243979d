"""Requests of sources, taken in one by one: whatever becomes of a request, it leaves one entry, once per idempotency key."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from consent.errors import ConsentError
from consent.event import DirectiveEvent, Event, EventType
from consent.eventlog.attestation import Attestation
from consent.state import Cluster
from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import Tokeniser
from feed.errors import FeedError, InvalidRequest
from feed.intake.attesting import Statement, attest_statements, verify_can_attest
from feed.intake.circumstances import make_fact, make_restriction
from feed.intake.content import (
    digest_directive,
    digest_fact,
    digest_link,
    digest_restriction,
    digest_unlink,
    verify_key,
)
from feed.intake.directives import make_directive, verify_first_record
from feed.intake.errors import RecordExists
from feed.intake.links import make_link, make_unlink
from feed.intake.requests import RecordDirective, RecordFact, RecordLink, RecordRestriction, RecordUnlink
from feed.intake.sources import Source, verify_method
from feed.intake.subjects import ResolvedSubject, resolve_subject
from feed.ports import Accepted, IdempotencyKey, Log
from feed.publish import REFUSALS, Arrival, Publisher


class Recorder:
    """Takes in what sources ask for.

    Raw identifiers live in a call of this class only: what leaves it are tokens.

    Every method raises `InvalidRequest` for a bad idempotency key (nothing is logged then), the refusal of the request (which is in
    the log then), `IdempotencyKeyReused`, and what the log raises when it cannot keep an entry.

    Args:
        log: For the policy in force and what is known of a subject.
        publisher: Where events go.
        tokeniser: Makes the tenant's tokens.
    """

    def __init__(self, log: Log, publisher: Publisher, tokeniser: Tokeniser) -> None:
        self._log = log
        self._publisher = publisher
        self._tokeniser = tokeniser
        self._imports_under_way: dict[bytes, asyncio.Future[None]] = {}

    @property
    def origin(self) -> str:
        """Name of the log that requests end in."""
        return self._publisher.origin

    async def record_directive(self, source: Source, request: RecordDirective, traceparent: str = "") -> Accepted:
        """Record what somebody said about a purpose.

        Args:
            source: Who asks.
            request: What.
            traceparent: W3C trace context, or empty.
        """
        draft = self._draft_directive(source, request, traceparent, "RecordDirective")
        (signed,) = self._sign(source, [draft])
        return await self._conclude_directive(source, signed)

    async def record_directives(
        self, source: Source, requests: Sequence[RecordDirective], traceparent: str = "", traced: int = 0
    ) -> list[Accepted | BaseException]:
        """Record the directives of one message; the source signs once for all of them that relax.

        Args:
            source: Who asks.
            requests: What.
            traceparent: W3C trace context, or empty.
            traced: How many of the requests, the first ones, belong to that trace one by one.

        Returns:
            For each request, in order, where it is in the log, or what `record_directive` would have raised.
        """
        drafts = [
            self._try_to_draft(source, request, traceparent if at < traced else "")
            for at, request in enumerate(requests)
        ]
        signed = iter(self._sign(source, [draft for draft in drafts if isinstance(draft, _Draft)]))
        # All at once, in their order, so that the sequencer finds them together; and all to their end, so that an error of one
        # leaves none running.
        under_way = (self._conclude_directive(source, next(signed)) for draft in drafts if isinstance(draft, _Draft))
        concluded = iter(await asyncio.gather(*under_way, return_exceptions=True))
        return [next(concluded) if isinstance(draft, _Draft) else draft for draft in drafts]

    async def record_link(self, source: Source, request: RecordLink, traceparent: str = "") -> Accepted:
        """Record that two identifiers are one person; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        left, right = self._resolve_ends(request)
        arrival = self._publisher.receive(EventType.LINK, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_link(request, left.token, right.token))

        def make() -> Event:
            verify_method(source, "RecordLink")
            return make_link(request, left, right, source, arrival, self._tokeniser.epoch)

        return await self._record(source, arrival, key, make, request.evidence_digest)

    async def record_unlink(self, source: Source, request: RecordUnlink, traceparent: str = "") -> Accepted:
        """Record that two identifiers are not one person, or no longer; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        left, right = self._resolve_ends(request)
        arrival = self._publisher.receive(EventType.UNLINK, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_unlink(request, left.token, right.token))

        def make() -> Event:
            verify_method(source, "RecordUnlink")
            return make_unlink(request, left, right, source, arrival, self._tokeniser.epoch)

        return await self._record(source, arrival, key, make)

    async def record_fact(self, source: Source, request: RecordFact, traceparent: str = "") -> Accepted:
        """Record age band and jurisdictions of a person; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.FACT, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_fact(request, subject.token))

        def make() -> Event:
            verify_method(source, "RecordFact")
            return make_fact(request, subject, source, arrival, self._tokeniser.epoch)

        return await self._record(source, arrival, key, make, request.evidence_digest)

    async def record_restriction(self, source: Source, request: RecordRestriction, traceparent: str = "") -> Accepted:
        """Record a restriction of processing or its end; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.RESTRICTION, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_restriction(request, subject.token))

        def make() -> Event:
            verify_method(source, "RecordRestriction")
            return make_restriction(request, subject, source, arrival, self._tokeniser.epoch)

        return await self._record(source, arrival, key, make, request.evidence_digest)

    async def _record(
        self,
        source: Source,
        arrival: Arrival,
        key: IdempotencyKey,
        make: Callable[[], Event],
        evidence_digest: bytes = b"",
    ) -> Accepted:
        (signed,) = self._sign(source, [_draft(source, arrival, key, make, evidence_digest)])
        return await self._conclude(signed)

    def _try_to_draft(self, source: Source, request: RecordDirective, traceparent: str) -> "_Draft | InvalidRequest":
        try:
            return self._draft_directive(source, request, traceparent, "RecordDirectives")
        except InvalidRequest as error:
            return error

    def _draft_directive(self, source: Source, request: RecordDirective, traceparent: str, method: str) -> "_Draft":
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "directive.identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.DIRECTIVE, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_directive(request, subject.token))

        def make() -> Event:
            verify_method(source, method)
            return make_directive(request, subject, source, self._log.policy, arrival, self._tokeniser.epoch)

        return _draft(source, arrival, key, make, request.evidence_digest)

    def _sign(self, source: Source, drafts: "Sequence[_Draft]") -> "list[_Draft]":
        made = [draft for draft in drafts if isinstance(draft.outcome, Statement)]
        statements = [draft.outcome for draft in made if isinstance(draft.outcome, Statement)]
        now_ms = max((draft.arrival.received_at_ms for draft in made), default=0)
        # What is signed is what is logged: with tokens of the log's key epoch.
        led = [Statement(self._log.lead_event(event), evidence_digest) for event, evidence_digest in statements]
        signed = zip(led, attest_statements(source, led, self.origin, now_ms), strict=True)
        return [
            _with_signatures(draft, *next(signed)) if isinstance(draft.outcome, Statement) else draft
            for draft in drafts
        ]

    async def _conclude(self, draft: "_Draft") -> Accepted:
        if isinstance(draft.outcome, Statement):
            event = draft.logged or draft.outcome.event
            return await self._publisher.publish(draft.arrival, event, draft.key, draft.attestations)
        return await self._publisher.reject(draft.arrival, draft.outcome, draft.key)

    async def _conclude_directive(self, source: Source, draft: "_Draft") -> Accepted:
        """As `_conclude`; an imported grant waits for what is imported of its subject before it, and so meets an earlier denial."""
        event = draft.outcome.event if isinstance(draft.outcome, Statement) else None
        if not source.is_import or not isinstance(event, DirectiveEvent):
            return await self._conclude(draft)
        before = self._imports_under_way.get(event.token)
        done = self._imports_under_way[event.token] = asyncio.get_running_loop().create_future()
        try:
            if event.kind == Kind.GRANT:
                if before is not None:
                    await asyncio.wait((before,))
                draft = _refuse_second_record(draft, event, await self._log.find_cluster(event.token))
            return await self._conclude(draft)
        finally:
            done.set_result(None)
            if self._imports_under_way.get(event.token) is done:
                del self._imports_under_way[event.token]

    def _resolve_ends(self, request: RecordLink | RecordUnlink) -> tuple[ResolvedSubject, ResolvedSubject]:
        return (
            resolve_subject(request.left, "left", self._tokeniser),
            resolve_subject(request.right, "right", self._tokeniser),
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    """A request before it is logged: what is to be said, or why it is refused."""

    arrival: Arrival
    key: IdempotencyKey
    outcome: Statement | FeedError | ConsentError
    attestations: tuple[Attestation, ...] = ()
    logged: Event | None = None


def _with_signatures(draft: _Draft, statement: Statement, attestations: tuple[Attestation, ...]) -> _Draft:
    return replace(draft, attestations=attestations, logged=statement.event)


def _draft(
    source: Source, arrival: Arrival, key: IdempotencyKey, make: Callable[[], Event], evidence_digest: bytes
) -> _Draft:
    try:
        statement = Statement(make(), evidence_digest)
        verify_can_attest(source, statement)
    except REFUSALS as error:
        # Its traceback would hold the identifier for as long as the request is under way.
        return _Draft(arrival, key, error.with_traceback(None))
    return _Draft(arrival, key, statement)


def _refuse_second_record(draft: _Draft, event: DirectiveEvent, cluster: Cluster | None) -> _Draft:
    try:
        verify_first_record(event, cluster)
    except RecordExists as error:
        return replace(draft, outcome=error)
    return draft
