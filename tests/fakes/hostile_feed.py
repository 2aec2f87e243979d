"""A feed over real gRPC that signs with the real keys and sends whatever a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc

from consent.key_ring import KeyRing, seal_key_ring
from feed.grpc_api.attestation_codec import encode_attestation
from sidecar.ports import EntriesFrame, HeartbeatFrame, WireEntry, WireSnapshot
from tests.fakes.signing_feed import START_MS, SUBJECT_KEY, TENANT

Frame = EntriesFrame | HeartbeatFrame | feed_pb2.SubscribeResponse
Script = Callable[[feed_pb2.Hello], Iterable[Frame]]
_MAX_BYTES = 64 * 1024 * 1024


def encode(frame: Frame) -> feed_pb2.SubscribeResponse:
    """A frame as it travels."""
    match frame:
        case EntriesFrame():
            entries = [encode_entry(entry) for entry in frame.entries]
            message = feed_pb2.Entries(from_seq=frame.from_seq, entries=entries, checkpoint=frame.checkpoint_note)
            return feed_pb2.SubscribeResponse(entries=message)
        case HeartbeatFrame():
            return feed_pb2.SubscribeResponse(heartbeat=feed_pb2.Heartbeat(checkpoint=frame.checkpoint_note))
        case _:
            return frame


def encode_entry(entry: WireEntry) -> event_pb2.Entry:
    """An entry as it travels."""
    return event_pb2.Entry(
        type=entry.type_byte,
        opening=entry.opening,
        event_bytes=entry.event_bytes,
        attestations=[encode_attestation(attestation) for attestation in entry.attestations],
    )


class HostileFeed(feed_pb2_grpc.FeedServiceServicer):
    """Answers each Subscribe with the frames of its script and then says nothing more until the sidecar goes.

    Args:
        script: From the sidecar's Hello to what it is sent.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.snapshot: WireSnapshot | None = None
        self.subject_keys: Sequence[bytes] = (SUBJECT_KEY,)
        self.nacks: asyncio.Queue[str] = asyncio.Queue()
        self._restart = asyncio.Event()

    def play(self, script: Script) -> None:
        """End the streams, so that whoever comes back meets another script."""
        self.script = script
        self._restart.set()
        self._restart = asyncio.Event()

    async def Subscribe(
        self, request_iterator: AsyncIterator[feed_pb2.SubscribeRequest], context: Any
    ) -> AsyncIterator[feed_pb2.SubscribeResponse]:
        """Play the script."""
        restart = self._restart
        hello = (await anext(request_iterator)).hello
        reader = asyncio.create_task(self._read(request_iterator))
        try:
            for frame in self.script(hello):
                yield encode(frame)
            waiting = asyncio.create_task(restart.wait())
            await asyncio.wait([waiting, reader], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[feed_pb2.SubscribeRequest]) -> None:
        async for request in requests:
            if request.WhichOneof("message") == "nack":
                self.nacks.put_nowait(request.nack.reason)

    async def GetKeys(self, request: feed_pb2.GetKeysRequest, context: Any) -> feed_pb2.GetKeysResponse:
        """The keys, right or wrong."""
        day = START_MS // 86_400_000
        ring = KeyRing(tuple(self.subject_keys), tuple((day + offset, bytes(32)) for offset in range(40)))
        sealed = seal_key_ring(ring, request.recipient_public_key, tenant=TENANT, sidecar_id=request.sidecar_id)
        return feed_pb2.GetKeysResponse(sealed_key_ring=sealed)

    async def GetSnapshot(
        self, request: feed_pb2.GetSnapshotRequest, context: Any
    ) -> AsyncIterator[feed_pb2.GetSnapshotResponse]:
        """The snapshot, right or wrong."""
        assert self.snapshot is not None
        yield feed_pb2.GetSnapshotResponse(
            header=feed_pb2.SnapshotHeader(
                size=self.snapshot.size,
                frontier_hashes=self.snapshot.frontier_hashes,
                checkpoint=self.snapshot.checkpoint_note,
                state_root_entry=encode_entry(self.snapshot.state_root_entry),
                chunk_count=len(self.snapshot.chunks),
                tenant_record=self.snapshot.tenant_record,
            )
        )
        for number, records in enumerate(self.snapshot.chunks):
            yield feed_pb2.GetSnapshotResponse(chunk=feed_pb2.SnapshotChunk(number=number, records=records))

    async def GetEntryProof(
        self, request: feed_pb2.GetEntryProofRequest, context: Any
    ) -> feed_pb2.GetEntryProofResponse:
        """None."""
        await context.abort(grpc.StatusCode.NOT_FOUND)
        raise AssertionError

    async def GetConsistencyProof(
        self, request: feed_pb2.GetConsistencyProofRequest, context: Any
    ) -> feed_pb2.GetConsistencyProofResponse:
        """The snapshot's proof."""
        assert self.snapshot is not None
        return feed_pb2.GetConsistencyProofResponse(consistency_proof=self.snapshot.consistency_proof)

    async def RecordJournalHeads(
        self, request: feed_pb2.RecordJournalHeadsRequest, context: Any
    ) -> feed_pb2.RecordJournalHeadsResponse:
        """Says that all of it is logged."""
        return feed_pb2.RecordJournalHeadsResponse(seq=1)

    async def Enrol(self, request: feed_pb2.EnrolRequest, context: Any) -> feed_pb2.EnrolResponse:
        """Not yet."""
        return feed_pb2.EnrolResponse(enrolled=False)


@asynccontextmanager
async def serving(feed: HostileFeed, socket: Path) -> AsyncIterator[HostileFeed]:
    """Serve it on a Unix socket."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", _MAX_BYTES)])
    feed_pb2_grpc.add_FeedServiceServicer_to_server(feed, server)
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    try:
        yield feed
    finally:
        await server.stop(None)
