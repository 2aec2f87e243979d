"""What an entry of the log says, out of its canonical bytes (docs/protocol.md, Events). Tokens are passed over, never kept."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consentry.event.v1 import event_pb2

from consentry_client.verification.errors import InvalidReceipt

_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The part of an event that a receipt tells.

    Attributes:
        type: Name of the event's type, such as DIRECTIVE.
        request_id: Reference of the request, 16 bytes.
        origin: Name of the log.
        source: Who handed the request in.
        time_ms: When it happened, Unix ms by the log's word.
        kind: Of a directive, such as OPT_OUT; a number where this version has no name for it.
        purpose: Of a directive.
        rejection: Of a refusal, its stable reason.
    """

    type: str
    request_id: bytes
    origin: str
    source: str
    time_ms: int
    kind: str = ""
    purpose: str = ""
    rejection: str = ""

    @property
    def time(self) -> datetime | None:
        """The time, or None where no calendar has it."""
        try:
            return _EPOCH + timedelta(milliseconds=self.time_ms)
        except OverflowError:
            return None


class _Reader:
    """Takes fields off the front of bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def raw(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._content):
            raise _malformed("it is cut short")
        taken, self._at = self._content[self._at : end], end
        return taken

    def number(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.raw(count), "big", signed=signed)

    def time(self) -> int:
        return self.number(8, signed=True)

    def flag(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise _malformed("a flag is neither 0 nor 1")
        return value == 1

    def string(self) -> str:
        encoded = self.raw(self.number(2))
        try:
            text = encoded.decode("utf-8")
        except UnicodeDecodeError:
            raise _malformed("a string is not UTF-8") from None
        if not unicodedata.is_normalized("NFC", text):
            raise _malformed("a string is not in normal form C")
        return text

    def end(self) -> None:
        if self._at != len(self._content):
            raise _malformed("something is left over")


def _read_directive(reader: _Reader) -> dict[str, Any]:
    reader.raw(16)
    kind = reader.number(1)
    facts: dict[str, Any] = {"kind": _name_kind(kind), "time_ms": reader.time()}
    reader.raw(2)
    reader.flag(), reader.flag()
    reader.raw(1 + 8 + 8)
    facts["purpose"] = reader.string()
    reader.string()
    if reader.flag():
        reader.time()
    return facts


def _read_link(reader: _Reader) -> dict[str, Any]:
    reader.raw(16 + 16 + 1)
    return {"time_ms": reader.time()}


def _read_unlink(reader: _Reader) -> dict[str, Any]:
    reader.raw(16 + 16)
    return {"time_ms": reader.time()}


def _read_fact(reader: _Reader) -> dict[str, Any]:
    reader.raw(16 + 1 + 1)
    time_ms = reader.time()
    for _ in range(reader.number(2)):
        reader.string()
    return {"time_ms": time_ms}


def _read_restriction(reader: _Reader) -> dict[str, Any]:
    reader.raw(16)
    reader.flag()
    reader.raw(1)
    return {"time_ms": reader.time()}


def _read_rejected(reader: _Reader) -> dict[str, Any]:
    return {"time_ms": reader.time(), "rejection": reader.string()}


#: By type: its name, and what stands between the fields that all events begin and end with.
_TYPES: dict[int, tuple[str, Callable[[_Reader], dict[str, Any]]]] = {
    0x01: ("DIRECTIVE", _read_directive),
    0x02: ("LINK", _read_link),
    0x03: ("UNLINK", _read_unlink),
    0x04: ("FACT", _read_fact),
    0x05: ("RESTRICTION", _read_restriction),
    0x81: ("REJECTED", _read_rejected),
}


def read_event(event_bytes: bytes) -> Occurrence:
    """Reads canonical event bytes, strictly: nothing but what the encoding writes is read at all.

    Raises:
        InvalidReceipt: MALFORMED_RECEIPT; also for a type or version that no request ends in.
    """
    reader = _Reader(event_bytes)
    version, type_byte = reader.number(1), reader.number(1)
    if version != _VERSION or type_byte not in _TYPES:
        raise _malformed("its type or version is not that of a request's outcome")
    name, read = _TYPES[type_byte]
    reader.raw(8)
    request_id = reader.raw(16)
    facts = read(reader)
    origin, source = reader.string(), reader.string()
    reader.end()
    return Occurrence(type=name, request_id=request_id, origin=origin, source=source, **facts)


def _name_kind(code: int) -> str:
    # Every kind that is not known here denies, as everywhere; its code says which it is.
    names: dict[int, str] = {number: name for name, number in event_pb2.DirectiveKind.items()}
    return names.get(code, str(code)).removeprefix("DIRECTIVE_KIND_")


def _malformed(why: str) -> InvalidReceipt:
    return InvalidReceipt("MALFORMED_RECEIPT", f"the event cannot be read: {why}")
