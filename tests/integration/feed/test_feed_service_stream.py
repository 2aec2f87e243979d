"""Subscribe, over a real socket: every frame is verified as a sidecar does it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc

from consent.eventlog.merkle import Frontier
from feed.grpc_api import frames
from feed.grpc_api.progress import ProgressBook, SidecarProgress
from tests.fakes.feed_log import make_request, verify_everything
from tests.integration.feed.sync_peer import Peer, RunningFeed, open_channel, refusal_of, run_feed


async def record(feed: RunningFeed, *names: str) -> int:
    """Logs a request for each name; returns the log's size."""
    await asyncio.gather(*(feed.sequencer.submit(make_request(name)) for name in names))
    return feed.sequencer.head.size


async def frontier_at(feed: RunningFeed, size: int) -> Frontier:
    frontier = Frontier()
    nodes = await feed.store.read_nodes([(0, index) for index in range(size)])
    for index in range(size):
        frontier.append(nodes[0, index])
    return frontier


async def settled(feed: RunningFeed, sidecar_id: str, size: int) -> SidecarProgress:
    """How far a sidecar has come, once its acknowledgement of this size is there."""
    await feed.progress.wait_until(lambda book: size_of(book, sidecar_id) >= size)
    (progress,) = [progress for progress in feed.progress.progress() if progress.sidecar_id == sidecar_id]
    return progress


def size_of(book: ProgressBook, sidecar_id: str) -> int:
    return max((each.acknowledged_size for each in book.progress() if each.sidecar_id == sidecar_id), default=0)


async def test_stream_new_sidecar_is_sent_everything_and_then_what_comes(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, "ann", "bob")
        peer = Peer(feed.stub)
        await peer.receive_until(size)
        size = await record(feed, "cid")
        await peer.receive_until(size)

        entries = await verify_everything(feed.store)
        assert [entry.event_bytes for entry in peer.entries] == [entry.event_bytes for entry in entries]
        assert [entry.traceparent for entry in peer.entries] == [entry.traceparent for entry in entries]
        assert {frame.WhichOneof("message") for frame in peer.frames} == {"entries"}
        peer.close()


async def test_stream_sidecar_that_holds_something_is_sent_the_rest(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, "ann", "bob", "cid")
        peer = Peer(feed.stub, frontier=await frontier_at(feed, 4))
        await peer.receive_until(size)

        assert len(peer.entries) == size - 4
        peer.close()


async def test_stream_sidecar_that_holds_all_is_told_how_fresh_it_is(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, "ann")
        peer = Peer(feed.stub, frontier=await frontier_at(feed, size))
        assert await peer.receive() == "heartbeat"
        assert peer.newest_time_ms == feed.sequencer.head.checkpoint_time_ms

        feed.clock.advance(2_000)
        await feed.sequencer.resign_now()
        assert await peer.receive() == "heartbeat"
        assert peer.newest_time_ms == feed.clock.now_ms()
        peer.close()


async def test_stream_woken_for_nothing_sends_nothing(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive_until(1)
        feed.sequencer._notify()
        await record(feed, "ann")
        await peer.receive_until(3)

        assert [frame.WhichOneof("message") for frame in peer.frames] == ["entries", "entries"]
        peer.close()


async def test_stream_long_way_comes_in_many_frames_under_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_ENTRIES", 10)
    async with run_feed(tmp_path) as feed:
        size = await record(feed, *(f"person-{n}" for n in range(50)))
        peer = Peer(feed.stub)
        await peer.receive_until(size)

        counts = [len(frame.entries.entries) for frame in peer.frames]
        assert counts == [10] * 10 + [1]
        assert [bool(frame.entries.checkpoint) for frame in peer.frames] == [False] * 10 + [True]
        peer.close()


async def test_stream_of_a_slow_sidecar_goes_on_from_its_own_place(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive()
        for number in range(30):
            await record(feed, f"person-{number}")
            feed.clock.advance(1_000)
            await feed.sequencer.resign_now()
        await peer.receive_until(61)

        assert peer.frontier == feed.sequencer.head.frontier
        peer.close()


async def test_stream_many_sidecars_all_receive_everything(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        peers = [Peer(feed.stub, f"pod-{number}") for number in range(40)]
        await asyncio.gather(*(peer.receive_until(1) for peer in peers))
        assert feed.progress.connected_count == 40
        for number in range(5):
            await record(feed, f"person-{number}", f"other-{number}")
        await asyncio.gather(*(peer.receive_until(21) for peer in peers))

        assert {peer.frontier.root_hash() for peer in peers} == {feed.sequencer.head.frontier.root_hash()}
        for peer in peers:
            peer.close()


async def test_stream_acknowledgement_is_kept_and_shown(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, "ann")
        peer = Peer(feed.stub)
        await peer.receive_until(size)
        feed.clock.advance(40)
        peer.say(ack=feed_pb2.Ack(size=size, root_hash=peer.frontier.root_hash(), applied_at_ms=7))

        assert await settled(feed, "pod-1", size) == SidecarProgress("pod-1", size, feed.clock.now_ms(), connected=True)
        peer.close()
        await feed.progress.save()
        (kept,) = await feed.store.load_acknowledgements()
        assert (kept.size, kept.applied_at_ms) == (size, 7)


async def test_stream_refusal_is_logged_by_its_name_and_never_by_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive_until(1)
        peer.say(nack=feed_pb2.Nack(size=1, reason="ROOT_MISMATCH"))
        peer.say(nack=feed_pb2.Nack(size=1, reason="person@example.com"))
        peer.say(ack=feed_pb2.Ack(size=1, root_hash=peer.frontier.root_hash()))
        await settled(feed, "pod-1", 1)
        peer.close()

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.fields["reason"] for record in warnings] == ["ROOT_MISMATCH", "UNREADABLE_REASON"]  # type: ignore[attr-defined]
    assert "person@example.com" not in caplog.text


async def test_stream_sidecar_with_more_than_the_log_is_refused_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_feed(tmp_path) as feed:
        longer = await frontier_at(feed, 1)
        longer.append(bytes(32))
        refusal = await refusal_of(Peer(feed.stub, frontier=longer).call)

        assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "LOG_BEHIND_SIDECAR")
        assert "a sidecar holds entries that this log has lost" in caplog.text


async def test_stream_sidecar_with_another_history_is_refused_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_feed(tmp_path) as feed:
        await record(feed, "ann")
        for size in (2, 3):
            forked = await frontier_at(feed, size - 1)
            forked.append(bytes(32))
            refusal = await refusal_of(Peer(feed.stub, frontier=forked).call)
            assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "LOG_FORK")
        assert "a sidecar holds another history" in caplog.text


