"""A copy of an event log in one file: every entry in its order, and the signed checkpoint of each time that it was fetched.

Layout: `CSTYLOGC`, version (1 byte), then frames: length of the content (4), CRC-32 of it (4), content. The content of an entry is kind 1,
type (1), opening, event bytes, commitment and attestations, each behind its length (4); that of a checkpoint kind 2 and the note.
The checksums find accidents; that nobody changed anything, the tree that the checkpoint signs shows. It holds tokens and no identifier.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from auditor.errors import FolderUnusable, MalformedLogCopy
from consent import encoding as wire
from consent.errors import ConsentError
from consent.event import ErasedEvent, Event, parse_event
from consent.eventlog.attestation import Attestation, format_attestations, parse_attestations
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import hash_entry, hash_leaf, leaf_data

FILE_NAME: Final = "log.copy"

_OPENING: Final = b"CSTYLOGC\x01"
_PREFIX: Final = struct.Struct(">II")
_ENTRY, _CHECKPOINT = 1, 2
_MAX_CONTENT_BYTES: Final = 16 << 20


class CopiedEntry(NamedTuple):
    """An entry as the feed sent it; nothing about it is verified.

    Attributes:
        seq: Its place in the log, from 1.
        type_byte: As stated beside the payload.
        opening: 32 bytes; empty once the payload was erased.
        event_bytes: Canonical event bytes; empty once the payload was erased.
        commitment: 32 bytes, for an entry without payload only.
        attestations: Signatures beside it.
    """

    seq: int
    type_byte: int
    opening: bytes
    event_bytes: bytes
    commitment: bytes = b""
    attestations: tuple[Attestation, ...] = ()

    def leaf_hash(self) -> bytes:
        """The entry's leaf in the log's tree, 32 bytes.

        Raises:
            EventLogError: The entry cannot be a leaf.
        """
        if self.event_bytes:
            return hash_entry(self.type_byte, self.opening, self.event_bytes)
        return hash_leaf(leaf_data(self.type_byte, self.commitment))

    def read_event(self) -> Event:
        """The event; an `ErasedEvent` where the payload is gone.

        Raises:
            ConsentError: The bytes are no event.
        """
        return parse_event(self.event_bytes) if self.event_bytes else ErasedEvent(origin="", type_byte=self.type_byte)


class CopiedCheckpoint(NamedTuple):
    """A checkpoint as the feed sent it, behind the entries that it should be about.

    Attributes:
        note: The signed note.
    """

    note: bytes


class CopiedItem(NamedTuple):
    """What a copy holds at a place.

    Attributes:
        content: An entry or a checkpoint.
        end: Byte after it.
    """

    content: CopiedEntry | CopiedCheckpoint
    end: int


class LogCopyWriter:
    """Appends to a copy; makes it where there is none. What a kill left unfinished at its end is dropped first.

    Args:
        path: The file.

    Attributes:
        size: Entries in it.

    Raises:
        MalformedLogCopy, FolderUnusable: What is there is no copy of a log, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        except OSError as error:
            raise FolderUnusable(f"{path}: {error.strerror}") from None
        try:
            self.size, end = _find_end(self._file)
            self._file.seek(end)
            self._file.truncate()
            if not end:
                self._file.write(_OPENING)
        except MalformedLogCopy:
            self._file.close()
            raise
        except OSError as error:
            self._file.close()
            raise FolderUnusable(f"{path}: {error.strerror}") from None

    def append(self, entries: Iterable[CopiedEntry]) -> None:
        """Add entries; each must be the next one.

        Raises:
            MalformedLogCopy: It is not.
            OSError: The disk is full or broken.
        """
        for entry in entries:
            if entry.seq != self.size + 1:
                raise MalformedLogCopy(f"entry {entry.seq} comes where entry {self.size + 1} is due")
            self._file.write(_frame(_format_entry(entry)))
            self.size += 1

    def seal(self, checkpoint_note: bytes) -> None:
        """Add the checkpoint of what was added, and put all on the disk."""
        self._file.write(_frame(bytes((_CHECKPOINT,)) + checkpoint_note))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LogCopy:
    """Reads a copy; memory stays flat.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def size_bytes(self) -> int:
        """Length of the file, for progress; 0 where it cannot be read."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def checkpoint_note(self) -> bytes:
        """The newest signed checkpoint; empty where there is none.

        Raises:
            MalformedLogCopy, FolderUnusable: As `entries`.
        """
        newest = b""
        for content, _ in self._frames():
            if content[0] == _CHECKPOINT:
                newest = content[1:]
        return newest

    def entries(self) -> Iterator[CopiedEntry]:
        """Every entry, from the first on.

        Raises:
            MalformedLogCopy: The file is damaged; everything before that has been yielded.
            FolderUnusable: It cannot be read.
        """
        for item in self.items():
            if isinstance(item.content, CopiedEntry):
                yield item.content

    def items(self) -> Iterator[CopiedItem]:
        """Every entry and every checkpoint, as they lie.

        Raises:
            MalformedLogCopy, FolderUnusable: As `entries`.
        """
        seq = 0
        for content, end in self._frames():
            if content[0] == _ENTRY:
                seq += 1
                yield CopiedItem(_parse_entry(seq, content), end)
            elif content[0] == _CHECKPOINT:
                yield CopiedItem(CopiedCheckpoint(content[1:]), end)

    def _frames(self) -> Iterator[tuple[bytes, int]]:
        try:
            with self._path.open("rb", buffering=1 << 20) as file:
                yield from _read_frames(file)
        except OSError as error:
            raise FolderUnusable(f"{self._path}: {error.strerror}") from None


