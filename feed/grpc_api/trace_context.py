"""The W3C trace context of a call."""

from typing import Any

import grpc

from hosting.call_context import enter_span
from hosting.telemetry.trace_context import format_traceparent, parse_traceparent


def read_traceparent(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The caller's `traceparent`, or empty where there is none that follows the standard; the call's log lines name it from now on.

    Anything else that a caller sends must not travel on with the event.
    """
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str) and (parsed := parse_traceparent(value)):
            enter_span(value)
            return format_traceparent(parsed)
    return ""
