"""The one path by which requests become entries of the log: RECEIVED, then its outcome, both or neither."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from consent.authority import (
    AttestationInvalid,
    AttestationMissing,
    BeyondRights,
    NotAuthorised,
)
from consent.errors import ConsentError, InvalidIdentifier
from consent.event import Event, EventType, PolicyEvent, ReceivedEvent, RejectedEvent
from consent.eventlog.attestation import Attestation
from consent.policy import ForbiddenReplacement, Policy, PolicyError, check_replacement, parse_policy
from feed.errors import (
    ClusterTooLarge,
    FeedError,
    InvalidRequest,
    NoPolicy,
    PolicyConflict,
    PolicyRejected,
    PurposeUnknown,
    SourceNotPermitted,
)
from feed.ports import Accepted, IdempotencyKey, Log, Submission
from feed.sequencer.batch_builder import KEY_DIVIDER
from feed.tracing import Tracing
from hosting.clock import Clock
from hosting.telemetry import attributes

REQUEST_ID_BYTES = 16

REFUSALS = (InvalidRequest, NoPolicy, SourceNotPermitted, ClusterTooLarge, InvalidIdentifier, NotAuthorised)
"""What can be wrong with a request, so that REJECTED is its outcome. Other errors are the feed's own and leave no entry."""


class Stamp(TypedDict):
    """What every event of a request has in common."""

    origin: str
    key_epoch: int
    request_id: bytes
    source: str


_REPAIRABLE = frozenset(
    refusal.reason
    for refusal in (
        NoPolicy,
        PurposeUnknown,
        SourceNotPermitted,
        ClusterTooLarge,
        AttestationMissing,
        AttestationInvalid,
        BeyondRights,
    )
)
"""Refusals whose cause lies in the feed's policy, settings, trust or state: the same request may pass once that was put right."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in.

    Attributes:
        request_type: What it asks to be logged.
        origin: Name of the log.
        source: Who sent it.
        request_id: 16 random bytes, the reference that the source gets.
        received_at_ms: Unix ms.
        traceparent: W3C trace context that its entries carry, or empty.
        request_traceparent: That of the request itself, or empty.
    """

    request_type: EventType
    origin: str
    source: str
    request_id: bytes
    received_at_ms: int
    traceparent: str = ""
    request_traceparent: str = ""

    def stamp(self, key_epoch: int = 0) -> Stamp:
        """The common fields of an event of this request; `key_epoch` is that of the tokens in it."""
        return Stamp(origin=self.origin, key_epoch=key_epoch, request_id=self.request_id, source=self.source)


