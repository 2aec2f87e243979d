"""Segments: files of consecutive entries that verify themselves. An archive is many of them, a backup is one.

A head in clear (whose log it is, the wrapped keys), then records. A record is a length with its own checksum, and a sealed frame: entries,
the answers that were given for them, and, where a commit ended, the signed checkpoint. A frame is sealed for its place, so that none can
be taken out, moved or put into another segment; the length has its checksum so that a torn end is told from a damaged middle.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self

from consent import encoding as wire
from feed.errors import CorruptArchive, CorruptLog, ForeignLog
from feed.log_store.port import LoggedRequest
from feed.log_store.rows import format_payload, format_request_answer, parse_payload, parse_request_answer
from feed.log_store.sealing import INDEX_KEY_LABEL, KEY_BYTES, KeyWrap, Sealer, identify_kek
from feed.ports import StoredEntry

_MAGIC: Final = b"consentry-segment/1\n"
_LENGTH: Final = struct.Struct(">II")
_PLACE: Final = struct.Struct(">QQ")
_DATA_KEY_LABEL: Final = "segment-key"
_FRAME_VERSION: Final = 1
_MAX_HEAD_BYTES: Final = 4096
_MAX_RECORD_BYTES: Final = 256 * 1024 * 1024

_HEAD: Final = (wire.STRING, wire.STRING, wire.BLOB, wire.BLOB, wire.BLOB, wire.U64)
_ENTRIES: Final = wire.long_sequence(wire.pair(wire.U8, wire.BLOB))
_REQUESTS: Final = wire.long_sequence(wire.pair(wire.raw(16), wire.BLOB))


class SegmentHead(NamedTuple):
    """What stands at the beginning of a segment, in clear.

    Attributes:
        origin: Name of the log.
        tenant: Name of the tenant.
        kek_id: Tells under which KEK the keys are wrapped.
        wrapped_data_key: Of this segment alone.
        wrapped_index_key: Of the hashes of the log's rows (`SqliteLog.wrapped_index_key`).
        from_seq: Of its first entry.
    """

    origin: str
    tenant: str
    kek_id: bytes
    wrapped_data_key: bytes
    wrapped_index_key: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Consecutive entries with what belongs to them.

    Attributes:
        from_seq: Of the first entry.
        entries: May be empty in a backup, where answers follow the entries.
        requests: Answers by the hash of the request's name.
        checkpoint_note: Signed checkpoint for exactly these entries and all before them; empty in the middle of a commit.
        checkpoint_time_ms: Unix ms of its cosignature.
    """

    from_seq: int
    entries: Sequence[StoredEntry] = ()
    requests: Sequence[tuple[bytes, LoggedRequest]] = ()
    checkpoint_note: bytes = b""
    checkpoint_time_ms: int = 0

    @property
    def size(self) -> int:
        """Entries of the log up to the frame's last one."""
        return self.from_seq - 1 + len(self.entries)


class SegmentFormat:
    """Writes one segment, byte string by byte string, under a data key of its own.

    Args:
        origin: Name of the log.
        tenant: Name of the tenant.
        kek: 32 bytes; wraps the data key.
        wrapped_index_key: To be carried along.
        from_seq: Of the first entry.
    """

    def __init__(self, origin: str, tenant: str, kek: bytes, wrapped_index_key: bytes, from_seq: int) -> None:
        context = wire.STRING.write(origin) + wire.STRING.write(tenant)
        data_key = os.urandom(KEY_BYTES)
        wrapped = KeyWrap(kek, context).wrap(data_key, _DATA_KEY_LABEL)
        self._head = SegmentHead(origin, tenant, identify_kek(kek), wrapped, wrapped_index_key, from_seq)
        self._sealer = Sealer({0: data_key}, 0, context)

    def format_head(self) -> bytes:
        """The first bytes of the segment."""
        head = b"".join(field.write(value) for field, value in zip(_HEAD, self._head, strict=True))
        return _MAGIC + wire.BLOB.write(head)

    def format_record(self, index: int, frame: Frame) -> bytes:
        """The record of a frame.

        Args:
            index: How many records stand before it. May come again after a record was taken back: no nonce does.
            frame: What to write.
        """
        sealed = self._sealer.seal(_PLACE.pack(self._head.from_seq, index), _format_frame(frame))
        return _LENGTH.pack(len(sealed), _checksum(len(sealed), index)) + sealed


