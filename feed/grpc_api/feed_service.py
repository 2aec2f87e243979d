"""The feed's side of the sync protocol: entries as they are committed, snapshots, keys and proofs."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc

from consent.eventlog.merkle import EMPTY_ROOT_HASH
from consent.key_ring import KeyRing, seal_key_ring
from feed.backup.losses import LossGuard
from feed.enrolment import EnrolmentDesk
from feed.errors import AckRejected, EntryUnknown, InvalidRequest, LogBehindSidecar, ShuttingDown
from feed.grpc_api.feed_codec import (
    decode_ack,
    decode_hello,
    decode_statements,
    encode_entry,
    encode_heartbeat,
    encode_snapshot_chunk,
    encode_snapshot_header,
    encode_snapshot_required,
)
from feed.grpc_api.frames import FrameCache
from feed.grpc_api.peers import verify_sidecar
from feed.grpc_api.progress import ProgressBook
from feed.grpc_api.sync_errors import LogFork
from feed.journal_heads import JournalHeadLog
from feed.log_store.port import Acknowledgement
from feed.ports import Log, Snapshots, WitnessedCheckpoint
from feed.receipts import ReceiptLog
from hosting.clock import Clock

_LOGGER: Final = logging.getLogger(__name__)
_MAX_HELD_SIZES: Final = 1024
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

Context = grpc.aio.ServicerContext[Any, Any]


class Proofs(Protocol):
    """Where proofs come from (`feed.log_store.tree.LogTree`)."""

    async def root_hash(self, size: int) -> bytes:
        """Root of the first `size` entries."""
        ...

    async def inclusion_proof(self, seq: int, size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Audit path of an entry in the tree of that size, and that tree's root."""
        ...

    async def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """That the one tree starts with the other."""
        ...


