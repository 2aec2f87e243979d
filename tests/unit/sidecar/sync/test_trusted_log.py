"""The only door: what an honest feed sends gets through, whatever else is refused with its name, and nothing of it stays."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consent.event import ErasureEvent, KeyEpochEvent, ReceivedEvent, StateRootEvent
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.state import Cluster, Link, Member
from consent.state_record import (
    StateHasher,
    format_cluster,
    format_tenant,
    join_records,
    parse_cluster,
    parse_tenant,
    split_records,
)
from consent.tenant_state import EMPTY_TENANT, TenantState
from sidecar import errors
from sidecar.ports import EMPTY_HEAD, EntriesFrame, HeartbeatFrame, LogHead, WireEntry, WireSnapshot
from sidecar.sync.trusted_log import MAX_ENTRIES_PER_FRAME, Moment, TrustedLog
from tests.fakes.signing_feed import ORIGIN, START_MS, STOLEN_KEY, TRUST, SigningFeed, opt_out

NOW = Moment(START_MS + 500, 1_000, "boot-1")


def follow(feed: SigningFeed, size: int | None = None) -> TrustedLog:
    """A door that holds the first entries of a feed's log."""
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    batch = trusted.receive_entries(feed.entries(1, size), NOW)
    assert batch is not None
    trusted.advance(batch.head)
    return trusted


def test_receive_entries_honest_batch_gets_through() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    batch = TrustedLog(TRUST, EMPTY_HEAD).receive_entries(feed.entries(), NOW)
    assert batch is not None
    assert [event.seq for event in batch.events] == [1, 2, 3]
    assert batch.head.size == 3
    assert batch.head.frontier.root_hash() == feed.frontier.root_hash()
    assert batch.head.checkpoint is not None
    assert (batch.head.checkpoint.time_ms, batch.head.checkpoint.age_at_arrival_ms) == (START_MS, 500)


def test_receive_entries_batch_in_several_frames_waits_for_its_checkpoint() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2), opt_out(3)])
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    assert trusted.receive_entries(replace(feed.entries(1, 2), checkpoint_note=b""), NOW) is None
    batch = trusted.receive_entries(feed.entries(3, 4), NOW)
    assert batch is not None
    assert len(batch.events) == 4


def test_receive_entries_without_payload_get_through_with_the_erasure_that_names_them() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2), ReceivedEvent(origin=ORIGIN, received_at_ms=1, request_type=1)])
    feed.erase(opt_out(1).token, 2, 4)
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    assert trusted.receive_entries(replace(feed.entries(1, 3), checkpoint_note=b""), NOW) is None
    batch = trusted.receive_entries(feed.entries(4), NOW)
    assert batch is not None
    assert [logged.changes_answers for logged in batch.events] == [True, False, True, False, True]
    assert batch.head.frontier.root_hash() == feed.frontier.root_hash()


def test_receive_entries_of_the_epoch_that_they_stand_in_get_through() -> None:
    feed = SigningFeed([opt_out(1)])
    for key in (bytes([7]) * 32, bytes([8]) * 32):
        feed.begin_epoch(key)
        feed.append(feed.lead(opt_out(2)))
    batch = TrustedLog(TRUST, EMPTY_HEAD).receive_entries(feed.entries(), NOW)
    assert batch is not None
    assert [event.event.key_epoch for event in batch.events if event.event.TYPE == 1] == [0, 1, 2]
    assert len(batch.head.tenant.key_commitments) == 3


def test_receive_snapshot_of_a_later_epoch_gets_through_and_goes_on() -> None:
    feed = SigningFeed([opt_out(1)])
    trusted = follow(feed)
    feed.begin_epoch(bytes([7]) * 32)
    snapshot = trusted.receive_snapshot(feed.snapshot(held_size=2), NOW)
    trusted.advance(snapshot.head)
    feed.append(feed.lead(opt_out(2)))
    assert trusted.receive_entries(feed.entries(5), NOW) is not None


def forged_entry(feed: SigningFeed) -> EntriesFrame:
    other = SigningFeed([opt_out(9)]).leaves[1].entry
    frame = feed.entries()
    return replace(frame, entries=[frame.entries[0], other, *frame.entries[2:]])


def swapped(feed: SigningFeed) -> EntriesFrame:
    frame = feed.entries()
    return replace(frame, entries=[frame.entries[0], frame.entries[2], frame.entries[1]])


