"""The course of a person's request from arguments to acceptance, without I/O; both intake clients run it.

Here failures raise: an opt-out that was not accepted must not look accepted.
"""

import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, TypeVar

from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from consentry_client.answers import decode_message
from consentry_client.consistency import ConsistencyToken
from consentry_client.decision import Reason
from consentry_client.errors import IntakeError, TokenFormatError
from consentry_client.exchange import RECORD_DIRECTIVE, RECORD_LINK, Call, Metadata, Outcome, Pause
from consentry_client.failure import UNREADABLE, Failure
from consentry_client.requests import encode_identifier
from consentry_client.subject import Identifier
from consentry_client.tracing import trace_metadata
from consentry_client.vocabulary import Assurance, DirectiveKind, GrantedBy, Proof

A = TypeVar("A")
IntakeCourse = Generator[Call | Pause, Any, A]

_KEY_CHARACTERS_MAX = 128
_ID_BYTES = 16
_UINT32_MAX = 2**32 - 1
_TIME_MS_MAX = 253_402_300_799_999
_FIRST_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 2.0
_TIMEOUT_SECONDS_MAX = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Said before anything is written. Any other status, whatever its reason, may come after the request reached the log.
_DEFINITE_REFUSALS = frozenset(
    {
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
    }
)
# What an identifier of a well-known namespace is. Of a tenant's own namespace nothing is known: weak is enough to
# restrict and strong is needed to relax, so it counts for less in a grant than in a denial.
_ASSURANCE = {
    "device": Assurance.DEVICE,
    "email": Assurance.CONTACT_POINT,
    "phone": Assurance.CONTACT_POINT,
    "user": Assurance.ACCOUNT,
}


class SendOptions(TypedDict, total=False):
    """Keywords of every method that sends.

    Attributes:
        idempotency_key: 1 to 128 printable characters; the same key with the same content is the same request (a new
            UUID).
        occurred_at: When the person said it, with a time zone; default: when the feed takes it.
        timeout_seconds: Deadline of this request, its retries included, instead of the client's.
        traceparent: W3C trace to join, where OpenTelemetry does not supply it.
    """

    idempotency_key: str | None
    occurred_at: datetime | None
    timeout_seconds: float | None
    traceparent: str | None


class DirectiveOptions(SendOptions, total=False):
    """Keywords of a directive, beside `SendOptions`.

    Attributes:
        proof: How well the request was tied to the person.
        assurance: What kind of identifier it came in by; default: by the namespace (e-mail and phone a contact point,
            user an account, device a device, any other a contact point for a denial and a device for a grant).
    """

    proof: Proof
    assurance: Assurance | None


