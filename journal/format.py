"""The bytes of a journal segment. docs/decision-record.md has the layout.

A segment is a header and then frames. Each frame is sealed with AES-256-GCM under a key used for this segment alone, the frame's number
is the nonce, and the chain hash so far is authenticated with it. So a frame that was changed, removed, repeated or moved does not open.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent import encoding as wire
from journal.errors import CorruptJournal

FORMAT_VERSION: Final = 1
CHAIN_ID_BYTES: Final = 16
CHAIN_START: Final = bytes(32)
"""What the first segment of a chain names as the hash before it."""
DATA_KEY_BYTES: Final = 32
KEY_PURPOSE: Final = "journal"
"""What the key provider binds a segment's wrapped key to."""
MAX_FRAME_BYTES: Final = 16 << 20
MAX_HEADER_BYTES: Final = 64 << 10
PREFIX_BYTES: Final = 12
"""What stands in clear before each sealed frame: its length, its decisions, and a checksum of both."""
SUFFIX: Final = ".journal"

_MAGIC: Final = b"CSTYJRNL"
_OPENING: Final = struct.Struct(">8sBII")
_LENGTH_AND_COUNT: Final = struct.Struct(">II")
TAG_BYTES: Final = 16
_U32: Final = struct.Struct(">I")
_NAME_DIGITS: Final = 8


class JournalMode(StrEnum):
    """How durable a record is when its answer leaves."""

    GROUP = "group"
    SYNC = "sync"
    ASYNC = "async"


class FrameKind(IntEnum):
    """What a frame holds. Kinds that this version does not know are read past, not refused."""

    RECORDS = 1
    #: A signed head (`consent.eventlog.journal_head.format_head`).
    HEAD = 2
    #: Entries of the log that came into force here (`journal.applied`).
    APPLIED = 3
    #: What the process that writes the chain is: version and settings, as canonical JSON (`journal.start`).
    START = 4
    #: A signed disposal of older segments (`consent.eventlog.journal_head.format_disposal`).
    DISPOSAL = 5
    #: An auditor was given segment keys (`journal.access`).
    ACCESS = 6