@dataclass(slots=True)
class SegmentReader:
    """Reads one segment. Made by `open` only; to be closed.

    Attributes:
        head: Whose log it is, and its keys.
        index_of_next: How many records were read.
        end: Offset behind the last record that was read.
        is_torn: The segment ends within a record, as after a crash; known once all were read.
    """

    head: SegmentHead
    index_of_next: int
    end: int
    is_torn: bool
    _file: BinaryIO
    _path: Path
    _sealer: Sealer

    @classmethod
    def open(cls, path: Path, origin: str, tenant: str, kek: bytes) -> Self:
        """Open a segment and take up its keys.

        Raises:
            ForeignLog: It is of another log or tenant, or sealed under another KEK.
            CorruptArchive: It cannot be read, or is no segment.
        """
        context = wire.STRING.write(origin) + wire.STRING.write(tenant)
        try:
            file = path.open("rb")
        except OSError as error:
            raise CorruptArchive(f"{path}: cannot be read: {error.strerror}") from None
        try:
            head = _read_head(file, path)
            if (head.origin, head.tenant) != (origin, tenant):
                raise ForeignLog(f"{path}: holds the log of another origin or tenant")
            if head.kek_id != identify_kek(kek):
                raise ForeignLog(f"{path}: sealed under another feed-kek")
            wrap = KeyWrap(kek, context)
            data_key = wrap.unwrap(head.wrapped_data_key, _DATA_KEY_LABEL)
            wrap.unwrap(head.wrapped_index_key, INDEX_KEY_LABEL)
            return cls(head, 0, file.tell(), False, file, path, Sealer({0: data_key}, 0, context))
        except CorruptLog as error:
            file.close()
            raise CorruptArchive(f"{path}: {error}") from None
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def frames(self) -> Iterator[Frame]:
        """The frames in their order; a torn end is no frame.

        Raises:
            CorruptArchive: A record was changed, moved or taken out of the middle.
        """
        while (sealed := self._read_record()) is not None:
            place = _PLACE.pack(self.head.from_seq, self.index_of_next)
            try:
                frame = _parse_frame(self._sealer.open(place, sealed))
            except (CorruptLog, ValueError, IndexError, struct.error):
                raise CorruptArchive(f"{self._path}: record {self.index_of_next} is not authentic") from None
            self.index_of_next += 1
            self.end = self._file.tell()
            yield frame

    def _read_record(self) -> bytes | None:
        head = self._file.read(_LENGTH.size)
        if not head:
            return None
        if len(head) == _LENGTH.size:
            length, checksum = _LENGTH.unpack(head)
            if checksum == _checksum(length, self.index_of_next) and length <= _MAX_RECORD_BYTES:
                sealed = self._file.read(length)
                if len(sealed) == length:
                    return sealed
            elif any(head) or any(self._file.read()):
                # Zeros to the end are blocks that a crash has left unwritten; anything else was written and is damaged.
                raise CorruptArchive(f"{self._path}: record {self.index_of_next} has a damaged length")
        self.is_torn = True
        return None


def _checksum(length: int, index: int) -> int:
    return zlib.crc32(_PLACE.pack(length, index))


def _read_head(file: BinaryIO, path: Path) -> SegmentHead:
    try:
        start = file.read(len(_MAGIC) + _MAX_HEAD_BYTES)
        if not start.startswith(_MAGIC):
            raise CorruptArchive(f"{path}: not a segment of a log, or of a newer version")
        content, end = wire.BLOB.read(start, len(_MAGIC))
        values: list[Any] = []
        at = 0
        for field in _HEAD:
            value, at = field.read(content, at)
            values.append(value)
        if at != len(content):
            raise CorruptArchive(f"{path}: its head is damaged")
        file.seek(end)
        return SegmentHead(*values)
    except OSError as error:
        raise CorruptArchive(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, IndexError, struct.error):
        raise CorruptArchive(f"{path}: its head is damaged") from None


def _format_frame(frame: Frame) -> bytes:
    entries = tuple((entry.type_byte, format_payload(entry)) for entry in frame.entries)
    requests = tuple((name_hash, format_request_answer(request)) for name_hash, request in frame.requests)
    return (
        wire.U8.write(_FRAME_VERSION)
        + wire.U64.write(frame.from_seq)
        + _ENTRIES.write(entries)
        + _REQUESTS.write(requests)
        + wire.BLOB.write(frame.checkpoint_note)
        + wire.TIME.write(frame.checkpoint_time_ms)
    )


def _parse_frame(content: bytes) -> Frame:
    version, at = wire.U8.read(content, 0)
    if version != _FRAME_VERSION:
        raise CorruptLog("a frame of another version")
    from_seq, at = wire.U64.read(content, at)
    entries, at = _ENTRIES.read(content, at)
    requests, at = _REQUESTS.read(content, at)
    note, at = wire.BLOB.read(content, at)
    time_ms, at = wire.TIME.read(content, at)
    return Frame(
        from_seq,
        [parse_payload(seq, type_byte, payload) for seq, (type_byte, payload) in enumerate(entries, start=from_seq)],
        [(name_hash, parse_request_answer(answer)) for name_hash, answer in requests],
        note,
        time_ms,
    )
