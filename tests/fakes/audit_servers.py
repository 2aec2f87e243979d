"""A feed and sidecars as auditors see them: real gRPC servers over a log made by hand and the files of real journals."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from consentry.audit.v1 import journal_pb2, journal_pb2_grpc
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

from auditor.journals import KEYS_FILE_NAME, format_key_name, load_sealed_keys
from hosting.addresses import TcpAddress, format_address
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from journal.directory import list_segments
from journal.format import format_segment_name
from tests.fakes.log_builder import LogBuilder

_Context = grpc.aio.ServicerContext[Any, Any]
CHUNK_BYTES = 1_024


class LogServer(audit_pb2_grpc.AuditServiceServicer):
    """Serves `ReadLog`.

    Args:
        log: What it serves.
        page_size: Entries of each message.

    Attributes:
        asked: `from_seq` of each call.
        stop_after: Pages after which it waits for ever; None for none.
        is_stopped: Set once it waits.
    """

    def __init__(self, log: LogBuilder, page_size: int = 4) -> None:
        self.log = log
        self.asked: list[int] = []
        self.stop_after: int | None = None
        self.is_stopped = asyncio.Event()
        self._page_size = page_size

    async def ReadLog(
        self, request: audit_pb2.ReadLogRequest, context: _Context
    ) -> AsyncIterator[audit_pb2.ReadLogResponse]:
        """Pages, and the checkpoint with the last one."""
        self.asked.append(request.from_seq)
        size = self.log.size
        starts = list(range(request.from_seq, size + 1, self._page_size))
        for number, start in enumerate(starts):
            if number == self.stop_after:
                self.is_stopped.set()
                await asyncio.Event().wait()
            entries = self.log.entries[start - 1 : min(start - 1 + self._page_size, size)]
            yield audit_pb2.ReadLogResponse(
                from_seq=start,
                entries=[encode(entry) for entry in entries],
                checkpoint=self.log.sign() if start == starts[-1] else b"",
            )
        if not starts:
            yield audit_pb2.ReadLogResponse(from_seq=request.from_seq, checkpoint=self.log.sign())


class JournalServer(journal_pb2_grpc.JournalServiceServicer):
    """Serves one sidecar's journal from its folder, where its sealed keys lie too.

    Args:
        sidecar_id: Its name.
        directory: Where its segments are.

    Attributes:
        read: Chain, number and offset of each `ReadSegment`.
        stop_after: Messages after which it waits for ever; None for none.
        is_stopped: Set once it waits.
    """

    def __init__(self, sidecar_id: str, directory: Path) -> None:
        self.sidecar_id = sidecar_id
        self.directory = directory
        self.read: list[tuple[bytes, int, int]] = []
        self.stop_after: int | None = None
        self.is_stopped = asyncio.Event()

    async def ListSegments(
        self, request: journal_pb2.ListSegmentsRequest, context: _Context
    ) -> journal_pb2.ListSegmentsResponse:
        """What the folder holds."""
        return journal_pb2.ListSegmentsResponse(
            sidecar_id=self.sidecar_id,
            segments=[
                journal_pb2.Segment(chain_id=chain_id, number=number, size_bytes=size)
                for chain_id, sizes in list_segments(self.directory).items()
                for number, size in sizes.items()
            ],
            shipped_positions=b"{}",
        )

    async def ReadSegment(
        self, request: journal_pb2.ReadSegmentRequest, context: _Context
    ) -> AsyncIterator[journal_pb2.ReadSegmentResponse]:
        """The bytes of a file, in small pieces."""
        self.read.append((request.chain_id, request.number, request.offset))
        content = (self.directory / format_segment_name(request.chain_id, request.number)).read_bytes()
        for sent, start in enumerate(range(request.offset, len(content), CHUNK_BYTES)):
            if sent == self.stop_after:
                self.is_stopped.set()
                await asyncio.Event().wait()
            yield journal_pb2.ReadSegmentResponse(content=content[start : start + CHUNK_BYTES])

    async def GetSegmentKeys(
        self, request: journal_pb2.GetSegmentKeysRequest, context: _Context
    ) -> journal_pb2.GetSegmentKeysResponse:
        """Those that lie in the folder."""
        sealed = load_sealed_keys(self.directory / KEYS_FILE_NAME)
        return journal_pb2.GetSegmentKeysResponse(
            keys=[
                journal_pb2.SegmentKey(
                    chain_id=name.chain_id,
                    number=name.number,
                    sealed_key=bytes.fromhex(sealed[format_key_name((name.chain_id, name.number))]),
                )
                for name in request.segments
            ]
        )


def encode(entry: Any) -> event_pb2.Entry:
    """An entry as it travels."""
    return event_pb2.Entry(
        type=entry.type_byte,
        opening=entry.opening,
        event_bytes=entry.event_bytes,
        commitment=entry.commitment,
        attestations=[
            event_pb2.Attestation(
                key_name=each.key_name,
                key_id=each.key_id,
                signed_at_unix_seconds=each.signed_at_unix_seconds,
                signature=each.signature,
                evidence_digest=each.evidence_digest,
                batch_index=each.batch_index,
                batch_size=each.batch_size,
                audit_path=each.audit_path,
            )
            for each in entry.attestations
        ],
    )


@asynccontextmanager
async def serving(
    servicers: Sequence[LogServer | JournalServer],
    folder: Path,
    make_credentials: Callable[[], grpc.ServerCredentials] | None = None,
) -> AsyncIterator[list[str]]:
    """Servers, one for each servicer; yields their addresses: Unix sockets in a short folder, or TCP with credentials of their own."""
    addresses = []
    async with AsyncExitStack() as stack:
        for number, servicer in enumerate(servicers):
            server = grpc.aio.server(options=EXCLUSIVE_PORT_OPTIONS)
            if isinstance(servicer, LogServer):
                audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, server)
            else:
                journal_pb2_grpc.add_JournalServiceServicer_to_server(servicer, server)
            stack.push_async_callback(server.stop, None)
            if make_credentials is None:
                address = f"unix://{folder}/{number}.sock"
                server.add_insecure_port(address)
            else:
                address = format_address(bind_listener(server, TcpAddress("127.0.0.1", 0), make_credentials()))
            await server.start()
            addresses.append(address)
        yield addresses