def with_entry(change: Callable[[WireEntry], WireEntry]) -> Callable[[SigningFeed], EntriesFrame]:
    def make(feed: SigningFeed) -> EntriesFrame:
        frame = feed.entries()
        return replace(frame, entries=[*frame.entries[:-1], change(frame.entries[-1])])

    return make


def of_another_log(feed: SigningFeed) -> EntriesFrame:
    feed.append(replace(opt_out(5), origin="other.example/log"))
    return feed.entries()


def signed_by(feed: SigningFeed) -> EntriesFrame:
    return replace(feed.entries(), checkpoint_note=feed.checkpoint(log_key=STOLEN_KEY))


def cosigned_by_a_stranger(feed: SigningFeed) -> EntriesFrame:
    stranger = generate_signing_key("stranger.example", KeyKind.COSIGNER, bytes([9]) * 32)
    return replace(feed.entries(), checkpoint_note=feed.checkpoint(cosigner_key=stranger))


def key_epoch_left_out(feed: SigningFeed) -> EntriesFrame:
    feed.append(KeyEpochEvent(origin=ORIGIN, epoch=2, key_commitment=bytes(32)))
    return feed.entries()


def of_a_key_epoch_to_come(feed: SigningFeed) -> EntriesFrame:
    feed.append(opt_out(5, key_epoch=1))
    return feed.entries()


def of_an_older_key_epoch(feed: SigningFeed) -> EntriesFrame:
    feed.begin_epoch(bytes([7]) * 32)
    feed.append(opt_out(5))
    return feed.entries()


def payload_taken(feed: SigningFeed) -> EntriesFrame:
    feed.take_payload(2)
    return feed.entries()


def payload_taken_before_its_erasure_comes(feed: SigningFeed) -> EntriesFrame:
    feed.erase(opt_out(1).token, 2)
    return feed.entries(1, 3)


def payload_taken_of_another_entry(feed: SigningFeed) -> EntriesFrame:
    feed.erase(opt_out(1).token, 2)
    feed.take_payload(3)
    return feed.entries()


def payload_taken_after_its_erasure(feed: SigningFeed) -> EntriesFrame:
    feed.append(ErasureEvent(origin=ORIGIN, tokens=(opt_out(1).token,), seqs=(5,), occurred_at_ms=START_MS))
    feed.append(opt_out(3))
    feed.take_payload(5)
    return feed.entries()


def payload_of_the_erasure_taken(feed: SigningFeed) -> EntriesFrame:
    feed.erase(opt_out(1).token, 2)
    feed.erase(opt_out(1).token, 4)
    return feed.entries()


def payload_of_a_key_epoch_taken(feed: SigningFeed) -> EntriesFrame:
    feed.erase(opt_out(1).token, 1)
    return feed.entries()


def erased(change: Callable[[WireEntry], WireEntry]) -> Callable[[SigningFeed], EntriesFrame]:
    def make(feed: SigningFeed) -> EntriesFrame:
        feed.erase(opt_out(1).token, 2)
        frame = feed.entries()
        return replace(frame, entries=[frame.entries[0], change(frame.entries[1]), *frame.entries[2:]])

    return make


