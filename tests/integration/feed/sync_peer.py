"""A feed that serves its sync protocol, and a sidecar's end of a stream that believes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc

from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from feed.alerts import AlertLog
from feed.enrolment import EnrolmentDesk
from feed.grpc_api.feed_service import FeedServicer, FeedSources
from feed.grpc_api.progress import ProgressBook
from feed.grpc_api.status import STATUSES
from feed.journal_heads import JournalHeadLog
from feed.log_store.port import Acknowledgement
from feed.log_store.sqlite import SqliteLog
from feed.log_store.tree import LogTree
from feed.receipts import ReceiptLog
from feed.sequencer import Sequencer
from feed.signing.enrolment_tokens import EnrolmentTokens
from feed.snapshots import FileSnapshots
from feed.witnessing import Witnessing
from hosting.grpc_errors import ErrorBoundary
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import KEYS, LIMITS, ORIGIN, TENANT, TRUST, open_log

MS_PER_DAY = 86_400_000
#: No test waits for receipts: those that need them call `flush`.
RECEIPTS_SECONDS = 3600.0
HEADS_SECONDS = 0.05


class NotingProgress(ProgressBook):
    """The feed's own, with a bell that rings at every change."""

    def __init__(self, store: SqliteLog) -> None:
        super().__init__(store)
        self._changed = asyncio.Event()

    def acknowledge(self, ack: Acknowledgement) -> None:
        super().acknowledge(ack)
        self._changed.set()

    @contextmanager
    def open_stream(self, sidecar_id: str) -> Iterator[None]:
        try:
            with super().open_stream(sidecar_id):
                yield
        finally:
            self._changed.set()

    async def wait_until(self, is_so: Callable[[ProgressBook], bool]) -> None:
        """Returns once it is so."""
        while not is_so(self):
            self._changed.clear()
            await self._changed.wait()


@dataclass(frozen=True)
class RunningFeed:
    """A feed's log with its service.

    Attributes:
        store: The log's file.
        sequencer: The log.
        clock: Its time.
        progress: What sidecars have acknowledged.
        desk: Which of them are enrolled.
        receipts: Logs their signed acknowledgements, when a test says so.
        servicer: The service itself.
        target: Where it listens.
        stub: A client of it.
    """

    store: SqliteLog
    sequencer: Sequencer
    clock: FakeClock
    progress: NotingProgress
    desk: EnrolmentDesk
    receipts: ReceiptLog
    servicer: FeedServicer
    target: str
    stub: "feed_pb2_grpc.FeedServiceAsyncStub"


