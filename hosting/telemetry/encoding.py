"""Spans as OTLP, several times as fast as the SDK writes them: a shipper that catches up spends most of its time here.

Attributes repeat from span to span, so each is written once as the bytes that protobuf would make of it and joined to the others; the
protobuf runtime then reads the whole. What comes out is the SDK's own message: the tests compare both.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode_by_sdk
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

# Tags are number << 3 | wire type, as in opentelemetry/proto/{common,trace}/v1 of OTLP 1.x.
_TIME: Final = struct.Struct("<Q")
_FLAGS: Final = struct.Struct("<I")
_DOUBLE: Final = struct.Struct("<d")
_IS_REMOTE_KNOWN, _IS_REMOTE = 0x100, 0x200
_KINDS: Final = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
_STATUSES: Final = {StatusCode.UNSET: b"", StatusCode.OK: b"\x18\x01", StatusCode.ERROR: b"\x18\x02"}
_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(0x80))
_KNOWN_ATTRIBUTES: Final = 4_096
_ID_CHARACTERS: Final = 32


def encode_spans(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The request that exports spans.

    Args:
        spans: Without links, and with attributes that are text, numbers, truth values, or lists of text: as ours are.

    Raises:
        TypeError: An attribute is something else.
    """
    request: ExportTraceServiceRequest | None = None
    for _, run in groupby(spans, key=lambda span: (id(span.resource), span.instrumentation_scope)):
        group = list(run)
        blank = ReadableSpan(
            "", group[0].context, resource=group[0].resource, instrumentation_scope=group[0].instrumentation_scope
        )
        part = encode_by_sdk([blank])
        scope_spans = part.resource_spans[0].scope_spans[0]
        scope_spans.ClearField("spans")
        scope_spans.MergeFromString(b"".join([_prefix(b"\x12", _encode_span(span)) for span in group]))
        if request is None:
            request = part
        else:
            request.MergeFrom(part)
    return ExportTraceServiceRequest() if request is None else request


def _encode_span(span: ReadableSpan) -> bytes:
    context, parent = span.context, span.parent
    if context is None:
        raise TypeError("a span without a context")
    flags = _IS_REMOTE_KNOWN | (_IS_REMOTE if parent is not None and parent.is_remote else 0)
    description = span.status.description
    status = (_prefix(b"\x12", description.encode()) if description else b"") + _STATUSES[span.status.status_code]
    parts = [
        b"\x0a\x10",
        context.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        context.span_id.to_bytes(8, "big"),
        b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8, "big"),
        _prefix(b"\x2a", span.name.encode()),
        _KINDS[span.kind],
        b"\x39",
        _TIME.pack(span.start_time or 0),
        b"\x41",
        _TIME.pack(span.end_time or 0),
        _encode_attributes(b"\x4a", span.attributes or {}),
        *(_prefix(b"\x5a", _encode_event(event)) for event in span.events),
        _prefix(b"\x7a", status),
        b"\x85\x01",
        _FLAGS.pack(flags),
    ]
    return b"".join(parts)


def _encode_event(event: Event) -> bytes:
    return b"".join(
        (
            b"\x09",
            _TIME.pack(event.timestamp),
            _encode_name(event.name),
            _encode_attributes(b"\x1a", event.attributes or {}),
        )
    )


@lru_cache(maxsize=64)
def _encode_name(name: str) -> bytes:
    return _prefix(b"\x12", name.encode())


def _encode_attributes(tag: bytes, attributes: Mapping[str, Any]) -> bytes:
    parts = list[bytes]()
    for key, value in attributes.items():
        is_list = isinstance(value, (list, tuple))
        text = value[0] if is_list and len(value) == 1 else value
        if isinstance(text, str) and len(text) >= _ID_CHARACTERS:
            # An id, which seldom comes again: to remember it would cost more than to write it.
            encoded = text.encode()
            parts += (_head_of_text(tag, key, len(encoded), is_list), encoded)
        else:
            parts.append(_encode_attribute(tag, key, tuple(value) if is_list else value))
    return b"".join(parts)


# Of equal numbers of several types each has its own encoding.
@lru_cache(maxsize=_KNOWN_ATTRIBUTES, typed=True)
def _encode_attribute(tag: bytes, key: str, value: str | float | tuple[str, ...]) -> bytes:
    content = _prefix(b"\x2a", _encode_array(value)) if isinstance(value, tuple) else _encode_scalar(value)
    return _prefix(tag, _encode_key(key) + _prefix(b"\x12", content))


@lru_cache(maxsize=_KNOWN_ATTRIBUTES)
def _head_of_text(tag: bytes, key: str, size_bytes: int, is_list: bool) -> bytes:
    """What stands before a text of so many bytes, or before the only one of a list."""
    text = "x" * size_bytes
    return _encode_attribute.__wrapped__(tag, key, (text,) if is_list else text)[:-size_bytes]


@lru_cache(maxsize=256)
def _encode_key(key: str) -> bytes:
    return _prefix(b"\x0a", key.encode())


def _encode_array(values: Iterable[str]) -> bytes:
    encoded = []
    for value in values:
        if not isinstance(value, str):
            raise TypeError("an attribute is a list of something else than text")
        encoded.append(_prefix(b"\x0a", _encode_scalar(value)))
    return b"".join(encoded)


def _encode_scalar(value: str | float) -> bytes:
    """An `AnyValue`."""
    match value:
        case str():
            return _prefix(b"\x0a", value.encode())
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        case float():
            return b"\x21" + _DOUBLE.pack(value)
        case _:
            raise TypeError("an attribute is neither text nor a number, a truth value or a list of text")


def _prefix(tag: bytes, content: bytes) -> bytes:
    """A field of a length that is told before it."""
    length = len(content)
    return tag + (_ONE_BYTE[length] if length < 0x80 else _varint(length)) + content


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _ONE_BYTE[number]
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
