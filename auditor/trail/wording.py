"""Entries, answers and reasons in words that a privacy officer can hand to a person."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from consent.event import (
    AdminEvent,
    AlertEvent,
    DirectiveEvent,
    EnrolEvent,
    ErasedEvent,
    ErasureEvent,
    Event,
    EventType,
    FactEvent,
    LinkEvent,
    OpaqueEvent,
    OverrideEvent,
    PolicyEvent,
    ReceivedEvent,
    RejectedEvent,
    RestrictionEvent,
    RetireEvent,
    UnlinkEvent,
)
from consent.vocabulary.directive import ANY, Kind
from consent.vocabulary.reason import Reason

_KINDS: Final = {
    Kind.GRANT: "a consent",
    Kind.OPT_OUT: "an opt-out",
    Kind.WITHDRAW: "a withdrawal of consent",
    Kind.REFUSE: "a refusal of consent",
    Kind.OBJECT: "an objection",
    Kind.REVOKE_BY_CONTROLLER: "a revocation by the controller",
}

_REASONS: Final = {
    Reason.INVALID_REQUEST: "the question could not be read",
    Reason.PURPOSE_UNKNOWN: "the policy does not know the purpose",
    Reason.CALLER_NOT_PERMITTED_FOR_PURPOSE: "the service may not use data for this purpose",
    Reason.CACHE_INTEGRITY: "the sidecar's copy of everyone's choices did not pass its checks",
    Reason.PROCESSING_RESTRICTED: "the processing of the person's data is restricted",
    Reason.PROHIBITED: "the policy prohibits it for everybody",
    Reason.MANDATORY_BASIS: "the law demands or covers it, whatever the person has chosen",
    Reason.NO_SNAPSHOT: "the sidecar had no copy of everyone's choices yet",
    Reason.NOT_YET_CONSISTENT: "the sidecar did not yet hold the entry that the question demanded",
    Reason.CACHE_TOO_STALE: "the sidecar's copy of everyone's choices was too old",
    Reason.OPT_OUT: "the person has opted out of this purpose",
    Reason.OPT_OUT_PARENT: "the person has opted out of a purpose that this one is part of",
    Reason.GLOBAL_OPT_OUT: "the person has opted out of everything",
    Reason.OPT_OUT_CHILD: "the person has opted out of a part of this purpose",
    Reason.MINOR_NO_VALID_CONSENT: "the person is a minor, and there is no valid consent",
    Reason.GPC_SIGNAL: "the person's browser sent the signal Sec-GPC",
    Reason.EXPLICIT_CONSENT_REQUIRED: "it needs an explicit consent, and there is none",
    Reason.GRANTED: "the person has consented",
    Reason.GRANTED_STALE: "the person has consented, as far as a copy that was getting old knew",
    Reason.CONSENT_EXPIRED: "the person's consent had expired",
    Reason.NOTICE_OUTDATED: "the consent was given to an older notice",
    Reason.PROOF_INSUFFICIENT: "it was not proven well enough that the consent is this person's",
    Reason.NO_CHOICE_REQUIRED: "the purpose needs nobody's choice",
    Reason.NO_CHOICE_REQUIRED_STALE: "the purpose needs nobody's choice, as far as a copy that was getting old knew",
    Reason.STALE_UNKNOWN_SUBJECT: "nothing was known of the person, in a copy that was getting old",
    Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN: "the person is known and has not opted out, where it is allowed until somebody does",
    Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_KNOWN_STALE: (
        "the person is known and has not opted out, as far as a copy that was getting old knew"
    ),
    Reason.DEFAULT_OPT_OUT_REGIME_SUBJECT_UNKNOWN: "nobody has opted out under this identifier, where it is allowed until somebody does",
    Reason.NO_CONSENT_SUBJECT_KNOWN: "the person has not consented",
    Reason.NO_CONSENT_SUBJECT_UNKNOWN: "nobody has consented under this identifier",
    Reason.ALL_PURPOSES_ALLOWED: "every purpose that was asked about is allowed",
}


def explain_reason(reason: Reason) -> str:
    """A reason in words."""
    return _REASONS[reason]


def name_type(type_byte: int) -> str:
    """The name of an entry's type; of one that is not known here its number."""
    return EventType(type_byte).name if type_byte in set(EventType) else f"0x{type_byte:02x}"


def mark_token(token: bytes) -> str:
    """A token's mark: the same for the same token, and of no use to find the person."""
    return sha256(b"consentry/trail-mark/v1" + token).hexdigest()[:8]


def event_time_ms(event: Event) -> int | None:
    """When an event says that it happened; None where it does not say."""
    for name in (
        "occurred_at_ms",
        "received_at_ms",
        "rejected_at_ms",
        "enrolled_at_ms",
        "retired_at_ms",
        "raised_at_ms",
    ):
        at_ms = getattr(event, name, None)
        if isinstance(at_ms, int):
            return at_ms
    return None


def explain_event(event: Event) -> str:
    """An entry in words, without any token."""
    explain = _SENTENCES.get(type(event))
    if explain is not None:
        return explain(event)
    return f"an entry of type {name_type(event.type_byte if isinstance(event, OpaqueEvent) else event.TYPE)}"


def _explain_directive(event: DirectiveEvent) -> str:
    kind = (
        _KINDS.get(Kind(event.kind), "a statement")
        if event.kind in set(Kind)
        else "a statement of a kind not known here"
    )
    about = "every purpose" if event.purpose == ANY else event.purpose
    below = " and everything below it" if event.subtree else ""
    return f"{kind} about {about}{below}"


_SENTENCES: Final[dict[type[Event], Callable[[Any], str]]] = {
    DirectiveEvent: _explain_directive,
    RestrictionEvent: lambda event: f"{'a' if event.restricted else 'the end of a'} restriction of processing",
    LinkEvent: lambda _: "a link: two identifiers are one person",
    UnlinkEvent: lambda _: "the end of a link between two identifiers",
    FactEvent: lambda _: "facts about age or place",
    OverrideEvent: lambda event: f"an override of the objection in entry {event.objection_seq}, for {event.purpose}",
    ErasureEvent: lambda _: "an erasure of the person's entries",
    ErasedEvent: lambda event: f"an entry of type {name_type(event.type_byte)} whose content was erased",
    PolicyEvent: lambda event: f"version {event.version} of the policy",
    ReceivedEvent: lambda _: "the arrival of a request",
    RejectedEvent: lambda event: f"the refusal of a request ({event.rejection})",
    EnrolEvent: lambda event: f"the enrolment of sidecar {event.sidecar_id}",
    RetireEvent: lambda event: f"the retirement of sidecar {event.sidecar_id}",
    AdminEvent: lambda event: f"the use of a privilege: {event.action} by {event.actor}, {event.outcome}",
    AlertEvent: lambda event: f"{'the end of ' if event.is_over else ''}the alert {event.alert} about {event.about}",
}
