"""What tests of the journal are made of: keys, calls, and a look at the files."""

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.decision_record import (
    AskedQuestion,
    CallRecord,
    Item,
    Situation,
    format_question,
    format_record,
    format_situation,
)
from consent.vocabulary.reason import Effect, Reason
from journal.format import PREFIX_BYTES, header_length, parse_prefix
from sidecar.errors import WrongCacheKey

NOW_MS = 1_767_225_600_000
TRACE_ID = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
CALLER_SPAN_ID = bytes.fromhex("00f067aa0ba902b7")
OWN_SPAN_ID = bytes.fromhex("b7ad6b7169203331")

SITUATION = Situation("log.example/consents", 42, bytes(range(32)), 7, NOW_MS - 1_500)
QUESTION = AskedQuestion("mailer", True, ("marketing.email", "analytics"), ("DE",), 3, False, "*", (), 0)


class SealingKeys:
    """A key provider that holds one key; anything sealed otherwise is refused."""

    def __init__(self, kek: bytes = bytes(range(32))) -> None:
        self._cipher = AESGCM(kek)

    def wrap(self, key: bytes, purpose: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, key, purpose.encode())

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        try:
            return bytearray(self._cipher.decrypt(wrapped_key[:12], wrapped_key[12:], purpose.encode()))
        except (InvalidTag, ValueError):
            raise WrongCacheKey("no key at hand opens it") from None

    def is_current(self, wrapped_key: bytes) -> bool:
        return True

    def refresh(self) -> None:
        """There is never a newer one."""


def make_call(number: int, items: int = 1, *, parent_span_id: bytes = CALLER_SPAN_ID) -> CallRecord:
    """A call whose ids, and whose every third answer, follow from `number`."""
    return CallRecord(
        call_id=(number << 64 | 1).to_bytes(16, "big"),
        now_ms=NOW_MS + number,
        age_ms=1_500,
        latency_us=250,
        trace_id=TRACE_ID,
        parent_span_id=parent_span_id,
        span_id=(number + 1).to_bytes(8, "big"),
        trace_flags=1,
        situation=format_situation(SITUATION),
        question=format_question(QUESTION),
        items=tuple(make_item(number + index) for index in range(items)),
    )


def make_item(number: int) -> Item:
    """An answer: every third one is a denial."""
    pseudonym = number.to_bytes(16, "big")
    if number % 3 == 0:
        return Item((pseudonym,), True, Effect.DENY, Reason.OPT_OUT, 11, 0)
    return Item((pseudonym,), True, Effect.ALLOW, Reason.GRANTED, 12, NOW_MS + 60_000)


def make_record(number: int, items: int = 1) -> bytes:
    """The bytes of `make_call`'s record."""
    return format_record(make_call(number, items))


def segment_paths(directory: Path) -> list[Path]:
    """The segments of a directory with one chain, in order."""
    return sorted(directory.glob("*.journal"))


def split_segment(segment_bytes: bytes) -> tuple[bytes, list[bytes]]:
    """A segment's header and its frames, without opening them."""
    at = header_length(segment_bytes) or 0
    header, frames = segment_bytes[:at], []
    while at < len(segment_bytes):
        end = at + PREFIX_BYTES + parse_prefix(segment_bytes[at : at + PREFIX_BYTES]).sealed_bytes
        frames.append(segment_bytes[at:end])
        at = end
    return header, frames


def join_segment(header: bytes, frames: Sequence[bytes]) -> bytes:
    """The reverse of `split_segment`."""
    return header + b"".join(frames)
