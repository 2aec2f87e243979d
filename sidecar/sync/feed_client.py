"""The feed over gRPC: wire types end here."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc

from consent.eventlog.acknowledgement import Receipt
from consent.eventlog.attestation import MAX_ATTESTATIONS, Attestation
from consent.eventlog.errors import MalformedAttestation
from consent.eventlog.journal_head import JournalDisposal, JournalHead, format_disposal, format_head
from hosting.certificates import OwnCertificate
from hosting.telemetry.trace_context import TRACEPARENT_CHARACTERS
from sidecar.errors import FeedUnavailable, MalformedFrame, SidecarError
from sidecar.ports import (
    EntriesFrame,
    EntryProof,
    Frame,
    HeartbeatFrame,
    LogHead,
    SnapshotRequiredFrame,
    WireEntry,
    WireSnapshot,
)
from sidecar.sync.feed_connection import FeedConnection
from sidecar.sync.feed_failures import make_error

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024 * 1024
"""Nothing of a snapshot is verified before all of it is there, so what an unknown sender can make us keep is bounded."""
CALL_TIMEOUT_SECONDS = 10.0
SNAPSHOT_TIMEOUT_SECONDS = 600.0
HEADS_TIMEOUT_SECONDS = 120.0
"""The feed lets heads wait for those of others, some ten seconds, before it answers."""
SILENCE_SECONDS = 20.0
"""A feed sends a heartbeat every few seconds; without one for this long the connection is dead, whatever TCP says."""

_UNDECODABLE = "a message cannot be decoded"


class GrpcFeed:
    """`ports.Feed` over gRPC.

    Args:
        target: gRPC target of the feed.
        certificate: For mutual TLS, or None for a Unix socket.
        sidecar_id: The name that the certificate carries.
        version: Of this program, for the feed's status.
    """

    def __init__(self, target: str, certificate: OwnCertificate | None, sidecar_id: str, version: str = "") -> None:
        self._connection = FeedConnection(target, certificate, max_message_bytes=MAX_MESSAGE_BYTES)
        self._sidecar_id = sidecar_id
        self._version = version

    @property
    def _stub(self) -> "feed_pb2_grpc.FeedServiceAsyncStub":
        return feed_pb2_grpc.FeedServiceStub(self._connection.channel())

    def subscribe(self, head: LogHead, generation: int) -> "GrpcFeedStream":
        """Open a stream from what is held."""
        hello = feed_pb2.Hello(
            sidecar_id=self._sidecar_id,
            size=head.size,
            root_hash=head.frontier.root_hash(),
            generation=generation,
            version=self._version,
        )
        return GrpcFeedStream(self._stub, hello, self._connection)

    async def fetch_snapshot(self, held_size: int) -> WireSnapshot:
        """The folded state, with the proof that it continues the log of `held_size` entries."""
        header: feed_pb2.SnapshotHeader | None = None
        chunks: list[bytes] = []
        size_bytes = 0
        request = feed_pb2.GetSnapshotRequest(sidecar_id=self._sidecar_id)
        try:
            async for response in self._stub.GetSnapshot(request, timeout=SNAPSHOT_TIMEOUT_SECONDS):
                _verify_readable(response)
                size_bytes += len(response.chunk.records)
                if header is None:
                    header = _read_header(response)
                elif response.chunk.number != len(chunks) or len(chunks) == header.chunk_count:
                    raise MalformedFrame("snapshot: a chunk is missing, or one too many")
                elif size_bytes > MAX_SNAPSHOT_BYTES:
                    raise MalformedFrame("snapshot: larger than the limit")
                else:
                    chunks.append(response.chunk.records)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        if header is None or header.chunk_count != len(chunks):
            raise MalformedFrame("snapshot: the header is missing, or chunks are")
        return WireSnapshot(
            size=header.size,
            frontier_hashes=tuple(header.frontier_hashes),
            checkpoint_note=header.checkpoint,
            state_root_entry=read_entry(header.state_root_entry),
            tenant_record=header.tenant_record,
            chunks=chunks,
            consistency_proof=await self._fetch_consistency(held_size, header.size + 1),
        )

    async def _fetch_consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        if not 0 < old_size < new_size:
            return ()
        request = feed_pb2.GetConsistencyProofRequest(old_size=old_size, new_size=new_size, sidecar_id=self._sidecar_id)
        try:
            response = await self._stub.GetConsistencyProof(request, timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        _verify_readable(response)
        return tuple(response.consistency_proof)

    async def fetch_keys(self, recipient_public_key: bytes) -> bytes:
        """The sealed key ring."""
        request = feed_pb2.GetKeysRequest(sidecar_id=self._sidecar_id, recipient_public_key=recipient_public_key)
        try:
            response = await self._stub.GetKeys(request, timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        _verify_readable(response)
        return response.sealed_key_ring

    async def enrol(self, public_key: bytes, possession: bytes, token: str) -> bool:
        """Ask that this key be enrolled."""
        request = feed_pb2.EnrolRequest(
            sidecar_id=self._sidecar_id, public_key=public_key, possession=possession, enrolment_token=token
        )
        try:
            response = await self._stub.Enrol(request, timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        _verify_readable(response)
        return response.enrolled

    async def fetch_entry_proof(self, seq: int, tree_size: int) -> EntryProof:
        """One entry and its audit path."""
        request = feed_pb2.GetEntryProofRequest(seq=seq, tree_size=tree_size, sidecar_id=self._sidecar_id)
        try:
            response = await self._stub.GetEntryProof(request, timeout=1.0)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        _verify_readable(response)
        return EntryProof(read_entry(response.entry), tuple(response.inclusion_proof), response.checkpoint)

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        """Have signed statements about the journal logged."""
        request = feed_pb2.RecordJournalHeadsRequest(
            sidecar_id=self._sidecar_id,
            heads=[format_head(head) for head in heads],
            disposals=[format_disposal(disposal) for disposal in disposals],
        )
        try:
            response = await self._stub.RecordJournalHeads(request, timeout=HEADS_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # gRPC cancels a call whose connection it has lost, and nobody asked this task to end.
            raise FeedUnavailable("the call was cancelled") from None
        _verify_readable(response)
        return response.seq

    async def close(self) -> None:
        """End all calls."""
        await self._connection.close()

    def _translate(self, error: grpc.aio.AioRpcError) -> SidecarError:
        return make_error(error.code(), error.details(), self._connection.own_validity)


class GrpcFeedStream:
    """`ports.FeedStream`: one Subscribe call.

    Args:
        stub: Of the feed.
        hello: What is held.
        connection: Whose call it is.
    """

    def __init__(
        self, stub: "feed_pb2_grpc.FeedServiceAsyncStub", hello: feed_pb2.Hello, connection: FeedConnection
    ) -> None:
        self._call = stub.Subscribe()
        self._connection = connection
        connection.add_stream(self._call)
        self._hello = hello

    async def frames(self) -> AsyncIterator[Frame]:
        """What the feed sends, until it closes."""
        try:
            await self._call.write(feed_pb2.SubscribeRequest(hello=self._hello))
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    response = await self._call.read()
                    if response is grpc.aio.EOF:
                        await self._raise_status()
                        return
                if not isinstance(response, feed_pb2.SubscribeResponse):
                    raise MalformedFrame(_UNDECODABLE)
                yield _read_frame(response)
        except TimeoutError:
            raise FeedUnavailable(f"the feed was silent for {SILENCE_SECONDS:.0f} s") from None
        except grpc.aio.AioRpcError as error:
            raise make_error(error.code(), error.details(), self._connection.own_validity) from None
        finally:
            self._call.cancel()

    async def _raise_status(self) -> None:
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            raise make_error(code, await self._call.details(), self._connection.own_validity)

    async def acknowledge(self, receipt: Receipt) -> None:
        """Say that a size is durable and in force."""
        ack = feed_pb2.Ack(
            size=receipt.size,
            root_hash=receipt.root_hash,
            state_root=receipt.state_root,
            applied_at_ms=receipt.applied_at_ms,
            signature=receipt.signature,
        )
        await self._send(feed_pb2.SubscribeRequest(ack=ack))

    async def refuse(self, size: int, reason: str) -> None:
        """Say that what came was refused."""
        await self._send(feed_pb2.SubscribeRequest(nack=feed_pb2.Nack(size=size, reason=reason)))

    async def _send(self, message: feed_pb2.SubscribeRequest) -> None:
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream ended meanwhile: reading from it says why, and the next Hello says what is held.
            return


def _verify_readable(response: object) -> None:
    """Refuse what gRPC hands on in place of a message that it could not decode."""
    if response is None:
        raise MalformedFrame(_UNDECODABLE)


def _read_header(response: feed_pb2.GetSnapshotResponse) -> feed_pb2.SnapshotHeader:
    if response.WhichOneof("message") != "header":
        raise MalformedFrame("snapshot: does not begin with its header")
    return response.header


def _read_frame(response: feed_pb2.SubscribeResponse) -> Frame:
    match response.WhichOneof("message"):
        case "entries":
            entries: Sequence[WireEntry] = [read_entry(entry) for entry in response.entries.entries]
            return EntriesFrame(response.entries.from_seq, entries, response.entries.checkpoint)
        case "heartbeat":
            return HeartbeatFrame(response.heartbeat.checkpoint)
        case "snapshot_required":
            return SnapshotRequiredFrame(response.snapshot_required.min_seq)
        case _:
            raise MalformedFrame("a message of a kind that this version does not know")


def read_entry(entry: event_pb2.Entry) -> WireEntry:
    """An entry as it came; raises MalformedFrame where a signature over it has another form."""
    attestations = _read_attestations(entry) if entry.attestations else ()
    traceparent = entry.traceparent
    if len(traceparent) > TRACEPARENT_CHARACTERS:
        # No feed of ours sends such a one, and what is kept beside an entry must be bounded.
        traceparent = ""
    return WireEntry(entry.type, entry.opening, entry.event_bytes, attestations, entry.commitment, traceparent)


def _read_attestations(entry: event_pb2.Entry) -> tuple[Attestation, ...]:
    if len(entry.attestations) > MAX_ATTESTATIONS:
        raise MalformedFrame(f"entries: more than {MAX_ATTESTATIONS} signatures over one")
    try:
        return tuple(_read_attestation(attestation) for attestation in entry.attestations)
    except MalformedAttestation as error:
        raise MalformedFrame(f"entries: {error}") from None


def _read_attestation(attestation: event_pb2.Attestation) -> Attestation:
    return Attestation(
        key_name=attestation.key_name,
        key_id=attestation.key_id,
        signed_at_unix_seconds=attestation.signed_at_unix_seconds,
        signature=attestation.signature,
        evidence_digest=attestation.evidence_digest,
        batch_index=attestation.batch_index,
        batch_size=attestation.batch_size,
        audit_path=tuple(attestation.audit_path),
    )
