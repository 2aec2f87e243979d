"""ReadLog: an auditor gets every entry and a checkpoint that signs exactly these, whatever goes on meanwhile."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

from consent.event import AdminEvent, AlertEvent, DirectiveEvent, ErasureEvent, parse_event
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import Frontier, hash_entry, hash_leaf, leaf_data
from consent.vocabulary.subject import Tokeniser
from feed.grpc_api.audit_service import MAX_READERS
from feed.grpc_api.log_stream import MAX_MESSAGE_BYTES
from feed.ports import Submission
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import load_keys
from hosting.grpc_errors import REASON_KEY
from hosting.trust_files import load_trust
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.fakes.system import policy_event

QUIET = {"receipts_seconds": 3600, "admin_refusals_seconds": 3600}
_OPTIONS = [("grpc.max_receive_message_length", -1)]


@dataclass
class Audited:
    """A feed with an auditors' socket."""

    installation: TestInstallation
    feed: RunningFeed
    channel: grpc.aio.Channel

    @property
    def stub(self) -> "audit_pb2_grpc.AuditServiceAsyncStub":
        return audit_pb2_grpc.AuditServiceStub(self.channel)

    def opt_out(self, value: str) -> DirectiveEvent:
        """A denial of everything."""
        tokeniser = Tokeniser([load_keys(self.installation.directory / "keys", ORIGIN).subject_key])
        return DirectiveEvent(
            origin=ORIGIN, token=tokeniser.token("user", value), kind=2, occurred_at_ms=1_700_000_000_000, purpose="*"
        )

    async def fill(self, count: int) -> None:
        """Log entries of about 250 bytes, which fold to nothing."""
        for start in range(0, count, 400):
            events = [
                AlertEvent(origin=ORIGIN, raised_at_ms=number, alert="TEST", about="nobody", detail="x" * 180)
                for number in range(start, min(count, start + 400))
            ]
            await self.feed.log.submit(Submission(events))


@pytest.fixture
def short_directory() -> Iterator[Path]:
    # A Unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        yield Path(folder)


@pytest.fixture
async def audited(short_directory: Path) -> AsyncIterator[Audited]:
    installation = install(short_directory)
    settings = installation.feed_settings(
        audit={"address": installation.socket("feed-audit")},
        event_log={"directory": short_directory / "log", "keys_directory": short_directory / "keys", **QUIET},
    )
    async with running_feed(settings) as feed:
        await feed.log.submit(installation.signers.submit([policy_event(POLICY)]))
        async with grpc.aio.insecure_channel(installation.socket("feed-audit"), options=_OPTIONS) as channel:
            yield Audited(installation, feed, channel)


