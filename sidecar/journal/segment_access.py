"""The journal as an auditor gets it: bytes of segments as they lie on the disk, and their keys, each sealed to the auditor.

Everything here blocks on the disk, and perhaps on a key service: not for the event loop.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, Self

from journal.errors import CorruptJournal
from journal.format import (
    CHAIN_ID_BYTES,
    KEY_PURPOSE,
    MAX_HEADER_BYTES,
    format_segment_name,
    header_length,
    parse_header,
    verify_header,
)
from journal.segment_keys import seal_segment_key
from sidecar.errors import InvalidArgument, SegmentUnknown, WrongCacheKey
from sidecar.ports import KeyProvider

MAX_NUMBER: Final = 2**63 - 1

_LOGGER: Final = logging.getLogger(__name__)


class SegmentName(NamedTuple):
    """Which segment.

    Attributes:
        chain_id: 16 bytes.
        number: Place in the chain, from 0.
    """

    chain_id: bytes
    number: int


class SealedKey(NamedTuple):
    """The key of a segment, sealed to an auditor (`journal.segment_keys`)."""

    name: SegmentName
    sealed_key: bytes


class Recipient(NamedTuple):
    """To whom keys are sealed.

    Attributes:
        name: Bound into the seal.
        public_key: X25519, 32 bytes.
    """

    name: str
    public_key: bytes


class OpenSegment:
    """A segment open for reading; it may be written on meanwhile.

    Args:
        file: Unbuffered; closed with the last reference, should a call end while a thread opens it.
        size_bytes: How far it is read.
    """

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self._file = file
        self.size_bytes = size_bytes

    @classmethod
    def open(cls, directory: Path, name: SegmentName) -> Self:
        """Open a segment as it is now.

        Raises:
            InvalidArgument: No segment can have this name.
            SegmentUnknown: There is none of it.
            OSError: It cannot be read.
        """
        path = path_of(directory, name)
        try:
            # What lies there under a segment's name and is a link, a pipe or a folder is none of ours.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            raise SegmentUnknown(f"{path.name}: there is no such segment") from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise SegmentUnknown(f"{path.name}: there is no such segment")
        return cls(os.fdopen(descriptor, "rb", buffering=0), status.st_size)

    def read(self, offset: int, most_bytes: int) -> bytes:
        """Up to `most_bytes` from an offset; empty at the end that it had when it was opened."""
        return os.pread(self._file.fileno(), max(0, min(most_bytes, self.size_bytes - offset)), offset)

    def close(self) -> None:
        """Close it."""
        self._file.close()


def path_of(directory: Path, name: SegmentName) -> Path:
    """The file of a segment, which lies in the directory whatever the name is.

    Raises:
        InvalidArgument: No segment can have this name.
    """
    if len(name.chain_id) != CHAIN_ID_BYTES:
        raise InvalidArgument(f"chain_id: must be {CHAIN_ID_BYTES} bytes")
    if not 0 <= name.number <= MAX_NUMBER:
        raise InvalidArgument("number: is larger than any segment's")
    return directory / format_segment_name(*name)


def seal_keys(
    directory: Path, names: Iterable[SegmentName], keys: KeyProvider, sidecar_id: str, recipient: Recipient
) -> list[SealedKey]:
    """The keys of segments, each sealed to a recipient.

    Segments that are gone, that no key at hand opens, or that are not whole yet are left out: an auditor who lacks a key can still verify
    the chain.

    Raises:
        InvalidArgument: A name that no segment can have.
        InvalidSegmentKey: The recipient's key is not one.
        KeyServiceError: The key service does not answer.
        OSError: The disk cannot be read.
    """
    return list(_seal_each(directory, names, keys, sidecar_id, recipient))


def _seal_each(
    directory: Path, names: Iterable[SegmentName], keys: KeyProvider, sidecar_id: str, recipient: Recipient
) -> Iterator[SealedKey]:
    for name in dict.fromkeys(names):
        try:
            data_key = _open_key(directory, name, keys)
        except (SegmentUnknown, CorruptJournal, WrongCacheKey) as error:
            fields = {"segment": format_segment_name(*name), "reason": error.reason}
            _LOGGER.warning("a segment's key cannot be handed out", extra={"fields": fields})
            continue
        sealed = seal_segment_key(
            data_key,
            recipient.public_key,
            recipient_name=recipient.name,
            sidecar_id=sidecar_id,
            chain_id=name.chain_id,
            number=name.number,
        )
        data_key[:] = bytes(len(data_key))
        yield SealedKey(name, sealed)


def _open_key(directory: Path, name: SegmentName, keys: KeyProvider) -> bytearray:
    with contextlib.closing(OpenSegment.open(directory, name)) as segment:
        opening = segment.read(0, MAX_HEADER_BYTES)
    length = header_length(opening)
    if length is None or len(opening) < length:
        raise CorruptJournal("the header is not whole")
    header = parse_header(opening[:length])
    # A wrapped key that was copied into another segment's place must not be handed out as that one's.
    if (header.chain_id, header.number) != name:
        raise CorruptJournal("the file bears the name of another segment")
    data_key = keys.unwrap(header.wrapped_key, KEY_PURPOSE)
    verify_header(opening[:length], data_key)
    return data_key