@asynccontextmanager
async def run_feed(
    directory: Path,
    *,
    credentials: grpc.ServerCredentials | None = None,
    channel_credentials: grpc.ChannelCredentials | None = None,
    **options: Any,
) -> AsyncIterator[RunningFeed]:
    """Serves a log, on a Unix socket or with certificates on loopback; `options` go to the servicer."""
    servicer_options: dict[str, Any] = {"trusted_local": credentials is None, "trust_domain": "example.org"} | options
    async with open_log(directory / "log", LIMITS) as log:
        progress = NotingProgress(log.store)
        snapshots = FileSnapshots.open(
            log.sequencer, log.store, directory / "chunks", origin=ORIGIN, max_lag_entries=10
        )
        proofs = LogTree(log.store, lambda: log.sequencer.head)
        tokens = EnrolmentTokens(KEYS.kek, ORIGIN)
        desk = EnrolmentDesk(log.sequencer, log.store, tokens, log.clock, ORIGIN)
        receipts = ReceiptLog(log.sequencer, log.store, desk, proofs.root_hash, ORIGIN, RECEIPTS_SECONDS)
        alerts = AlertLog(log.sequencer, log.clock, ORIGIN)
        heads = JournalHeadLog(log.sequencer, log.store, desk, alerts, log.clock, ORIGIN, period_seconds=HEADS_SECONDS)
        sources = FeedSources(
            log=log.sequencer,
            snapshots=snapshots,
            proofs=proofs,
            key_ring=lambda: KEYS.key_ring(log.clock.now_ms() // MS_PER_DAY),
            progress=progress,
            desk=desk,
            receipts=receipts,
            heads=heads,
            clock=log.clock,
            witnessing=Witnessing(log.sequencer, proofs, (), 1.0),
        )
        server = grpc.aio.server(interceptors=[ErrorBoundary(STATUSES)], options=EXCLUSIVE_PORT_OPTIONS)
        servicer = FeedServicer(sources, tenant=TENANT, **servicer_options)
        feed_pb2_grpc.add_FeedServiceServicer_to_server(servicer, server)
        if credentials is None:
            target = f"unix://{directory}/feed.sock"
            server.add_insecure_port(target)
        else:
            target = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        await server.start()
        try:
            async with open_channel(target, channel_credentials) as channel:
                stub = feed_pb2_grpc.FeedServiceStub(channel)
                yield RunningFeed(log.store, log.sequencer, log.clock, progress, desk, receipts, servicer, target, stub)
        finally:
            await server.stop(None)
            await heads.close()
            await receipts.close()
            await snapshots.close()
            await progress.close()


def open_channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    options = (("grpc.max_receive_message_length", 8 * 1024 * 1024),)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


class Peer:
    """One stream, verified as it comes.

    Args:
        stub: Of the feed.
        sidecar_id: Who it says it is.
        frontier: What it holds.
    """

    def __init__(
        self, stub: "feed_pb2_grpc.FeedServiceAsyncStub", sidecar_id: str = "pod-1", frontier: Frontier | None = None
    ) -> None:
        self.frontier = frontier or Frontier()
        self.entries: list[Any] = []
        self.frames: list[feed_pb2.SubscribeResponse] = []
        self.newest_time_ms = 0
        self._requests: asyncio.Queue[feed_pb2.SubscribeRequest | None] = asyncio.Queue()
        self.call = stub.Subscribe(self._send())
        self.say(
            hello=feed_pb2.Hello(sidecar_id=sidecar_id, size=self.frontier.size, root_hash=self.frontier.root_hash())
        )

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self._requests.put_nowait(feed_pb2.SubscribeRequest(**message))

    def finish_saying(self) -> None:
        """Ends its own side of the stream."""
        self._requests.put_nowait(None)

    async def _send(self) -> AsyncIterator[feed_pb2.SubscribeRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def receive(self) -> str:
        """Takes the next frame and checks it against all before; returns its kind."""
        frame = await self.call.read()
        assert isinstance(frame, feed_pb2.SubscribeResponse), "the stream has ended"
        self.frames.append(frame)
        kind = frame.WhichOneof("message")
        assert kind is not None
        if kind == "entries":
            assert frame.entries.from_seq == self.frontier.size + 1
            for entry in frame.entries.entries:
                commitment = entry.commitment or commit(entry.opening, entry.event_bytes)
                self.frontier.append(hash_leaf(leaf_data(entry.type, commitment)))
                self.entries.append(entry)
            if frame.entries.checkpoint:
                self._verify(frame.entries.checkpoint)
        elif kind == "heartbeat":
            self._verify(frame.heartbeat.checkpoint)
        return kind

    async def receive_until(self, size: int) -> None:
        """Takes frames until it holds a log of this size, with its checkpoint."""
        while self.frontier.size < size or not self._is_complete():
            await self.receive()

    def _is_complete(self) -> bool:
        return bool(self.frames) and (
            self.frames[-1].WhichOneof("message") == "heartbeat" or bool(self.frames[-1].entries.checkpoint)
        )

    def _verify(self, note: bytes) -> None:
        verified = verify_checkpoint(note, TRUST, None)
        assert verified.checkpoint.size == self.frontier.size
        assert verified.checkpoint.root_hash == self.frontier.root_hash()
        assert verified.time_ms >= self.newest_time_ms
        self.newest_time_ms = verified.time_ms

    def close(self) -> None:
        self.call.cancel()


async def refusal_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and reason of a call that is refused."""
    try:
        if isinstance(call, grpc.aio.StreamStreamCall | grpc.aio.UnaryStreamCall):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return error.code(), str(trailers.get("consentry-reason"))
    raise AssertionError("the call was not refused")
