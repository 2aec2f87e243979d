"""Heads of journals over a real socket: refused by name where they are not the sidecar's word, logged once, and a fork raises an alert."""

from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from consentry.feed.v1 import feed_pb2

from consent.event import AlertEvent, JournalHeadsEvent, parse_event
from consent.eventlog.acknowledgement import sign_possession
from consent.eventlog.journal_head import JournalDisposal, JournalHead, format_disposal, format_head
from tests.fakes.feed_log import ORIGIN, read_all
from tests.fakes.journal_heads import make_disposal, make_heads
from tests.fakes.trails import make_sidecar_key
from tests.integration.feed.sync_peer import RunningFeed, refusal_of, run_feed

KEY = make_sidecar_key("pod-1")
OTHER_KEY = make_sidecar_key("pod-2")


async def enrol(feed: RunningFeed, name: str = "pod-1") -> None:
    key = make_sidecar_key(name)
    await feed.desk.enrol(name, key.verifier_key.public_key, sign_possession(key, ORIGIN), "")
    await feed.desk.approve(name, b"", "administrator")


def request(
    heads: Sequence[JournalHead] = (), disposals: Sequence[JournalDisposal] = (), sidecar_id: str = "pod-1"
) -> feed_pb2.RecordJournalHeadsRequest:
    return feed_pb2.RecordJournalHeadsRequest(
        sidecar_id=sidecar_id,
        heads=[format_head(head) for head in heads],
        disposals=[format_disposal(disposal) for disposal in disposals],
    )


async def test_heads_are_answered_once_they_are_logged_and_repeated_at_will(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 3)
    async with run_feed(tmp_path) as feed:
        await enrol(feed)
        seq = (await feed.stub.RecordJournalHeads(request(heads))).seq
        entries = await read_all(feed.store)
        event = parse_event(entries[seq - 1].event_bytes)
        assert isinstance(event, JournalHeadsEvent)
        assert (list(event.heads), event.received_at_ms) == (heads, feed.clock.now_ms())
        assert (await feed.stub.RecordJournalHeads(request(heads))).seq == seq
        disposals = [make_disposal(KEY, ORIGIN)]
        disposed = (await feed.stub.RecordJournalHeads(request(heads, disposals))).seq
        assert disposed == seq + 1
        assert (await feed.stub.RecordJournalHeads(request([], disposals))).seq == disposed
        assert feed.sequencer.head.size == disposed


async def test_forked_journal_is_refused_and_raises_an_alert(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 2)
    forked = make_heads(KEY, ORIGIN, 1, after=heads[0], salt=1)
    async with run_feed(tmp_path) as feed:
        await enrol(feed)
        await feed.stub.RecordJournalHeads(request(heads))
        for _ in range(2):
            conflict = await refusal_of(feed.stub.RecordJournalHeads(request(forked)))
            assert conflict == (grpc.StatusCode.FAILED_PRECONDITION, "HEAD_CONFLICT")
        events = [parse_event(entry.event_bytes) for entry in await read_all(feed.store)]
        (alert,) = [event for event in events if isinstance(event, AlertEvent)]
        assert (alert.alert, alert.about, alert.is_over) == ("JOURNAL_FORKED", "pod-1", False)
        assert heads[0].chain_id.hex() in alert.detail


HEADS = make_heads(KEY, ORIGIN, 2)
REFUSALS = {
    "forged": (request(make_heads(make_sidecar_key("pod-1", seed=1), ORIGIN, 1)), "INVALID_ARGUMENT HEAD_INVALID"),
    "of another log": (request(make_heads(KEY, "another.example/log", 1)), "INVALID_ARGUMENT HEAD_INVALID"),
    "backwards": (request(HEADS[::-1]), "INVALID_ARGUMENT HEAD_INVALID"),
    "unreadable": (
        feed_pb2.RecordJournalHeadsRequest(sidecar_id="pod-1", heads=[format_head(HEADS[0])[:-1]]),
        "INVALID_ARGUMENT HEAD_INVALID",
    ),
    "unreadable disposal": (
        feed_pb2.RecordJournalHeadsRequest(sidecar_id="pod-1", disposals=[b"\x00"]),
        "INVALID_ARGUMENT HEAD_INVALID",
    ),
    "of another sidecar": (request(make_heads(OTHER_KEY, ORIGIN, 1)), "PERMISSION_DENIED SIDECAR_NOT_PERMITTED"),
    "not enrolled": (request(make_heads(OTHER_KEY, ORIGIN, 1), sidecar_id="pod-2"), "FAILED_PRECONDITION NOT_ENROLLED"),
    "empty": (request(), "INVALID_ARGUMENT INVALID_REQUEST"),
    "too many": (
        feed_pb2.RecordJournalHeadsRequest(sidecar_id="pod-1", heads=[b""] * 501),
        "INVALID_ARGUMENT INVALID_REQUEST",
    ),
    "no name": (request(HEADS, sidecar_id="pod 1"), "INVALID_ARGUMENT INVALID_REQUEST"),
}


@pytest.mark.parametrize(("message", "expected"), REFUSALS.values(), ids=list(REFUSALS))
async def test_what_is_not_the_sidecars_word_is_refused_by_name(
    tmp_path: Path, message: feed_pb2.RecordJournalHeadsRequest, expected: str
) -> None:
    async with run_feed(tmp_path) as feed:
        await enrol(feed)
        size = feed.sequencer.head.size
        code, reason = await refusal_of(feed.stub.RecordJournalHeads(message))
        assert f"{code.name} {reason}" == expected
        assert feed.sequencer.head.size == size


async def test_retired_sidecar_is_refused(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        await enrol(feed)
        await feed.desk.retire("pod-1", "administrator")
        refusal = await refusal_of(feed.stub.RecordJournalHeads(request(HEADS)))
        assert refusal == (grpc.StatusCode.PERMISSION_DENIED, "SIDECAR_RETIRED")
