"""Which span the code that runs now belongs to, so that a log line written meanwhile can say so."""

import re
from contextvars import ContextVar
from typing import Final

TRACEPARENT: Final = "traceparent"

# W3C Trace Context, 3.2: later versions may add fields behind the flags.
_TRACEPARENT: Final = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")

Span = tuple[bytes, bytes]
"""Trace id of 16 bytes and span id of 8."""

CURRENT_SPAN: Final[ContextVar[Span | None]] = ContextVar("current_span", default=None)
"""Of the call under way. gRPC handles each call in a task of its own, so nothing has to be put back."""


def parse_span(traceparent: str) -> Span | None:
    """The caller's span out of a W3C `traceparent`, None where it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return (bytes.fromhex(match[1]), bytes.fromhex(match[2])) if match else None


def enter_span(traceparent: str) -> None:
    """Take the caller's span for that of the call under way, unless it has one of its own."""
    if CURRENT_SPAN.get() is None and (span := parse_span(traceparent)) is not None:
        CURRENT_SPAN.set(span)
