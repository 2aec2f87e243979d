"""W3C Trace Context: which trace something belongs to, and span ids that can be found again.

Source: https://www.w3.org/TR/trace-context/, section 3.2.
"""

import re
from hashlib import blake2b
from typing import Final, NamedTuple

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
TRACEPARENT_CHARACTERS: Final = 55
"""Of version 00, the one that `format_traceparent` writes."""
SAMPLED: Final = 1

_TRACEPARENT: Final = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_SPAN_ID: Final = bytes(SPAN_ID_BYTES)


class TraceContext(NamedTuple):
    """A span, as what happens because of it names it.

    Attributes:
        trace_id: 16 bytes, not all zero.
        span_id: 8 bytes, not all zero.
        flags: One byte; bit 0 says that the caller samples the trace.
    """

    trace_id: bytes
    span_id: bytes
    flags: int


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Read a `traceparent`, of a later version what is in all of them; None where there is none that follows the standard."""
    match = _TRACEPARENT.fullmatch(text) if text else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    context = TraceContext(bytes.fromhex(match[2]), bytes.fromhex(match[3]), int(match[4], 16))
    return context if any(context.trace_id) and any(context.span_id) else None


def format_traceparent(context: TraceContext) -> str:
    """The reverse of `parse_traceparent`, always of version 00."""
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{context.flags:02x}"


def derive_span_id(use: bytes, subject: bytes) -> bytes:
    """A span id that follows from what the span is about, so that a span sent twice can be told.

    Args:
        use: What kind of span, at most 16 bytes; the same subject has another id for each.
        subject: What it is about.

    Returns:
        8 bytes, never all zero.
    """
    span_id = blake2b(subject, digest_size=SPAN_ID_BYTES, person=use).digest()
    return span_id if span_id != _NO_SPAN_ID else b"\x00" * 7 + b"\x01"
