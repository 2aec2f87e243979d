"""Heads on their way to the feed: in their order, confirmed when they are logged, and none that is refused holds up the others."""

import logging
from collections.abc import Sequence

import pytest

from consent.eventlog.journal_head import JournalDisposal, JournalHead
from consent.eventlog.keys import SigningKey
from sidecar.errors import FeedUnavailable, RefusedAsNotEnrolled, RefusedHead
from sidecar.sync import journal_heads
from sidecar.sync.backoff import Backoff
from sidecar.sync.journal_heads import JournalHeadSender
from tests.fakes.journal_heads import MemoryHeads, make_heads
from tests.fakes.trails import make_sidecar_key

ORIGIN = "log.example/heads"
KEY = make_sidecar_key("pod-1")


class Enrolled:
    """What the sender asks of `Enrolment`."""

    key: SigningKey = KEY
    is_enrolled = True


class ListeningFeed:
    """Takes all heads but those that it refuses.

    Attributes:
        calls: Numbers of the heads in each call.
        refused: Heads that it never takes.
        failure: Raised by the next call, once.
    """

    def __init__(self, *refused: JournalHead) -> None:
        self.calls: list[list[int]] = []
        self.refused = set(refused)
        self.failure: Exception | None = None

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        self.calls.append([head.number for head in heads])
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.refused.intersection(heads):
            raise RefusedHead("one of them")
        return len(self.calls)


def make_sender(feed: ListeningFeed, source: MemoryHeads) -> JournalHeadSender:
    return JournalHeadSender(feed, source, Enrolled(), ORIGIN, Backoff(0.01, 0.01))  # type: ignore[arg-type]


async def send_all(sender: JournalHeadSender) -> None:
    while await sender.send_some():
        pass


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_heads, "MAX_HEADS", 4)


async def test_heads_are_sent_in_order_and_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = make_heads(KEY, ORIGIN, 6)
    source, feed = MemoryHeads(heads), ListeningFeed()
    await send_all(make_sender(feed, source))
    assert feed.calls == [[0, 1, 2, 3], [4, 5]]
    assert source.heads == []
    place = source.logged(heads[0].chain_id)
    assert place is not None
    assert (place.number, place.segment, place.is_ended) == (5, 5, False)


@pytest.mark.parametrize("failure", [FeedUnavailable("away"), RefusedAsNotEnrolled("not yet")])
async def test_heads_that_are_not_logged_stay(failure: Exception) -> None:
    source, feed = MemoryHeads(make_heads(KEY, ORIGIN, 2)), ListeningFeed()
    sender = make_sender(feed, source)
    feed.failure = failure
    with pytest.raises(type(failure)):
        await sender.send_some()
    assert len(source.heads) == 2
    await send_all(sender)
    assert (feed.calls, source.heads) == ([[0, 1], [0, 1]], [])


@pytest.mark.parametrize("number", range(6))
async def test_refused_head_is_named_once_and_holds_up_no_other(number: int, caplog: pytest.LogCaptureFixture) -> None:
    heads = make_heads(KEY, ORIGIN, 6)
    source, feed = MemoryHeads(heads), ListeningFeed(heads[number])
    sender = make_sender(feed, source)
    with caplog.at_level(logging.ERROR):
        await send_all(sender)
        await send_all(sender)
    # It is not confirmed: nothing may take it for logged.
    assert source.heads == [heads[number]]
    assert len(caplog.records) == 1
    source.add(*make_heads(KEY, ORIGIN, 1, after=heads[-1]))
    await send_all(sender)
    assert (source.heads, feed.calls[-1]) == ([heads[number]], [6])


async def test_heads_that_another_key_has_signed_wait_and_hold_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    earlier = make_heads(make_sidecar_key("pod-1", seed=1), ORIGIN, 5, chain="old")
    source, feed = MemoryHeads([*earlier, *make_heads(KEY, ORIGIN, 2)]), ListeningFeed()
    sender = make_sender(feed, source)
    await send_all(sender)
    assert (feed.calls, source.heads) == ([[0, 1]], earlier)
    calls = len(feed.calls)
    await send_all(sender)
    assert len(feed.calls) == calls