REFUSED_ENTRIES: dict[str, tuple[Callable[[SigningFeed], EntriesFrame], type[Exception]]] = {
    "gap": (lambda feed: feed.entries(2), errors.SequenceGap),
    "empty frame": (lambda feed: replace(feed.entries(), entries=[]), errors.MalformedFrame),
    "oversized frame": (
        lambda feed: replace(feed.entries(), entries=[feed.leaves[0].entry] * (MAX_ENTRIES_PER_FRAME + 1)),
        errors.MalformedFrame,
    ),
    "an entry left out": (
        lambda feed: replace(feed.entries(), entries=feed.entries().entries[:-1]),
        errors.RootMismatch,
    ),
    "another entry in its place": (forged_entry, errors.RootMismatch),
    "entries in another order": (swapped, errors.RootMismatch),
    "opening changed": (with_entry(lambda e: replace(e, opening=bytes(31) + b"\xff")), errors.RootMismatch),
    "opening too short": (with_entry(lambda e: replace(e, opening=b"short")), errors.MalformedFrame),
    "event cut short": (with_entry(lambda e: replace(e, event_bytes=e.event_bytes[:-1])), errors.EntryRejected),
    "no event": (with_entry(lambda e: replace(e, event_bytes=b"")), errors.EntryRejected),
    "type byte of another event": (with_entry(lambda e: replace(e, type_byte=0x80)), errors.EntryRejected),
    "unknown type that changes answers": (
        with_entry(lambda e: replace(e, type_byte=0x7F, event_bytes=b"\x01\x7f" + e.event_bytes[2:])),
        errors.EntryRejected,
    ),
    "event of another log": (of_another_log, errors.EntryRejected),
    "key epoch left out": (key_epoch_left_out, errors.EntryRejected),
    "token of a key epoch to come": (of_a_key_epoch_to_come, errors.EntryRejected),
    "token of an older key epoch": (of_an_older_key_epoch, errors.EntryRejected),
    "payload taken without an erasure": (payload_taken, errors.EntryRejected),
    "payload taken, the erasure after the checkpoint": (payload_taken_before_its_erasure_comes, errors.EntryRejected),
    "payload taken that no erasure names": (payload_taken_of_another_entry, errors.EntryRejected),
    "payload taken that an earlier erasure names": (payload_taken_after_its_erasure, errors.EntryRejected),
    "payload of an erasure taken": (payload_of_the_erasure_taken, errors.EntryRejected),
    "payload of a key epoch taken": (payload_of_a_key_epoch_taken, errors.EntryRejected),
    "erased entry with another commitment": (
        erased(lambda e: replace(e, commitment=bytes(32))),
        errors.RootMismatch,
    ),
    "erased entry without a commitment": (erased(lambda e: replace(e, commitment=b"")), errors.MalformedFrame),
    "erased entry that has an opening": (erased(lambda e: replace(e, opening=bytes(32))), errors.EntryRejected),
    "erased entry of another type": (erased(lambda e: replace(e, type_byte=2)), errors.RootMismatch),
    "checkpoint by another key": (signed_by, errors.CheckpointRejected),
    "checkpoint without a trusted cosigner": (cosigned_by_a_stranger, errors.CheckpointRejected),
    "checkpoint that is no note": (
        lambda feed: replace(feed.entries(), checkpoint_note=b"not a note"),
        errors.CheckpointRejected,
    ),
    "checkpoint with another root": (
        lambda feed: replace(feed.entries(), checkpoint_note=feed.checkpoint(root_hash=bytes(32))),
        errors.RootMismatch,
    ),
    "checkpoint of a smaller size": (
        lambda feed: replace(feed.entries(), checkpoint_note=feed.checkpoint(2)),
        errors.RootMismatch,
    ),
    "checkpoint from the future": (lambda feed: feed.entries(time_ms=START_MS + 302_000), errors.CheckpointFromFuture),
}


@pytest.mark.parametrize("attack", REFUSED_ENTRIES)
def test_receive_entries_attack_is_refused_by_name_and_leaves_nothing(attack: str) -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    make, error = REFUSED_ENTRIES[attack]
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    with pytest.raises(error):
        trusted.receive_entries(make(feed), NOW)
    assert trusted.head is EMPTY_HEAD
    honest = SigningFeed([opt_out(1), opt_out(2)])
    assert trusted.receive_entries(honest.entries(), NOW) is not None


def test_receive_entries_same_entries_again_are_refused() -> None:
    feed = SigningFeed([opt_out(1)])
    with pytest.raises(errors.SequenceGap):
        follow(feed).receive_entries(feed.entries(), NOW)


def test_receive_entries_refusal_in_the_middle_of_a_batch_drops_its_beginning_too() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    assert trusted.receive_entries(replace(feed.entries(1, 2), checkpoint_note=b""), NOW) is None
    with pytest.raises(errors.SequenceGap):
        trusted.receive_entries(feed.entries(2, 3), NOW)
    assert trusted.receive_entries(feed.entries(), NOW) is not None


def test_receive_entries_policy_out_of_order_is_refused() -> None:
    feed = SigningFeed()
    feed.append(replace(feed.leaves[0].event))
    with pytest.raises(errors.EntryRejected, match="EVENT_OUT_OF_ORDER"):
        TrustedLog(TRUST, EMPTY_HEAD).receive_entries(feed.entries(), NOW)


