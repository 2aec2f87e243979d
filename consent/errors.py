"""Errors of the shared language."""


class ConsentError(ValueError):
    """Root of what this package raises about its inputs; the text never holds a value that came in."""

    reason = "CONSENT_ERROR"


class InvalidIdentifier(ConsentError):
    """An identifier cannot be normalised. Expected: callers pass on what people typed."""

    reason = "INVALID_IDENTIFIER"


class MalformedEvent(ConsentError):
    """Event bytes do not follow the canonical encoding. Unexpected: the sender is broken or hostile."""

    reason = "MALFORMED_EVENT"


class UnknownEventType(ConsentError):
    """An event that changes answers is of a type that this version does not know, so no state can be folded past it."""

    reason = "UNKNOWN_EVENT_TYPE"


class MalformedState(ConsentError):
    """State records do not follow their encoding. Unexpected: the bytes were authenticated before they were parsed."""

    reason = "MALFORMED_STATE"
