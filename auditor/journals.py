"""Journals in an audit folder: the segments of each sidecar as they lay on its disk, and the keys that open them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from auditor.errors import FolderUnusable, SegmentKeyMissing
from consent.decision_record import CallRecord, parse_record
from journal.directory import list_segments
from journal.errors import InvalidSegmentKey
from journal.format import FrameKind, format_segment_name
from journal.reader import FrameAt, SegmentReader
from journal.segment_keys import open_segment_key

KEYS_FILE_NAME: Final = "segment-keys.json"
"""Sealed keys by chain and number: `{"<chain hex>-<number>": "<sealed key hex>"}`."""

SegmentName = tuple[bytes, int]
"""Chain id and number."""


class AuditorKey(NamedTuple):
    """The auditor's own key for what is sealed to it.

    Attributes:
        name: Bound into every seal.
        private_key: Opens them.
    """

    name: str
    private_key: X25519PrivateKey


class CallAt(NamedTuple):
    """A decision record, and where it is.

    Attributes:
        chain_id: 16 bytes.
        segment: Number of the segment in its chain.
        frame: Number of the frame in the segment.
        place: Place in the frame.
        call: The record.
    """

    chain_id: bytes
    segment: int
    frame: int
    place: int
    call: CallRecord


@dataclass(frozen=True, slots=True)
class _OneSegmentKey:
    data_key: bytes

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        return bytearray(self.data_key)


@dataclass(slots=True)
class SidecarJournal:
    """The journal of one sidecar.

    Attributes:
        sidecar_id: Whose it is, as its folder is named.
        directory: Where its segments lie.
        key: Opens the sealed keys; None where the auditor has none.
    """

    sidecar_id: str
    directory: Path
    key: AuditorKey | None = None
    _sealed: dict[str, str] | None = field(default=None, init=False, repr=False)

    def chains(self) -> Mapping[bytes, dict[int, int]]:
        """Bytes of each segment, by chain and number.

        Raises:
            FolderUnusable: The folder cannot be read.
        """
        try:
            return list_segments(self.directory)
        except OSError as error:
            raise FolderUnusable(f"{self.directory}: {error.strerror}") from None

    def path_of(self, name: SegmentName) -> Path:
        """The file of a segment."""
        return self.directory / format_segment_name(*name)

    def data_key(self, name: SegmentName) -> bytes:
        """The key of a segment, 32 bytes.

        Raises:
            SegmentKeyMissing: It is not in the folder, or not sealed to this auditor.
            FolderUnusable: The file with the sealed keys is damaged.
        """
        chain_id, number = name
        if self._sealed is None:
            self._sealed = load_sealed_keys(self.directory / KEYS_FILE_NAME)
        sealed = self._sealed.get(format_key_name(name))
        if self.key is None or sealed is None:
            raise SegmentKeyMissing(f"{format_segment_name(*name)}: there is no key for it")
        try:
            return open_segment_key(
                bytes.fromhex(sealed),
                self.key.private_key,
                recipient_name=self.key.name,
                sidecar_id=self.sidecar_id,
                chain_id=chain_id,
                number=number,
            )
        except (InvalidSegmentKey, ValueError):
            raise SegmentKeyMissing(f"{format_segment_name(*name)}: its key is not sealed to this auditor") from None

    def reader(self, name: SegmentName) -> SegmentReader:
        """Reads a segment, and opens its frames where there is a key for it; without one they are passed over as they lie.

        Raises:
            FolderUnusable: The file with the sealed keys is damaged.
        """
        try:
            keys = _OneSegmentKey(self.data_key(name))
        except SegmentKeyMissing:
            return SegmentReader(self.path_of(name), None)
        return SegmentReader(self.path_of(name), keys)

    def frames(self, name: SegmentName) -> Iterator[FrameAt]:
        """Every whole frame of a segment, opened. What follows the last whole one is left to `auditor.verify`.

        Raises:
            SegmentKeyMissing: No key opens it.
            CorruptSegment: A frame is not as it was written; all before it have been yielded.
            OSError: The file cannot be read.
        """
        reader = SegmentReader(self.path_of(name), _OneSegmentKey(self.data_key(name)))
        try:
            while (frame := reader.next_frame()) is not None:
                yield frame
        finally:
            reader.release()

    def calls(self, chain_id: bytes) -> Iterator[CallAt]:
        """Every decision record of a chain, in the order written. Memory stays flat.

        Raises:
            SegmentKeyMissing, CorruptSegment, OSError: As `frames`.
            MalformedRecord: An authentic record that this version cannot read.
        """
        for number in sorted(self.chains().get(chain_id, {})):
            for frame in self.frames((chain_id, number)):
                if frame.kind == FrameKind.RECORDS:
                    for place, record in enumerate(frame.records):
                        yield CallAt(chain_id, number, frame.frame, place, parse_record(record))


def format_key_name(name: SegmentName) -> str:
    """How the file with sealed keys calls a segment."""
    return f"{name[0].hex()}-{name[1]}"


def load_sealed_keys(path: Path) -> dict[str, str]:
    """Read a file of sealed keys; empty where there is none.

    Raises:
        FolderUnusable: It is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise FolderUnusable(f"{path}: not readable") from None
    if not isinstance(content, dict) or not all(isinstance(sealed, str) for sealed in content.values()):
        raise FolderUnusable(f"{path}: not a file of sealed keys")
    return content