def test_receive_heartbeat_newer_time_is_kept() -> None:
    feed = SigningFeed([opt_out(1)])
    trusted = follow(feed)
    head = trusted.receive_heartbeat(feed.heartbeat(time_ms=START_MS + 2_000), NOW)
    assert head is not None
    assert head.checkpoint is not None
    assert head.checkpoint.time_ms == START_MS + 2_000


def test_receive_heartbeat_older_or_same_time_adds_nothing() -> None:
    feed = SigningFeed([opt_out(1)])
    trusted = follow(feed)
    assert trusted.receive_heartbeat(feed.heartbeat(time_ms=START_MS), NOW) is None
    assert trusted.receive_heartbeat(feed.heartbeat(time_ms=START_MS - 5_000), NOW) is None


def test_receive_heartbeat_larger_log_does_not_freshen_what_is_held() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    assert follow(feed, 2).receive_heartbeat(feed.heartbeat(3, START_MS + 9_000), NOW) is None


def fork() -> HeartbeatFrame:
    return SigningFeed([opt_out(7), opt_out(8)]).heartbeat(time_ms=START_MS + 2_000)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (fork(), errors.LogFork),
        (SigningFeed([opt_out(1)]).heartbeat(time_ms=START_MS + 2_000), errors.LogRollback),
        (SigningFeed([opt_out(1), opt_out(2)]).heartbeat(time_ms=START_MS + 400_000), errors.CheckpointFromFuture),
        (HeartbeatFrame(b"garbage"), errors.CheckpointRejected),
    ],
    ids=["fork", "rollback", "future", "garbage"],
)
def test_receive_heartbeat_attack_is_refused(frame: HeartbeatFrame, error: type[Exception]) -> None:
    trusted = follow(SigningFeed([opt_out(1), opt_out(2)]))
    head = trusted.head
    with pytest.raises(error):
        trusted.receive_heartbeat(frame, NOW)
    assert trusted.head is head


def test_receive_snapshot_honest_state_gets_through_and_continues_entry_by_entry() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    trusted = TrustedLog(TRUST, EMPTY_HEAD)
    snapshot = trusted.receive_snapshot(feed.snapshot(), NOW)
    assert snapshot.head.size == 4
    assert len(snapshot.records) == 2
    assert len(snapshot.head.tenant.key_commitments) == 1
    trusted.advance(snapshot.head)
    feed.append(opt_out(3))
    batch = trusted.receive_entries(feed.entries(5), NOW)
    assert batch is not None
    assert batch.head.size == 5


def test_receive_snapshot_that_continues_what_is_held_needs_the_proof() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2), opt_out(3)])
    trusted = follow(feed, 2)
    wire = feed.snapshot(held_size=2)
    with pytest.raises(errors.LogFork):
        trusted.receive_snapshot(replace(wire, consistency_proof=()), NOW)
    assert trusted.receive_snapshot(wire, NOW).head.size == 5


def change_record(wire: WireSnapshot) -> WireSnapshot:
    records = list(split_records(wire.chunks[0]))
    return replace(wire, chunks=[join_records([records[0]])])


def forge_state_root(wire: WireSnapshot) -> WireSnapshot:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    feed.append(StateRootEvent(origin=ORIGIN, size=3, state_root_hash=bytes(32)))
    return replace(wire, state_root_entry=feed.leaves[-1].entry)


REFUSED_SNAPSHOTS: dict[str, tuple[Callable[[WireSnapshot], WireSnapshot], type[Exception]]] = {
    "a subject left out": (change_record, errors.SnapshotRejected),
    "no subjects": (lambda wire: replace(wire, chunks=[]), errors.SnapshotRejected),
    "records in another order": (
        lambda wire: replace(wire, chunks=[join_records(reversed(list(split_records(wire.chunks[0]))))]),
        errors.SnapshotRejected,
    ),
    "chunk cut short": (lambda wire: replace(wire, chunks=[wire.chunks[0][:-1]]), errors.SnapshotRejected),
    "another tenant record": (
        lambda wire: replace(wire, tenant_record=format_tenant(EMPTY_TENANT)),
        errors.SnapshotRejected,
    ),
    "tenant record that is none": (lambda wire: replace(wire, tenant_record=b"?"), errors.SnapshotRejected),
    "another size": (lambda wire: replace(wire, size=wire.size - 1), errors.SnapshotRejected),
    "another right edge": (lambda wire: replace(wire, frontier_hashes=(bytes(32),) * 2), errors.SnapshotRejected),
    "a right edge beyond what a tree can be": (
        lambda wire: replace(wire, size=2**63 - 1, frontier_hashes=(bytes(32),) * 63),
        errors.SnapshotRejected,
    ),
    "another state root": (forge_state_root, errors.SnapshotRejected),
    "unsigned checkpoint": (lambda wire: replace(wire, checkpoint_note=b""), errors.CheckpointRejected),
}


