"""Reads a sidecar's journal: `JournalService`."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import grpc
from consentry.audit.v1 import journal_pb2, journal_pb2_grpc

from auditor.errors import SourceMisbehaves
from auditor.journals import SegmentName
from journal.format import CHAIN_ID_BYTES

MAX_KEYS: Final = 1_000


class Listing(NamedTuple):
    """What a journal holds.

    Attributes:
        segments: Bytes of each segment.
        shipped_positions: The shipper's file; empty before the first.
    """

    segments: dict[SegmentName, int]
    shipped_positions: bytes


class SidecarJournalClient:
    """Asks one sidecar.

    Args:
        channel: To it.
        sidecar_id: Its name.
        timeout_seconds: For each answer.
    """

    def __init__(self, channel: grpc.Channel, sidecar_id: str, timeout_seconds: float) -> None:
        self._stub = journal_pb2_grpc.JournalServiceStub(channel)
        self._sidecar_id = sidecar_id
        self._timeout_seconds = timeout_seconds

    def list_segments(self) -> Listing:
        """What there is.

        Raises:
            SourceMisbehaves: Another sidecar answers, or a segment has an impossible name.
        """
        response = self._stub.ListSegments(journal_pb2.ListSegmentsRequest(), timeout=self._timeout_seconds)
        if response.sidecar_id != self._sidecar_id:
            raise SourceMisbehaves(f"{self._sidecar_id}: another sidecar answers there")
        if any(len(segment.chain_id) != CHAIN_ID_BYTES for segment in response.segments):
            raise SourceMisbehaves(f"{self._sidecar_id}: a chain id has not {CHAIN_ID_BYTES} bytes")
        sizes = {(segment.chain_id, segment.number): segment.size_bytes for segment in response.segments}
        return Listing(sizes, response.shipped_positions)

    def read_segment(self, name: SegmentName, offset: int) -> Iterator[bytes]:
        """Its bytes from an offset to the end as it is now."""
        chain_id, number = name
        request = journal_pb2.ReadSegmentRequest(chain_id=chain_id, number=number, offset=offset)
        for response in self._stub.ReadSegment(request):
            yield response.content

    def segment_keys(
        self, names: Sequence[SegmentName], recipient_public_key: bytes, recipient_name: str
    ) -> dict[SegmentName, bytes]:
        """The keys of at most `MAX_KEYS` segments, sealed to the recipient; only of those that the sidecar can open."""
        request = journal_pb2.GetSegmentKeysRequest(
            recipient_public_key=recipient_public_key,
            recipient_name=recipient_name,
            segments=[journal_pb2.SegmentName(chain_id=chain_id, number=number) for chain_id, number in names],
        )
        response = self._stub.GetSegmentKeys(request, timeout=self._timeout_seconds)
        return {(key.chain_id, key.number): key.sealed_key for key in response.keys}
