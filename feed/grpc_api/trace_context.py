"""The W3C trace context of a call."""

import re
from typing import Any

import grpc

from hosting.call_context import enter_span

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def read_traceparent(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The caller's `traceparent`, or empty where there is none that follows the standard; the call's log lines name it from now on.

    Source: W3C Trace Context, level 1, section 3.2. Anything else that a caller sends must not travel on with the event.
    """
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str) and _TRACEPARENT.fullmatch(value):
            enter_span(value)
            return value
    return ""
