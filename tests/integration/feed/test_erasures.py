"""Streams that an erasure overtakes: what has lost its payload comes in one batch with the ERASURE that names it."""

from pathlib import Path

import pytest
from consentry.feed.v1 import feed_pb2

from consent.event import ErasureEvent, parse_event
from feed.erasure import Eraser
from feed.grpc_api import frames
from feed.ports import FeedHead
from feed.publish import Publisher
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.feed_log import ORIGIN, SUBJECT_KEYS, make_request, token_of
from tests.integration.feed.sync_peer import Peer, RunningFeed, run_feed


async def erase(feed: RunningFeed, name: str) -> int:
    """Erase somebody; returns the seq of the ERASURE."""
    publisher = Publisher(feed.sequencer, feed.clock, ORIGIN)
    eraser = Eraser(feed.sequencer, feed.store, SubjectKeys(SUBJECT_KEYS), publisher, lambda: None)
    return (await eraser.erase(token_of(name), "desk")).seq


def batches(peer: Peer) -> list[tuple[set[int], set[int]]]:
    """Of each batch: seqs without payload, and those that its ERASUREs name."""
    found, missing, named = [], set[int](), set[int]()
    for frame in peer.frames:
        for seq, entry in enumerate(frame.entries.entries, start=frame.entries.from_seq):
            if not entry.event_bytes:
                missing.add(seq)
            elif isinstance(event := parse_event(entry.event_bytes), ErasureEvent):
                named |= set(event.seqs)
        if frame.entries.checkpoint:
            found.append((missing, named))
            missing, named = set(), set()
    return found


@pytest.mark.parametrize("overtaken_frame", [1, 2, 4])
@pytest.mark.parametrize("when", ["before it is read", "after it is read"])
async def test_stream_overtaken_by_an_erasure_goes_on_to_it_in_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overtaken_frame: int, when: str
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_ENTRIES", 2)
    async with run_feed(tmp_path) as feed:
        for name in ("ann", "bob", "cid"):
            await feed.sequencer.submit(make_request(name))
        make_frame, calls, seqs = feed.servicer._frames.frame, [0], list[int]()

        async def make_overtaken_frame(from_seq: int, target: FeedHead) -> feed_pb2.SubscribeResponse:
            calls[0] += 1
            if calls[0] != overtaken_frame:
                return await make_frame(from_seq, target)
            if when == "before it is read":
                seqs.append(await erase(feed, "cid"))
                return await make_frame(from_seq, target)
            made = await make_frame(from_seq, target)
            seqs.append(await erase(feed, "cid"))
            return made

        feed.servicer._frames.frame = make_overtaken_frame  # type: ignore[method-assign]
        peer = Peer(feed.stub)
        while not seqs or peer.frontier.size < seqs[0]:
            await peer.receive()
        for missing, named in batches(peer):
            assert missing <= named
        assert peer.frontier.root_hash() == feed.sequencer.head.frontier.root_hash()
        peer.close()


async def test_stream_after_an_erasure_is_sent_no_frame_from_before(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        await feed.sequencer.submit(make_request("ann"))
        await feed.sequencer.submit(make_request("bob"))
        first = Peer(feed.stub)
        await first.receive_until(5)
        assert token_of("ann") in b"".join(entry.event_bytes for entry in first.entries)
        first.close()
        seq = await erase(feed, "ann")
        second = Peer(feed.stub, "pod-2")
        await second.receive_until(seq)
        held = b"".join(entry.event_bytes for entry in second.entries[: seq - 1])
        assert token_of("ann") not in held
        assert token_of("bob") in held
        second.close()
        kept = [(await making).SerializeToString() for making in feed.servicer._frames._frames.values()]
        # The ERASURE itself names the token.
        assert sum(frame.count(token_of("ann")) for frame in kept) == 1