async def test_stream_sidecar_too_far_behind_is_sent_to_a_snapshot(tmp_path: Path) -> None:
    async with run_feed(tmp_path, max_stream_entries=4) as feed:
        size = await record(feed, "ann", "bob", "cid")
        behind = Peer(feed.stub, frontier=await frontier_at(feed, size - 5))
        assert await behind.receive() == "snapshot_required"
        assert behind.frames[0].snapshot_required.min_seq == size - 4
        assert await behind.call.read() is grpc.aio.EOF

        near = Peer(feed.stub, frontier=await frontier_at(feed, size - 4))
        await near.receive_until(size)
        near.close()


@pytest.mark.parametrize(
    "message",
    [
        {"ack": feed_pb2.Ack(size=1)},
        {"hello": feed_pb2.Hello(sidecar_id="pod-1", size=1, root_hash=b"short")},
        {"hello": feed_pb2.Hello(sidecar_id="pod-1", size=0, root_hash=bytes(32))},
        {"hello": feed_pb2.Hello(sidecar_id="", size=0)},
        {"hello": feed_pb2.Hello(sidecar_id="pod 1", size=0)},
        {"hello": feed_pb2.Hello(sidecar_id="p" * 254, size=0)},
        {},
    ],
)
async def test_stream_that_begins_wrongly_is_refused(tmp_path: Path, message: dict[str, object]) -> None:
    async with run_feed(tmp_path) as feed:
        call = feed.stub.Subscribe(iter([feed_pb2.SubscribeRequest(**message)]))  # type: ignore[arg-type]
        expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        if message.get("hello") == feed_pb2.Hello(sidecar_id="pod-1", size=0, root_hash=bytes(32)):
            expected = (grpc.StatusCode.FAILED_PRECONDITION, "LOG_FORK")
        assert await refusal_of(call) == expected


async def test_stream_that_ends_or_stays_silent_before_its_hello_is_refused(tmp_path: Path) -> None:
    async with run_feed(tmp_path, hello_seconds=0.05) as feed:
        for requests in (iter(()), silence()):
            refusal = await refusal_of(feed.stub.Subscribe(requests))
            assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def silence() -> AsyncIterator[feed_pb2.SubscribeRequest]:
    await asyncio.Event().wait()
    yield feed_pb2.SubscribeRequest()


@pytest.mark.parametrize("message", [{"hello": feed_pb2.Hello(sidecar_id="pod-1")}, {"ack": feed_pb2.Ack(size=99)}, {}])
async def test_stream_message_that_the_protocol_does_not_have_there_ends_it(
    tmp_path: Path, message: dict[str, object]
) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive_until(1)
        peer.say(**message)

        assert await refusal_of(peer.call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert feed.progress.connected_count == 0


async def test_stream_whose_sidecar_has_said_all_is_served_on(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive_until(1)
        peer.finish_saying()
        await peer.receive_until(await record(feed, "ann"))
        peer.close()


async def test_stream_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        async with open_channel(feed.target) as channel:
            peer = Peer(feed_pb2_grpc.FeedServiceStub(channel))
            await peer.receive_until(1)
            assert feed.progress.connected_count == 1
            peer.close()
        await feed.progress.wait_until(lambda book: not book.connected_count)
        assert feed.sequencer._watchers == {}


async def test_stream_on_an_untrusted_socket_without_certificate_is_refused(tmp_path: Path) -> None:
    async with run_feed(tmp_path, trusted_local=False) as feed:
        refusal = await refusal_of(Peer(feed.stub).call)

        assert refusal == (grpc.StatusCode.PERMISSION_DENIED, "SIDECAR_NOT_PERMITTED")


async def test_stream_of_a_feed_that_stops_is_ended_at_once_and_so_is_one_that_comes_then(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        peer = Peer(feed.stub)
        await peer.receive_until(1)
        feed.servicer.close()

        for call in (peer.call, Peer(feed.stub).call):
            assert await refusal_of(call) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
