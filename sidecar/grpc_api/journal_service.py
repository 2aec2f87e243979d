"""`consentry.audit.v1.JournalService`: the decision record for auditors, as it lies on the disk."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from consentry.audit.v1 import journal_pb2

from hosting.clock import Clock
from hosting.tls import peer_identities
from journal.access import AccessNote, format_access, hash_recipient_key
from journal.directory import list_segments
from journal.format import FrameKind
from sidecar.errors import InvalidArgument, JournalUnavailable, MethodNotPermitted, TooManyReaders
from sidecar.grpc_api.codec import decode
from sidecar.journal.position import POSITION_FILE_NAME
from sidecar.journal.segment_access import OpenSegment, Recipient, SegmentName, seal_keys
from sidecar.ports import KeyProvider

SERVICE: Final = "consentry.audit.v1.JournalService"
CHUNK_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 1_000
MAX_READERS: Final = 2
"""Calls that read the disk at a time, so that an audit does not take it from the checks; one more is answered RESOURCE_EXHAUSTED."""

_LOGGER: Final = logging.getLogger(__name__)
_MAX_REFUSED_NAMES: Final = 64
_RECIPIENT: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

Context = grpc.aio.ServicerContext[bytes, bytes]


class AccessRecord(Protocol):
    """Where it is noted that keys were handed out (`sidecar.journal.writer.FileJournal`)."""

    async def note_durably(self, kind: FrameKind, content: bytes) -> None:
        """Keep a frame, and come back when it is on the disk; raises JournalUnavailable where it may not be."""
        ...


class Auditors:
    """Who may ask on a listener.

    Args:
        name: Of the listener: who asks where no certificate says so.
        certificate_names: Of which an auditor's certificate must have one; None where the socket's mode says who may ask.
    """

    def __init__(self, name: str, certificate_names: AbstractSet[str] | None = None) -> None:
        self._name = name
        self._certificate_names = certificate_names
        self._refused: set[str] = set()

    def identify(self, context: Context, method: str) -> str:
        """The name of the caller.

        Raises:
            MethodNotPermitted: The certificate has none of the names.
        """
        if self._certificate_names is None:
            return self._name
        identities = peer_identities(context.auth_context())
        permitted = [identity for identity in identities if identity in self._certificate_names]
        if permitted:
            return permitted[0]
        self._report(identities[0] if identities else "", method)
        raise MethodNotPermitted("the certificate has none of the names in audit.auditors")

    def _report(self, refused: str, method: str) -> None:
        """Once for each name: a flood of refused calls must not fill the program's log."""
        if refused not in self._refused and len(self._refused) < _MAX_REFUSED_NAMES:
            self._refused.add(refused)
            fields = {"caller": refused if "@" not in refused else "(other name)", "method": method}
            _LOGGER.warning("somebody who is no auditor was refused the journal", extra={"fields": fields})


@dataclass(frozen=True, slots=True)
class JournalSource:
    """The journal that is served.

    Attributes:
        sidecar_id: Whose it is.
        directory: Where its segments lie.
        keys: Opens their keys.
        record: Where it is noted who was given keys.
        clock: The time.
    """

    sidecar_id: str
    directory: Path
    keys: KeyProvider
    record: AccessRecord
    clock: Clock