class Publisher:
    """Submits requests to the log and tells what became of them.

    Args:
        log: The sequencer.
        clock: Time of receipt.
        origin: Name of the log.
        tracing: Makes the spans of what is logged.
    """

    def __init__(self, log: Log, clock: Clock, origin: str, tracing: Tracing | None = None) -> None:
        self._log = log
        self._tracing = tracing or Tracing()
        self._origin = origin
        self._clock = clock

    @property
    def origin(self) -> str:
        """Name of the log that requests end in."""
        return self._origin

    def receive(self, request_type: EventType, source: str, traceparent: str = "") -> Arrival:
        """Note the arrival of a request; nothing is logged yet."""
        request_id = secrets.token_bytes(REQUEST_ID_BYTES)
        return Arrival(
            request_type=request_type,
            origin=self._origin,
            source=source,
            request_id=request_id,
            received_at_ms=self._clock.now_ms(),
            traceparent=self._tracing.lead(traceparent, request_id),
            request_traceparent=traceparent,
        )

    async def publish(
        self,
        arrival: Arrival,
        outcome: Event,
        idempotency: IdempotencyKey | None = None,
        attestations: tuple[Attestation, ...] = (),
    ) -> Accepted:
        """Log RECEIVED and the outcome, with the signatures over it; returns once both are durable.

        Returns:
            Where the outcome stands, or where that of the earlier request with this key does.

        Raises:
            FeedError: What `Log.submit` raises; and the refusal of the earlier request with this key, if that was refused.
        """
        try:
            accepted = await self._submit(arrival, outcome, idempotency, attestations)
        except (ClusterTooLarge, NotAuthorised) as error:
            # Only the sequencer sees the state, and knows the place in the log, that the event really meets.
            refusal = error
        else:
            if accepted.rejection:
                raise _recall_refusal(accepted.rejection)
            return accepted
        return await self.reject(arrival, refusal, idempotency)

    async def reject(
        self, arrival: Arrival, refusal: FeedError | ConsentError, idempotency: IdempotencyKey | None = None
    ) -> Accepted:
        """Log RECEIVED and REJECTED, then raise the refusal.

        Returns:
            The earlier acceptance, where the key stands for a request that was accepted when it first came.

        Raises:
            FeedError, InvalidIdentifier: The refusal, or what `Log.submit` raises.
        """
        if idempotency is not None and refusal.reason in _REPAIRABLE:
            # The same request must be able to come again and pass, so its key is not used up.
            key = f"{idempotency.key}{KEY_DIVIDER}{refusal.reason}"
            idempotency = IdempotencyKey(idempotency.source, key, idempotency.digest)
        event = RejectedEvent(**arrival.stamp(), rejected_at_ms=arrival.received_at_ms, rejection=refusal.reason)
        accepted = await self._submit(arrival, event, idempotency)
        if not accepted.rejection:
            return accepted
        raise refusal if accepted.rejection == refusal.reason else _recall_refusal(accepted.rejection)

    async def publish_policy(
        self, document: bytes, source: str, traceparent: str = "", approvals: tuple[Attestation, ...] = ()
    ) -> Accepted:
        """Put a policy in force.

        The document that is in force already is accepted again as a replay, so that an answer that was lost can be asked for anew.

        Args:
            document: Canonical policy document.
            source: Who publishes it.
            traceparent: W3C trace context, or empty.
            approvals: Of the approvers of the trust file.

        Raises:
            NotAuthorised: Too few approvers have signed for exactly this document in this place, or a signature does not verify.
            PolicyRejected: The document is not valid; the text says where.
            PolicyConflict: It may not take the place of the policy in force.
            FeedError: What `Log.submit` raises.
        """
        arrival = self.receive(EventType.POLICY, source, traceparent)
        tenant = self._log.head.tenant
        if tenant.document and document == tenant.document:
            return Accepted(b"", tenant.version_seqs[-1][1], arrival.received_at_ms, is_replay=True)
        try:
            policy = _parse_successor(document, self._log.policy)
            event = PolicyEvent(
                **arrival.stamp(),
                version=policy.version,
                replaces_version=policy.replaces_version,
                document=document,
            )
            return await self.publish(arrival, event, attestations=approvals)
        except (PolicyRejected, PolicyConflict) as error:
            refusal = error
        return await self.reject(arrival, refusal)

    async def _submit(
        self,
        arrival: Arrival,
        outcome: Event,
        idempotency: IdempotencyKey | None,
        attestations: tuple[Attestation, ...] = (),
    ) -> Accepted:
        received = ReceivedEvent(
            **arrival.stamp(), received_at_ms=arrival.received_at_ms, request_type=arrival.request_type
        )
        start_ms = self._clock.now_ms()
        accepted = await self._log.submit(
            Submission((received, outcome), idempotency, arrival.traceparent, ((), attestations))
        )
        if not accepted.is_replay:
            described = {attributes.LOG_ORIGIN: self._origin, attributes.SOURCE: arrival.source}
            traceparents = (arrival.request_traceparent, arrival.traceparent)
            self._tracing.end_append(traceparents, accepted, EventType(outcome.TYPE), described, start_ms)
        return accepted


def logged_keys(idempotency_key: str) -> tuple[str, ...]:
    """Every key under which a request with this key may be logged: its own first, then those of refusals that used up none."""
    return (idempotency_key, *(f"{idempotency_key}{KEY_DIVIDER}{reason}" for reason in sorted(_REPAIRABLE)))


def _parse_successor(document: bytes, in_force: Policy | None) -> Policy:
    try:
        policy = parse_policy(document)
        check_replacement(in_force, policy)
    except ForbiddenReplacement as error:
        raise PolicyConflict(f"document: {error}") from None
    except PolicyError as error:
        raise PolicyRejected(f"document: {error}") from None
    return policy


def _recall_refusal(rejection: str) -> FeedError | ConsentError:
    """The error of an earlier refusal, of which the log keeps the reason only."""
    text = "a request with this idempotency key and content was refused before; a new request needs a new key"
    for refusal_class in _with_subclasses(*REFUSALS):
        if refusal_class.reason == rejection:
            return refusal_class(text)
    return InvalidRequest(f"{text} (refused as {rejection})")


def _with_subclasses(
    *classes: type[FeedError] | type[ConsentError],
) -> Iterator[type[FeedError] | type[ConsentError]]:
    for each in classes:
        yield each
        yield from _with_subclasses(*each.__subclasses__())