class WitnessedCheckpoints(Protocol):
    """Where checkpoints that witnesses have cosigned come from (`feed.witnessing.Witnessing`)."""

    @property
    def newest(self) -> WitnessedCheckpoint | None:
        """The newest one, None before the first or without witnesses."""
        ...

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` after each new one; returns the call that ends it."""
        ...


@dataclass(frozen=True, slots=True)
class FeedSources:
    """What the service hands out.

    Attributes:
        log: The sequencer.
        snapshots: Folded states.
        proofs: Out of the stored tree.
        key_ring: Returns the tenant's keys as of now.
        progress: How far each sidecar says it is.
        desk: Which sidecars are enrolled.
        receipts: Where their signed acknowledgements go.
        heads: Where signed heads of their journals go.
        clock: Where the time comes from.
        witnessing: Where checkpoints that witnesses have cosigned come from.
        losses: Stops the intake where a sidecar holds more than the log; None where there is no intake.
    """

    log: Log
    snapshots: Snapshots
    proofs: Proofs
    key_ring: Callable[[], KeyRing]
    progress: ProgressBook
    desk: EnrolmentDesk
    receipts: ReceiptLog
    heads: JournalHeadLog
    clock: Clock
    witnessing: WitnessedCheckpoints
    losses: LossGuard | None = None


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    """Implements `consentry.feed.v1.FeedService`; to be served behind `hosting.grpc_errors.ErrorBoundary`.

    Args:
        sources: What it hands out.
        tenant: Name of the tenant, bound into sealed key rings.
        trust_domain: In the names that sidecars' certificates carry; None where no certificate counts.
        max_stream_entries: A sidecar that is further behind is sent to a snapshot.
        hello_seconds: How long a stream may stay silent before it has said who it is.
        trusted_local: Believe the names of callers on a Unix socket, who have no certificates.
    """

    def __init__(
        self,
        sources: FeedSources,
        *,
        tenant: str,
        trust_domain: str | None = None,
        max_stream_entries: int = 200_000,
        hello_seconds: float = 10.0,
        trusted_local: bool = False,
    ) -> None:
        self._sources = sources
        self._log = sources.log
        self._frames = FrameCache(sources.log)
        self._tenant = tenant
        self._trust_domain = trust_domain
        self._max_stream_entries = max_stream_entries
        self._hello_seconds = hello_seconds
        self._trusted_local = trusted_local
        self._open_streams: set[asyncio.Event] = set()
        self._is_closing = False

    def close(self) -> None:
        """End every stream: a sidecar connects elsewhere or again, and the server need not wait until it does."""
        self._is_closing = True
        self._sources.heads.hurry()
        for changed in self._open_streams:
            changed.set()

    async def Subscribe(
        self, request_iterator: AsyncIterable[feed_pb2.SubscribeRequest], context: Context
    ) -> AsyncIterator[feed_pb2.SubscribeResponse]:
        """Send what is committed, from where the sidecar is; see `feed.proto`.

        Raises:
            InvalidRequest: A message that the protocol does not have at that place.
            ShuttingDown: The feed stops.
            SidecarNotPermitted: The certificate names another sidecar.
            SidecarRetired: The sidecar was retired, before or meanwhile.
            AckRejected: An acknowledgement is about another history, or not signed by the enrolled key.
            LogBehindSidecar, LogFork: The sidecar's log is not a prefix of this one.
        """
        # 1. Who it is, and what it holds.
        requests = aiter(request_iterator)
        hello = await self._read_hello(requests)
        self._verify_served(context, hello.sidecar_id)
        await self._verify_prefix(hello)
        # What it held before it was cut off is in force there, acknowledged or not.
        self._note_held(hello.sidecar_id, hello.size, applied_at_ms=0)
        # 2. Too far behind: entry by entry would take longer than the folded state.
        oldest = self._log.head.size - self._max_stream_entries
        if hello.size < oldest:
            yield encode_snapshot_required(oldest)
            return
        # 3. From the log and not from a queue: a slow sidecar costs its own time and nobody's memory.
        changed = asyncio.Event()
        ends = (self._log.watch(changed.set), self._sources.witnessing.watch(changed.set))
        self._open_streams.add(changed)
        self._sources.progress.note_version(hello.sidecar_id, hello.version)
        with self._sources.progress.open_stream(hello.sidecar_id):
            reader = asyncio.create_task(self._read_answers(hello.sidecar_id, requests))
            reader.add_done_callback(lambda _: changed.set())
            try:
                async with aclosing(self._follow(hello, changed, reader)) as responses:
                    async for response in responses:
                        yield response
            finally:
                for end_watch in ends:
                    end_watch()
                self._open_streams.discard(changed)
                reader.cancel()
                await asyncio.wait([reader])

    async def GetSnapshot(
        self, request: feed_pb2.GetSnapshotRequest, context: Context
    ) -> AsyncIterator[feed_pb2.GetSnapshotResponse]:
        """Send the newest folded state, header first."""
        self._verify_served(context, request.sidecar_id)
        snapshot = await self._sources.snapshots.newest()
        yield encode_snapshot_header(snapshot)
        number = 0
        async for chunk in self._sources.snapshots.chunks(snapshot):
            yield encode_snapshot_chunk(number, chunk)
            number += 1

    async def GetKeys(self, request: feed_pb2.GetKeysRequest, context: Context) -> feed_pb2.GetKeysResponse:
        """Seal the tenant's keys to the sidecar's public key."""
        self._verify_served(context, request.sidecar_id)
        sealed = seal_key_ring(
            self._sources.key_ring(),
            request.recipient_public_key,
            tenant=self._tenant,
            sidecar_id=request.sidecar_id,
        )
        return feed_pb2.GetKeysResponse(sealed_key_ring=sealed)

    async def GetEntryProof(
        self, request: feed_pb2.GetEntryProofRequest, context: Context
    ) -> feed_pb2.GetEntryProofResponse:
        """One entry with its audit path in the tree of the size asked for."""
        self._verify(context, request.sidecar_id)
        path, root_hash = await self._sources.proofs.inclusion_proof(request.seq, request.tree_size)
        entries = await self._log.read_entries(request.seq, 1)
        if not entries:
            raise EntryUnknown("seq: there is no such entry")
        return feed_pb2.GetEntryProofResponse(
            entry=encode_entry(entries[0]),
            inclusion_proof=path,
            root_hash=root_hash,
            checkpoint=self._log.head.checkpoint_note,
        )

    async def GetConsistencyProof(
        self, request: feed_pb2.GetConsistencyProofRequest, context: Context
    ) -> feed_pb2.GetConsistencyProofResponse:
        """That a smaller log is a prefix of a larger one."""
        self._verify(context, request.sidecar_id)
        proof = await self._sources.proofs.consistency_proof(request.old_size, request.new_size)
        return feed_pb2.GetConsistencyProofResponse(consistency_proof=proof)

    async def Enrol(self, request: feed_pb2.EnrolRequest, context: Context) -> feed_pb2.EnrolResponse:
        """Enrol a sidecar's own key, with a token at once, without one after approval."""
        self._verify(context, request.sidecar_id)
        seq = await self._sources.desk.enrol(
            request.sidecar_id, request.public_key, request.possession, request.enrolment_token
        )
        return feed_pb2.EnrolResponse(enrolled=seq is not None, seq=seq or 0)

    async def RecordJournalHeads(
        self, request: feed_pb2.RecordJournalHeadsRequest, context: Context
    ) -> feed_pb2.RecordJournalHeadsResponse:
        """Log signed statements about the sidecar's journal; see `feed.journal_heads`."""
        self._verify_served(context, request.sidecar_id)
        seq = await self._sources.heads.record(decode_statements(request))
        return feed_pb2.RecordJournalHeadsResponse(seq=seq)

    def _verify_served(self, context: Context, sidecar_id: str) -> None:
        self._verify(context, sidecar_id)
        self._sources.desk.verify_not_retired(sidecar_id)

    def _verify(self, context: Context, sidecar_id: str) -> None:
        verify_sidecar(context, sidecar_id, trust_domain=self._trust_domain, is_local_trusted=self._trusted_local)

    async def _read_hello(self, requests: AsyncIterator[feed_pb2.SubscribeRequest]) -> feed_pb2.Hello:
        try:
            async with asyncio.timeout(self._hello_seconds):
                return decode_hello(await anext(requests))
        except TimeoutError:
            raise InvalidRequest("hello: did not come in time") from None
        except StopAsyncIteration:
            raise InvalidRequest("hello: the stream ended before it") from None

    async def _verify_prefix(self, hello: feed_pb2.Hello) -> None:
        size = self._log.head.size
        if hello.size > size:
            fields = {"sidecar_id": hello.sidecar_id, "sidecar_size": hello.size, "log_size": size}
            _LOGGER.error("a sidecar holds entries that this log has lost", extra={"fields": fields})
            if self._sources.losses is not None:
                await self._sources.losses.report(hello.sidecar_id, hello.size, hello.root_hash)
            raise LogBehindSidecar(f"size: the log has {size} entries, fewer than the sidecar holds")
        root_hash = hello.root_hash or EMPTY_ROOT_HASH
        if await self._sources.proofs.root_hash(hello.size) != root_hash:
            fields = {"sidecar_id": hello.sidecar_id, "sidecar_size": hello.size}
            _LOGGER.error("a sidecar holds another history", extra={"fields": fields})
            raise LogFork("root_hash: this log had another root at that size")

    async def _follow(
        self, hello: feed_pb2.Hello, changed: asyncio.Event, reader: asyncio.Task[None]
    ) -> AsyncGenerator[feed_pb2.SubscribeResponse]:
        size, sent_note, sent_witnessed = hello.size, b"", b""
        # Sizes at which a batch ended here: the sidecar can tell another history at these, and takes no older one's word.
        held_sizes = deque([size], maxlen=_MAX_HELD_SIZES)
        while True:
            changed.clear()
            if self._is_closing:
                raise ShuttingDown("the feed ends its streams")
            if reader.done() and reader.exception() is not None:
                reader.result()
            self._sources.desk.verify_not_retired(hello.sidecar_id)
            # One head for the whole way: its checkpoint must be for exactly the size at which the batch ends.
            head = self._log.head
            if size == head.size and sent_note != head.checkpoint_note:
                yield encode_heartbeat(head.checkpoint_note)
            while size < head.size:
                frame = await self._frames.frame(size + 1, head)
                if self._log.head.last_erasure_seq > head.size:
                    # What has lost its payload meanwhile passes only in one batch with the ERASURE that names it.
                    head = self._log.head
                    continue
                size += len(frame.entries.entries)
                yield frame
                held_sizes.append(size)
            sent_note = head.checkpoint_note
            witnessed = self._sources.witnessing.newest
            if witnessed is not None and witnessed.size in held_sizes and witnessed.note_bytes != sent_witnessed:
                yield encode_heartbeat(witnessed.note_bytes)
                sent_witnessed = witnessed.note_bytes
            await changed.wait()

    async def _read_answers(self, sidecar_id: str, requests: AsyncIterator[feed_pb2.SubscribeRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "ack":
                    await self._acknowledge(sidecar_id, request.ack)
                case "nack":
                    self._refuse(sidecar_id, request.nack)
                case _:
                    raise InvalidRequest("message: only ack and nack may follow the hello")

    async def _acknowledge(self, sidecar_id: str, ack: feed_pb2.Ack) -> None:
        try:
            await self._sources.receipts.take(decode_ack(sidecar_id, ack))
        except AckRejected as error:
            fields = {"sidecar_id": sidecar_id, "size": ack.size, "reason": error.reason}
            _LOGGER.error("a sidecar's acknowledgement is refused", extra={"fields": fields})
            self._sources.progress.refuse(sidecar_id, error.reason)
            raise
        self._note_held(sidecar_id, ack.size, ack.applied_at_ms)

    def _note_held(self, sidecar_id: str, size: int, applied_at_ms: int) -> None:
        now_ms = self._sources.clock.now_ms()
        self._sources.progress.acknowledge(Acknowledgement(sidecar_id, size, applied_at_ms, now_ms))

    def _refuse(self, sidecar_id: str, nack: feed_pb2.Nack) -> None:
        # The sidecar's word goes into logs and status: only as a name, never as text.
        reason = nack.reason if _REASON.fullmatch(nack.reason) else "UNREADABLE_REASON"
        self._sources.progress.refuse(sidecar_id, reason)
        fields = {"sidecar_id": sidecar_id, "size": nack.size, "reason": reason}
        _LOGGER.warning("a sidecar has refused what it was sent", extra={"fields": fields})


def add_feed_service(servicer: FeedServicer, server: grpc.aio.Server) -> None:
    """Serve it on a server that is not started yet."""
    feed_pb2_grpc.add_FeedServiceServicer_to_server(servicer, server)
