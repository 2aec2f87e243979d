"""The trace context beside an entry: handed on with its event, and bounded."""

import pytest
from consentry.event.v1 import event_pb2

from consent.event import format_event
from sidecar.ports import EMPTY_HEAD, EntriesFrame, WireEntry
from sidecar.sync.feed_client import read_entry
from sidecar.sync.freshness import observe
from sidecar.sync.trusted_log import TrustedLog
from tests.fakes.clock import FakeClock
from tests.fakes.signing_feed import START_MS, TRUST, SigningFeed, opt_out

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "read"), [(TRACEPARENT, TRACEPARENT), ("", ""), (TRACEPARENT + "-", ""), ("x" * 1_000_000, "")]
)
def test_read_entry_keeps_no_more_than_a_traceparent(sent: str, read: str) -> None:
    event_bytes = format_event(opt_out(1))
    assert read_entry(event_pb2.Entry(type=1, event_bytes=event_bytes, traceparent=sent)).traceparent == read


def test_receive_entries_hands_the_trace_on_whatever_it_says() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    frame = feed.entries()
    traced = [
        WireEntry(entry.type_byte, entry.opening, entry.event_bytes, entry.attestations, traceparent=traceparent)
        for entry, traceparent in zip(frame.entries, ["", TRACEPARENT, "rubbish"], strict=True)
    ]
    batch = TrustedLog(TRUST, EMPTY_HEAD).receive_entries(
        EntriesFrame(frame.from_seq, traced, frame.checkpoint_note), observe(FakeClock(START_MS + 500), "boot-1")
    )
    assert batch is not None
    assert [logged.traceparent for logged in batch.events] == ["", TRACEPARENT, "rubbish"]