class GrantOptions(DirectiveOptions, total=False):
    """Keywords of a grant, beside `DirectiveOptions`.

    Attributes:
        expires_at: When it ends, with a time zone.
        subtree: It also holds for the purposes below.
        notice_version: Version of the notice that the person saw.
        recipient: Who may receive the data; empty means the controller itself.
        explicit: The consent is explicit, as special categories need it.
        granted_by: Who consented.
    """

    expires_at: datetime | None
    subtree: bool
    notice_version: int
    recipient: str
    explicit: bool
    granted_by: GrantedBy


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the feed said: the request is in the log, durably.

    Attributes:
        request_id: The reference that the person gets.
        token: Demand it in a check, and the answer knows this request.
        accepted_at: When the log took it.
        replayed: The key was known, and this is the earlier answer.
        idempotency_key: The key that was used.
    """

    request_id: uuid.UUID
    token: ConsistencyToken
    accepted_at: datetime
    replayed: bool
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """How hard an intake client tries.

    Attributes:
        timeout_seconds: Longest time for one request, retries included.
        attempts_max: Most calls for one request.
        monotonic: Clock in seconds.
        jitter: A random number from 0 to 1, to spread retries.
    """

    timeout_seconds: float
    attempts_max: int
    monotonic: Callable[[], float]
    jitter: Callable[[], float]


def record_directive(
    settings: IntakeSettings, kind: DirectiveKind, identifier: Identifier, purpose: str, options: GrantOptions
) -> IntakeCourse[Acceptance]:
    """Sends one directive.

    Raises:
        IntakeError: It was not accepted, or nobody knows.
        TypeError: An argument is of the wrong type.
        ValueError: A key, a time or a version is out of its range.
    """
    kind = DirectiveKind(kind)
    _require_known(options, GrantOptions if kind is DirectiveKind.GRANT else DirectiveOptions)
    _require_identifier(identifier)
    if not isinstance(purpose, str):
        raise TypeError(f"purpose must be text, not {type(purpose).__name__}")
    key = _choose_key(options)
    request = intake_pb2.RecordDirectiveRequest(
        idempotency_key=key, directive=_encode_directive(kind, identifier, purpose, options)
    )
    sending = _Sending(
        RECORD_DIRECTIVE, request.SerializeToString(), key, intake_pb2.RecordDirectiveResponse.FromString
    )
    return _send(settings, sending, options)


def record_link(
    settings: IntakeSettings, left: Identifier, right: Identifier, proof: Proof, options: SendOptions
) -> IntakeCourse[Acceptance]:
    """Sends the statement that two identifiers are one person; raises as `record_directive` does."""
    _require_known(options, SendOptions)
    _require_identifier(left)
    _require_identifier(right)
    key = _choose_key(options)
    request = intake_pb2.RecordLinkRequest(
        idempotency_key=key,
        left=encode_identifier(left),
        right=encode_identifier(right),
        proof=_encode_proof(proof),
        occurred_at_ms=_to_ms("occurred_at", options.get("occurred_at")),
    )
    sending = _Sending(RECORD_LINK, request.SerializeToString(), key, intake_pb2.RecordLinkResponse.FromString)
    return _send(settings, sending, options)


@dataclass(frozen=True, slots=True)
class _Sending:
    """One request, encoded."""

    method: str
    request_bytes: bytes
    key: str
    parse: Callable[[bytes], intake_pb2.RecordDirectiveResponse | intake_pb2.RecordLinkResponse]


def _send(settings: IntakeSettings, sending: _Sending, options: SendOptions) -> IntakeCourse[Acceptance]:
    metadata = trace_metadata(options.get("traceparent"))
    outcome, is_unknown = yield from call_repeatedly(
        settings, sending.method, sending.request_bytes, options.get("timeout_seconds"), metadata
    )
    if isinstance(outcome, Failure):
        raise _refuse(outcome, sending.key, is_unknown)
    return _read_acceptance(sending, outcome)


def call_repeatedly(
    settings: IntakeSettings,
    method: str,
    request_bytes: bytes,
    timeout_seconds: float | None,
    metadata: Metadata = (),
) -> IntakeCourse[tuple[Outcome, bool]]:
    """Calls, and while the feed is away calls again with the same bytes, which must be safe.

    Returns:
        What came of it, and whether one of the failed attempts may have reached the log.
    """
    deadline = settings.monotonic() + (settings.timeout_seconds if timeout_seconds is None else timeout_seconds)
    failure = Failure(Reason.CLIENT_DEADLINE_EXCEEDED)
    is_unknown = False
    for attempt in range(settings.attempts_max):
        remaining = deadline - settings.monotonic()
        if not remaining > 0:
            break
        outcome: Outcome = yield Call(method, request_bytes, min(remaining, _TIMEOUT_SECONDS_MAX), metadata)
        if not isinstance(outcome, Failure):
            return outcome, False
        failure = outcome
        # A refusal of the repetition tells nothing about the first attempt.
        is_unknown = is_unknown or failure.error not in _DEFINITE_REFUSALS
        if not failure.is_worth_repeating or attempt + 1 == settings.attempts_max:
            break
        pause_seconds = settings.jitter() * min(_PAUSE_SECONDS_MAX, _FIRST_PAUSE_SECONDS * 2**attempt)
        if pause_seconds >= deadline - settings.monotonic():
            break
        yield Pause(pause_seconds)
    return failure, is_unknown


def _refuse(failure: Failure, key: str, is_unknown: bool) -> IntakeError:
    end = "; it may have been recorded: repeat it with the same key" if is_unknown else ""
    return IntakeError(
        failure.error_reason or failure.reason,
        f"the request was not accepted{end}",
        failure.error,
        idempotency_key=key,
        outcome_unknown=is_unknown,
    )


def _read_acceptance(sending: _Sending, outcome: bytes) -> Acceptance:
    """Reads the answer; one that does not say clearly what was recorded leaves the outcome unknown."""
    answer = decode_message(sending.parse, outcome)
    if (
        isinstance(answer, Failure)
        or len(answer.request_id) != _ID_BYTES
        or not 0 < answer.accepted_at_ms <= _TIME_MS_MAX
    ):
        raise _refuse(UNREADABLE, sending.key, is_unknown=True)
    try:
        token = ConsistencyToken(answer.token.origin, answer.token.seq)
    except TokenFormatError:
        raise _refuse(UNREADABLE, sending.key, is_unknown=True) from None
    accepted_at = datetime.fromtimestamp(answer.accepted_at_ms / 1000, UTC)
    return Acceptance(uuid.UUID(bytes=answer.request_id), token, accepted_at, answer.replayed, sending.key)


def _encode_directive(
    kind: DirectiveKind, identifier: Identifier, purpose: str, options: GrantOptions
) -> intake_pb2.Directive:
    unknown = Assurance.DEVICE if kind is DirectiveKind.GRANT else Assurance.CONTACT_POINT
    assurance = Assurance(options.get("assurance") or _ASSURANCE.get(identifier.namespace, unknown))
    directive = intake_pb2.Directive(
        identifier=encode_identifier(identifier),
        purpose=purpose,
        kind=event_pb2.DirectiveKind.Value(f"DIRECTIVE_KIND_{kind.name}"),
        occurred_at_ms=_to_ms("occurred_at", options.get("occurred_at")),
        proof=_encode_proof(options.get("proof", Proof.NONE)),
        assurance=event_pb2.Assurance.Value(f"ASSURANCE_{assurance.name}"),
    )
    if kind is DirectiveKind.GRANT:
        _add_grant(directive, options)
    return directive


def _add_grant(directive: intake_pb2.Directive, options: GrantOptions) -> None:
    expires_at = options.get("expires_at")
    if expires_at is not None:
        directive.expires_at_ms = _to_ms("expires_at", expires_at)
    notice_version = options.get("notice_version", 0)
    if not 0 <= notice_version <= _UINT32_MAX:
        raise ValueError(f"notice_version must be from 0 to {_UINT32_MAX}")
    directive.notice_version = notice_version
    directive.subtree = options.get("subtree", False)
    directive.recipient = options.get("recipient", "")
    directive.explicit = options.get("explicit", False)
    granted_by = GrantedBy(options.get("granted_by", GrantedBy.SELF))
    directive.granted_by = event_pb2.GrantedBy.Value(f"GRANTED_BY_{granted_by.name}")


def _encode_proof(proof: Proof) -> event_pb2.Proof.ValueType:
    return event_pb2.Proof.Value(f"PROOF_{Proof(proof).name}")


def _require_known(options: SendOptions, kind: type) -> None:
    for name in options:
        if name not in kind.__annotations__:
            raise TypeError(f"this request has no keyword {name!r}")


def _require_identifier(identifier: Identifier) -> None:
    if not isinstance(identifier, Identifier):
        raise TypeError(f"a request names one Identifier, not {type(identifier).__name__}")


def _choose_key(options: SendOptions) -> str:
    key = options.get("idempotency_key")
    if key is None:
        return str(uuid.uuid4())
    if not 0 < len(key) <= _KEY_CHARACTERS_MAX or not key.isprintable():
        raise ValueError(f"idempotency_key must have 1 to {_KEY_CHARACTERS_MAX} printable characters")
    return key


def _to_ms(field: str, moment: datetime | None) -> int:
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise ValueError(f"{field} needs a time zone")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