def _frame(content: bytes) -> bytes:
    return _PREFIX.pack(len(content), zlib.crc32(content)) + content


def _format_entry(entry: CopiedEntry) -> bytes:
    parts = (entry.opening, entry.event_bytes, entry.commitment, format_attestations(entry.attestations))
    return bytes((_ENTRY, entry.type_byte)) + b"".join(map(wire.BLOB.write, parts))


def _parse_entry(seq: int, content: bytes) -> CopiedEntry:
    try:
        at, parts = 2, []
        for _ in range(4):
            part, at = wire.BLOB.read(content, at)
            parts.append(part)
        opening, event_bytes, commitment, attestations = parts
        if at != len(content):
            raise MalformedLogCopy(f"entry {seq}: bytes are left over")
        return CopiedEntry(seq, content[1], opening, event_bytes, commitment, parse_attestations(attestations))
    except (wire.Truncated, struct.error, IndexError, EventLogError, ConsentError):
        raise MalformedLogCopy(f"entry {seq}: not readable") from None


def _read_frames(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each frame's content, and the byte after it."""
    if file.read(len(_OPENING)) != _OPENING:
        raise MalformedLogCopy("not a copy of a log, or of a version that is not known here")
    end, number = len(_OPENING), 0
    while prefix := file.read(_PREFIX.size):
        length, checksum = _PREFIX.unpack(prefix) if len(prefix) == _PREFIX.size else (0, 0)
        content = file.read(length) if 0 < length <= _MAX_CONTENT_BYTES else b""
        number += 1
        if not content or len(content) != length or zlib.crc32(content) != checksum:
            raise MalformedLogCopy(f"frame {number} at byte {end} is damaged or cut short")
        end += _PREFIX.size + length
        yield content, end


def _find_end(file: IO[bytes]) -> tuple[int, int]:
    """Entries in a file, and the byte after its last checkpoint: what a kill left behind that is fetched again."""
    if not os.fstat(file.fileno()).st_size:
        return 0, 0
    entries = sealed_entries = 0
    sealed_end = len(_OPENING)
    try:
        for content, end in _read_frames(file):
            if content[0] == _ENTRY:
                entries += 1
            else:
                sealed_entries, sealed_end = entries, end
    except MalformedLogCopy:
        if sealed_end == len(_OPENING) and not entries:
            raise
    return sealed_entries, sealed_end