@pytest.mark.parametrize("attack", REFUSED_SNAPSHOTS)
def test_receive_snapshot_attack_is_refused(attack: str) -> None:
    change, error = REFUSED_SNAPSHOTS[attack]
    wire = SigningFeed([opt_out(1), opt_out(2)]).snapshot()
    with pytest.raises(error):
        TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(change(wire), NOW)


def commit_to(records: list[bytes], tenant_record: bytes) -> WireSnapshot:
    """A snapshot that a stolen log key could make: signed, and of a state that no honest fold gives."""
    feed, hasher = SigningFeed(), StateHasher()
    for record in records:
        hasher.add(parse_cluster(record).members[0].token, record)
    state_root_hash, size = hasher.finish(parse_tenant(tenant_record)), feed.size
    frontier_hashes = tuple(feed.frontier.hashes)
    feed.append(StateRootEvent(origin=ORIGIN, size=size, state_root_hash=state_root_hash))
    entry = feed.leaves[-1].entry
    return WireSnapshot(size, frontier_hashes, feed.checkpoint(), entry, tenant_record, [join_records(records)])


def test_receive_snapshot_with_one_token_in_two_clusters_is_refused() -> None:
    one, two, three = (bytes([number]) * 16 for number in (1, 2, 3))
    pairs = [(one, three), (two, three)]
    clusters = [Cluster((Member(a, links=(Link(b, 2),)), Member(b, links=(Link(a, 2),)))) for a, b in pairs]
    wire = commit_to([format_cluster(cluster) for cluster in clusters], format_tenant(EMPTY_TENANT))
    with pytest.raises(errors.SnapshotRejected, match="two clusters"):
        TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(wire, NOW)


def test_receive_snapshot_of_a_policy_that_cannot_be_read_is_refused() -> None:
    tenant = TenantState(document=b"{}", version_seqs=((1, 1),))
    with pytest.raises(errors.SnapshotRejected):
        TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(commit_to([], format_tenant(tenant)), NOW)


def test_receive_snapshot_smaller_than_what_is_held_is_a_rollback() -> None:
    old = SigningFeed([opt_out(1)]).snapshot()
    trusted = follow(SigningFeed([opt_out(1), opt_out(2), opt_out(3), opt_out(4)]))
    with pytest.raises(errors.LogRollback):
        trusted.receive_snapshot(old, NOW)


def test_receive_snapshot_of_another_history_is_a_fork() -> None:
    other = SigningFeed([opt_out(7), opt_out(8), opt_out(9)])
    with pytest.raises(errors.LogFork):
        follow(SigningFeed([opt_out(1)])).receive_snapshot(other.snapshot(held_size=2), NOW)


def test_verify_entry_proof_of_an_entry_held_returns_its_event() -> None:
    feed = SigningFeed([opt_out(1), opt_out(2)])
    trusted = follow(feed)
    assert trusted.verify_entry_proof(2, feed.entry_proof(2, 3), trusted.head) == opt_out(1)
    with pytest.raises(errors.EntryRejected):
        trusted.verify_entry_proof(3, feed.entry_proof(2, 3), trusted.head)
    foreign = SigningFeed([opt_out(5), opt_out(6)])
    with pytest.raises(errors.EntryRejected):
        trusted.verify_entry_proof(2, foreign.entry_proof(2, 3), trusted.head)


def test_receive_entries_informative_event_of_a_later_version_is_hashed_and_passed_over() -> None:
    feed = SigningFeed([ReceivedEvent(origin=ORIGIN, received_at_ms=1, request_type=1)])
    assert follow(feed).head == LogHead(feed.frontier, follow(feed).head.tenant, follow(feed).head.checkpoint)