async def read_all(
    audited: Audited, from_seq: int = 1, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> tuple[list[audit_pb2.ReadLogResponse], bytes]:
    """Every message with entries, and the checkpoint; `meanwhile` happens behind the first message."""
    messages: list[audit_pb2.ReadLogResponse] = []
    async for message in audited.stub.ReadLog(audit_pb2.ReadLogRequest(from_seq=from_seq), timeout=60):
        messages.append(message)
        if meanwhile is not None and len(messages) == 1:
            await meanwhile()
    *parts, last = messages
    assert not last.entries
    assert all(not part.checkpoint for part in parts)
    return parts, last.checkpoint


def leaf_of(entry: event_pb2.Entry) -> bytes:
    if entry.event_bytes:
        return hash_entry(entry.type, entry.opening, entry.event_bytes)
    return hash_leaf(leaf_data(entry.type, entry.commitment))


def verify(audited: Audited, entries: list[event_pb2.Entry], checkpoint: bytes) -> None:
    """The checkpoint is the log's own, for these entries and no others."""
    trust = load_trust(audited.installation.directory / "trust.note", audited.installation.directory / "root.pub")
    verified = verify_checkpoint(checkpoint, trust, None).checkpoint
    frontier = Frontier()
    for entry in entries:
        frontier.append(leaf_of(entry))
    assert (verified.size, verified.root_hash) == (len(entries), frontier.root_hash())


def entries_of(parts: list[audit_pb2.ReadLogResponse], from_seq: int = 1) -> list[event_pb2.Entry]:
    entries: list[event_pb2.Entry] = []
    for part in parts:
        assert part.from_seq == from_seq + len(entries)
        assert part.ByteSize() <= MAX_MESSAGE_BYTES + 64 * 1024
        entries += part.entries
    return entries


async def test_read_log_of_20000_entries_is_the_log_and_hashes_to_its_root(audited: Audited) -> None:
    await audited.fill(20_000)
    parts, checkpoint = await read_all(audited)
    entries = entries_of(parts)
    assert len(entries) > 20_000
    verify(audited, entries, checkpoint)
    stored = await audited.feed.log.read_entries(10_000, 3)
    assert [entry.event_bytes for entry in entries[9_999:10_002]] == [entry.event_bytes for entry in stored]
    # That it was read stands in what was read.
    last = parse_event(entries[-1].event_bytes)
    assert isinstance(last, AdminEvent)
    assert (last.action, last.role, last.detail) == (
        "consentry.feed.v1.AuditService/ReadLog",
        "auditor",
        "from entry 1",
    )


async def test_read_log_goes_on_where_a_copy_ends(audited: Audited) -> None:
    parts, _ = await read_all(audited)
    first = entries_of(parts)
    await audited.fill(10)
    more, checkpoint = await read_all(audited, len(first) + 1)
    verify(audited, first + entries_of(more, len(first) + 1), checkpoint)


async def test_read_log_leaves_out_whose_trace_a_request_was(audited: Audited) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = AlertEvent(origin=ORIGIN, raised_at_ms=1, alert="TEST", about="nobody")
    await audited.feed.log.submit(Submission([event], traceparent=traceparent))
    parts, _ = await read_all(audited)
    assert all(entry.traceparent == "" for entry in entries_of(parts))


async def test_read_log_while_intake_goes_on_ends_with_its_own_checkpoint(audited: Audited) -> None:
    await audited.fill(20_000)
    size = audited.feed.log.head.size
    parts, checkpoint = await read_all(audited, meanwhile=lambda: audited.fill(6_000))
    entries = entries_of(parts)
    verify(audited, entries, checkpoint)
    # Where it ended was settled when it began: a log that grows fast is read to an end.
    assert len(entries) == size + 1
    assert audited.feed.log.head.size == size + 1 + 6_000


async def test_read_log_with_an_erasure_meanwhile_holds_the_erasure_too(audited: Audited) -> None:
    # Far behind what is in the receiver's window when the erasure comes.
    await audited.fill(20_000)
    await audited.feed.log.submit(Submission([audited.opt_out("ada")]))

    async def erase() -> None:
        async with grpc.aio.insecure_channel(audited.installation.socket("feed-admin")) as channel:
            request = intake_pb2.EraseSubjectRequest(identifier=event_pb2.Identifier(namespace="user", value="ada"))
            await intake_pb2_grpc.SubjectServiceStub(channel).EraseSubject(request, timeout=30)

    parts, checkpoint = await read_all(audited, meanwhile=erase)
    entries = entries_of(parts)
    verify(audited, entries, checkpoint)
    erased = {number for number, entry in enumerate(entries, 1) if not entry.event_bytes}
    events = [parse_event(entry.event_bytes) for entry in entries if entry.event_bytes]
    named = {seq for event in events if isinstance(event, ErasureEvent) for seq in event.seqs}
    assert erased
    assert erased <= named


@pytest.mark.parametrize("from_seq", [0, 1_000])
async def test_read_log_from_where_nothing_is_says_so(audited: Audited, from_seq: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(audited, from_seq)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "from_seq" in (caught.value.details() or "")


async def test_read_log_by_too_many_at_once_refuses_the_next_one(audited: Audited) -> None:
    await audited.fill(20_000)
    calls = [audited.stub.ReadLog(audit_pb2.ReadLogRequest(from_seq=1), timeout=60) for _ in range(MAX_READERS)]
    # Each has had a message and cannot go on until it takes the next ones.
    for call in calls:
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(audited)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (REASON_KEY, "OVERLOADED") in tuple(caught.value.trailing_metadata() or ())
    for call in calls:
        call.cancel()