class ReaderLimit:
    """Counts who reads the disk; shared by all listeners."""

    def __init__(self) -> None:
        self._readers = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Read within it.

        Raises:
            TooManyReaders: There are as many as may be.
        """
        if self._readers >= MAX_READERS:
            raise TooManyReaders(f"the journal is read by {MAX_READERS} callers already; try again later")
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1


class JournalService:
    """The three RPCs of one listener.

    Args:
        source: The journal.
        auditors: Who asks on this listener.
        limit: How many read at a time.
    """

    def __init__(self, source: JournalSource, auditors: Auditors, limit: ReaderLimit) -> None:
        self._source = source
        self._auditors = auditors
        self._limit = limit

    async def ListSegments(self, request_bytes: bytes, context: Context) -> bytes:
        """Every segment there is now."""
        self._auditors.identify(context, "ListSegments")
        decode(journal_pb2.ListSegmentsRequest, request_bytes)
        with self._limit.hold():
            response: journal_pb2.ListSegmentsResponse = await _read(_list, self._source)
        return response.SerializeToString()

    async def ReadSegment(self, request_bytes: bytes, context: Context) -> AsyncIterator[bytes]:
        """The bytes of a segment, as far as it reaches at the start of the call."""
        self._auditors.identify(context, "ReadSegment")
        request = decode(journal_pb2.ReadSegmentRequest, request_bytes)
        name, offset = SegmentName(request.chain_id, request.number), request.offset
        with self._limit.hold():
            segment = await _read(OpenSegment.open, self._source.directory, name)
            try:
                if offset > segment.size_bytes:
                    raise InvalidArgument("offset: is behind the end of the segment")
                while content := await _read(segment.read, offset, CHUNK_BYTES):
                    yield journal_pb2.ReadSegmentResponse(content=content).SerializeToString()
                    offset += len(content)
            finally:
                segment.close()

    async def GetSegmentKeys(self, request_bytes: bytes, context: Context) -> bytes:
        """The keys of segments, once the journal says who was given them."""
        caller = self._auditors.identify(context, "GetSegmentKeys")
        request = decode(journal_pb2.GetSegmentKeysRequest, request_bytes)
        if not _RECIPIENT.fullmatch(request.recipient_name):
            raise InvalidArgument("recipient_name: must be 1 to 63 letters, digits, dots, hyphens or underscores")
        if len(request.segments) > MAX_KEYS:
            raise InvalidArgument(f"segments: there are more than {MAX_KEYS}")
        recipient = Recipient(request.recipient_name, request.recipient_public_key)
        names = [SegmentName(segment.chain_id, segment.number) for segment in request.segments]
        source = self._source
        with self._limit.hold():
            sealed = await _read(seal_keys, source.directory, names, source.keys, source.sidecar_id, recipient)
            # No record, no keys. A crash behind this line leaves a note about keys that never left.
            await self._note(caller, recipient, len(sealed))
        keys = [
            journal_pb2.SegmentKey(chain_id=each.name.chain_id, number=each.name.number, sealed_key=each.sealed_key)
            for each in sealed
        ]
        return journal_pb2.GetSegmentKeysResponse(keys=keys).SerializeToString()

    async def _note(self, caller: str, recipient: Recipient, count: int) -> None:
        source = self._source
        key_hash = hash_recipient_key(recipient.public_key)
        note = AccessNote(source.clock.now_ms(), caller, recipient.name, key_hash, count)
        await source.record.note_durably(FrameKind.ACCESS, format_access(note))
        fields = {"caller": caller, "recipient": recipient.name, "segments": count}
        _LOGGER.info("keys of the journal were handed out", extra={"fields": fields})


async def _read(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do what blocks in a thread; what the disk says stays here, since it names files."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError:
        pass
    raise JournalUnavailable("journal: the disk cannot be read")


def _list(source: JournalSource) -> journal_pb2.ListSegmentsResponse:
    segments = [
        journal_pb2.Segment(chain_id=chain_id, number=number, size_bytes=size_bytes)
        for chain_id, sizes in sorted(list_segments(source.directory).items())
        for number, size_bytes in sorted(sizes.items())
    ]
    try:
        positions = (source.directory / POSITION_FILE_NAME).read_bytes()
    except FileNotFoundError:
        positions = b""
    return journal_pb2.ListSegmentsResponse(
        sidecar_id=source.sidecar_id, segments=segments, shipped_positions=positions
    )


def journal_handler(service: JournalService) -> grpc.GenericRpcHandler:
    """The service as gRPC wants it: no (de)serialisers, the methods work on bytes."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "ListSegments": grpc.unary_unary_rpc_method_handler(service.ListSegments),
        "ReadSegment": grpc.unary_stream_rpc_method_handler(service.ReadSegment),
        "GetSegmentKeys": grpc.unary_unary_rpc_method_handler(service.GetSegmentKeys),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
