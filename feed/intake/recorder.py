"""Requests of sources, taken in one by one: whatever becomes of a request, it leaves one entry, once per idempotency key."""

import asyncio
from collections.abc import Callable

from consent.event import DirectiveEvent, Event, EventType
from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import Tokeniser
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

    async def record_directive(
        self, source: Source, request: RecordDirective, traceparent: str = "", method: str = "RecordDirective"
    ) -> Accepted:
        """Record what somebody said about a purpose.

        Args:
            source: Who asks.
            request: What.
            traceparent: W3C trace context, or empty.
            method: The RPC that it came by, which the source must have the right to call.
        """
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "directive.identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.DIRECTIVE, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_directive(request, subject.token))

        def make() -> DirectiveEvent:
            verify_method(source, method)
            return make_directive(request, subject, source, self._log.policy, arrival, self._tokeniser.epoch)

        if source.is_import and subject.token:
            return await self._conclude_import(arrival, key, subject.token, make, is_grant=request.kind == Kind.GRANT)
        return await self._conclude(arrival, key, make)

    async def record_link(self, source: Source, request: RecordLink, traceparent: str = "") -> Accepted:
        """Record that two identifiers are one person; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        left, right = self._resolve_ends(request)
        arrival = self._publisher.receive(EventType.LINK, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_link(request, left.token, right.token))

        def make() -> Event:
            verify_method(source, "RecordLink")
            return make_link(request, left, right, source, arrival, self._tokeniser.epoch)

        return await self._conclude(arrival, key, make)

    async def record_unlink(self, source: Source, request: RecordUnlink, traceparent: str = "") -> Accepted:
        """Record that two identifiers are not one person, or no longer; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        left, right = self._resolve_ends(request)
        arrival = self._publisher.receive(EventType.UNLINK, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_unlink(request, left.token, right.token))

        def make() -> Event:
            verify_method(source, "RecordUnlink")
            return make_unlink(request, left, right, source, arrival, self._tokeniser.epoch)

        return await self._conclude(arrival, key, make)

    async def record_fact(self, source: Source, request: RecordFact, traceparent: str = "") -> Accepted:
        """Record age band and jurisdictions of a person; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.FACT, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_fact(request, subject.token))

        def make() -> Event:
            verify_method(source, "RecordFact")
            return make_fact(request, subject, source, arrival, self._tokeniser.epoch)

        return await self._conclude(arrival, key, make)

    async def record_restriction(self, source: Source, request: RecordRestriction, traceparent: str = "") -> Accepted:
        """Record a restriction of processing or its end; the arguments are those of `record_directive`."""
        verify_key(request.idempotency_key)
        subject = resolve_subject(request.subject, "identifier", self._tokeniser)
        arrival = self._publisher.receive(EventType.RESTRICTION, source.name, traceparent)
        key = IdempotencyKey(source.name, request.idempotency_key, digest_restriction(request, subject.token))

        def make() -> Event:
            verify_method(source, "RecordRestriction")
            return make_restriction(request, subject, source, arrival, self._tokeniser.epoch)

        return await self._conclude(arrival, key, make)

    async def _conclude(self, arrival: Arrival, key: IdempotencyKey, make: Callable[[], Event]) -> Accepted:
        try:
            outcome = make()
        except REFUSALS as error:
            refusal = error
        else:
            return await self._publisher.publish(arrival, outcome, key)
        # Outside of the except block, so that the refusal does not become the context of what the log raises.
        return await self._publisher.reject(arrival, refusal, key)

    async def _conclude_import(
        self,
        arrival: Arrival,
        key: IdempotencyKey,
        token: bytes,
        make: Callable[[], DirectiveEvent],
        *,
        is_grant: bool,
    ) -> Accepted:
        """As `_conclude`; a grant waits for what is imported of its subject before it, so that it meets the denial of an earlier row."""
        before = self._imports_under_way.get(token)
        done = self._imports_under_way[token] = asyncio.get_running_loop().create_future()
        try:
            if not is_grant:
                return await self._conclude(arrival, key, make)
            if before is not None:
                await asyncio.wait((before,))
            cluster = await self._log.find_cluster(token)

            def make_first_record() -> DirectiveEvent:
                event = make()
                verify_first_record(event, cluster)
                return event

            return await self._conclude(arrival, key, make_first_record)
        finally:
            done.set_result(None)
            if self._imports_under_way.get(token) is done:
                del self._imports_under_way[token]

    def _resolve_ends(self, request: RecordLink | RecordUnlink) -> tuple[ResolvedSubject, ResolvedSubject]:
        return (
            resolve_subject(request.left, "left", self._tokeniser),
            resolve_subject(request.right, "right", self._tokeniser),
        )