class FramePrefix(NamedTuple):
    """What stands in clear before a sealed frame, authenticated with it.

    Attributes:
        sealed_bytes: Length of what follows.
        decisions: How many decisions the frame holds: a backlog can be counted without any key.
    """

    sealed_bytes: int
    decisions: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first bytes of a segment.

    Attributes:
        chain_id: 16 random bytes, drawn by each process that writes.
        number: Place in the chain, from 0.
        created_ms: Unix ms.
        mode: The mode it is written in.
        previous_chain_hash: 32-byte chain hash after the last frame of the segment before, `CHAIN_START` for none.
        sidecar_id: Who writes.
        wrapped_key: The segment's data key under the key provider's KEK.
    """

    chain_id: bytes
    number: int
    created_ms: int
    mode: JournalMode
    previous_chain_hash: bytes
    sidecar_id: str
    wrapped_key: bytes


_MODES: Final = {1: JournalMode.GROUP, 2: JournalMode.SYNC, 3: JournalMode.ASYNC}
_MODE_CODES: Final = {mode: code for code, mode in _MODES.items()}


def _read_mode(data: bytes, at: int) -> tuple[JournalMode, int]:
    mode = _MODES.get(data[at])
    if mode is None:
        raise wire.Truncated("the mode is not known")
    return mode, at + 1


_HEADER: Final = wire.record(
    SegmentHeader,
    (
        ("chain_id", wire.raw(CHAIN_ID_BYTES)),
        ("number", wire.U64),
        ("created_ms", wire.TIME),
        ("mode", wire.Field("mode", lambda mode: bytes((_MODE_CODES[mode],)), _read_mode)),
        ("previous_chain_hash", wire.HASH),
        ("sidecar_id", wire.STRING),
        ("wrapped_key", wire.BLOB),
    ),
)


def format_segment_name(chain_id: bytes, number: int) -> str:
    """The file name of a segment."""
    return f"{chain_id.hex()}-{number:0{_NAME_DIGITS}d}{SUFFIX}"


def parse_segment_name(name: str) -> tuple[bytes, int] | None:
    """Chain id and number from a file name, None for a file that is no segment."""
    chain, dash, number = name.removesuffix(SUFFIX).partition("-")
    if not dash or not number.isascii() or not number.isdigit():
        return None
    try:
        chain_id = bytes.fromhex(chain)
    except ValueError:
        return None
    return (chain_id, int(number)) if name == format_segment_name(chain_id, int(number)) else None


def format_header(header: SegmentHeader, data_key: bytes | bytearray) -> bytes:
    """The bytes of a header, authenticated under the segment's own key.

    Raises:
        ValueError: A field is too long.
    """
    fields = _HEADER.write(header)
    total = _OPENING.size + len(fields) + TAG_BYTES
    if total > MAX_HEADER_BYTES:
        raise ValueError("a segment's header is too long: sidecar_id or wrapped_key")
    signed = _OPENING.pack(_MAGIC, FORMAT_VERSION, total, _checksum(total)) + fields
    return signed + _header_cipher(data_key).encrypt(bytes(12), b"", signed)


def header_length(opening: bytes) -> int | None:
    """How long the whole header is, from its first bytes; None while there are too few of them.

    Raises:
        CorruptJournal: Not a segment, or of a version that is not known here.
    """
    if len(opening) < _OPENING.size:
        return None
    magic, version, length, checksum = _OPENING.unpack_from(opening)
    if magic != _MAGIC:
        raise CorruptJournal("not a journal segment")
    if version != FORMAT_VERSION:
        raise CorruptJournal(f"segment of version {version} is not known here")
    if checksum != _checksum(length) or not _OPENING.size + TAG_BYTES < length <= MAX_HEADER_BYTES:
        raise CorruptJournal("the header's length is not valid")
    return int(length)


def parse_header(header_bytes: bytes) -> SegmentHeader:
    """Read a whole header, without checking that it is authentic (`verify_header`).

    Raises:
        CorruptJournal: Not what `format_header` writes.
    """
    if header_length(header_bytes) != len(header_bytes):
        raise CorruptJournal("the header's length is not valid")
    try:
        header: SegmentHeader = wire.read_whole(_HEADER, header_bytes[_OPENING.size : -TAG_BYTES])
    except wire.Truncated as error:
        raise CorruptJournal(f"header: {error}") from None
    return header


def verify_header(header_bytes: bytes, data_key: bytes | bytearray) -> None:
    """Check that a header was written under this key.

    Raises:
        CorruptJournal: It was not.
    """
    try:
        _header_cipher(data_key).decrypt(bytes(12), header_bytes[-TAG_BYTES:], header_bytes[:-TAG_BYTES])
    except InvalidTag:
        raise CorruptJournal("the header is not authentic") from None


def pack_records(records: Iterable[bytes]) -> bytes:
    """The plaintext of a frame of records."""
    parts = [b"\x01"]
    for record in records:
        parts += (_U32.pack(len(record)), record)
    return b"".join(parts)


def unpack_frame(plaintext: bytes) -> tuple[int, tuple[bytes, ...]]:
    """The kind of a frame, and its records; of every other kind its content as one.

    Raises:
        CorruptJournal: Authentic and yet not what `pack_records` writes: a defect of the writer.
    """
    kind = plaintext[0]
    if kind != FrameKind.RECORDS:
        return kind, (plaintext[1:],)
    records = []
    at, end = 1, len(plaintext)
    while at < end:
        start = at + _U32.size
        at = start + _U32.unpack_from(plaintext, at)[0] if start <= end else end + 1
        if at > end:
            raise CorruptJournal("a record is cut short")
        records.append(plaintext[start:at])
    return kind, tuple(records)


class ChainHash:
    """The chain hash along the frames of one segment, which needs no key.

    It is SHA-256(hash before || bytes of header or frame), from the last frame of the segment before.

    Args:
        header_bytes: The whole header.
        previous_chain_hash: As in the header.

    Attributes:
        chain_hash: After the last frame advanced over.
        frame: Number of the next frame.
    """

    __slots__ = ("chain_hash", "frame")

    def __init__(self, header_bytes: bytes, previous_chain_hash: bytes) -> None:
        self.chain_hash = sha256(previous_chain_hash + header_bytes).digest()
        self.frame = 0

    def advance(self, frame_bytes: bytes) -> None:
        """Take a frame into the chain."""
        self.chain_hash = sha256(self.chain_hash + frame_bytes).digest()
        self.frame += 1

    def resume(self, frame: int, chain_hash: bytes) -> None:
        """Go to a place reached before."""
        self.frame = frame
        self.chain_hash = chain_hash


class SegmentChain(ChainHash):
    """Seals or opens the frames of one segment, in order, and keeps the chain hash.

    Args:
        header_bytes: The whole header.
        previous_chain_hash: As in the header.
        data_key: 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, header_bytes: bytes, previous_chain_hash: bytes, data_key: bytes | bytearray) -> None:
        super().__init__(header_bytes, previous_chain_hash)
        self._cipher = AESGCM(_derive(data_key, b"consentry journal v1 frames"))

    def seal(self, plaintext: bytes, decisions: int) -> bytes:
        """The bytes of the next frame. Never seal another one under the same number: call `advance`, or drop the chain."""
        length_and_count = _LENGTH_AND_COUNT.pack(len(plaintext) + TAG_BYTES, decisions)
        prefix = length_and_count + _U32.pack(zlib.crc32(length_and_count))
        return prefix + self._cipher.encrypt(self.frame.to_bytes(12, "big"), plaintext, self.chain_hash + prefix)

    def open(self, frame_bytes: bytes) -> bytes:
        """The plaintext of the next frame.

        Raises:
            CorruptJournal: It is not the frame that was written at this place.
        """
        associated = self.chain_hash + frame_bytes[:PREFIX_BYTES]
        try:
            return self._cipher.decrypt(self.frame.to_bytes(12, "big"), frame_bytes[PREFIX_BYTES:], associated)
        except InvalidTag:
            raise CorruptJournal("not the frame that was written at this place") from None


def parse_prefix(prefix_bytes: bytes) -> FramePrefix:
    """Read what stands before a sealed frame.

    The checksum keeps a damaged length from being taken for an unfinished frame; that nobody changed it, the seal shows.

    Raises:
        CorruptJournal: Not a prefix.
    """
    if len(prefix_bytes) < PREFIX_BYTES:
        raise CorruptJournal("the frame's length is cut short")
    sealed_bytes, decisions = _LENGTH_AND_COUNT.unpack_from(prefix_bytes)
    checksum = _U32.unpack_from(prefix_bytes, _LENGTH_AND_COUNT.size)[0]
    if (
        zlib.crc32(prefix_bytes[: _LENGTH_AND_COUNT.size]) != checksum
        or not TAG_BYTES < sealed_bytes <= MAX_FRAME_BYTES
    ):
        raise CorruptJournal("the frame's length is damaged")
    return FramePrefix(sealed_bytes, decisions)


def _checksum(length: int) -> int:
    """Keeps a damaged length from being taken for an unfinished header."""
    return zlib.crc32(_U32.pack(length))


def _header_cipher(data_key: bytes | bytearray) -> AESGCM:
    return AESGCM(_derive(data_key, b"consentry journal v1 header"))


def _derive(data_key: bytes | bytearray, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(bytes(data_key))
