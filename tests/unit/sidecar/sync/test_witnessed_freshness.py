"""Where the trust file demands a witness: entries count at once, freshness only from what the witness has seen."""

from dataclasses import replace

import pytest

from consent.eventlog.keys import KeyKind, cosign, generate_signing_key
from consent.eventlog.signed_note import Note, format_note, parse_note
from consent.eventlog.trust import TrustedKey
from sidecar.errors import LogFork, LogRollback
from sidecar.ports import EMPTY_HEAD, HeartbeatFrame, LogHead
from sidecar.sync.trusted_log import UNKNOWN_AGE_MS, Moment, TrustedLog
from tests.fakes.signing_feed import START_MS, TRUST, SigningFeed, opt_out

WITNESS_KEY = generate_signing_key("witness.example/1", KeyKind.COSIGNER, bytes([9]) * 32)
DEMANDING = replace(TRUST, witness_keys=(TrustedKey(WITNESS_KEY.verifier_key),), witness_threshold=1)
NOW = Moment(START_MS + 500, 1_000, "boot-1")


def witnessed(note_bytes: bytes, time_ms: int) -> HeartbeatFrame:
    note = parse_note(note_bytes)
    line = cosign(note.text, WITNESS_KEY, time_ms // 1000)
    return HeartbeatFrame(format_note(Note(note.text, (*note.signatures, line))))


def hold(trusted: TrustedLog, feed: SigningFeed, from_seq: int, to_seq: int, time_ms: int) -> LogHead:
    batch = trusted.receive_entries(feed.entries(from_seq, to_seq, time_ms), NOW)
    assert batch is not None
    trusted.advance(batch.head)
    return batch.head


def seen_of(head: LogHead | None) -> tuple[int, int]:
    assert head is not None
    assert head.checkpoint is not None
    return head.checkpoint.time_ms, head.checkpoint.age_at_arrival_ms


def test_entries_without_a_witness_are_held_and_not_fresh() -> None:
    feed, trusted = SigningFeed([opt_out(1), opt_out(2)]), TrustedLog(DEMANDING, EMPTY_HEAD)
    head = hold(trusted, feed, 1, 3, START_MS)
    assert head.size == 3
    assert seen_of(head) == (0, UNKNOWN_AGE_MS)
    assert trusted.receive_heartbeat(feed.heartbeat(time_ms=START_MS + 400), NOW) is None


def test_witnessed_heartbeat_makes_fresh_and_later_entries_keep_its_time() -> None:
    feed, trusted = SigningFeed([opt_out(1), opt_out(2)]), TrustedLog(DEMANDING, EMPTY_HEAD)
    hold(trusted, feed, 1, 2, START_MS - 9_000)
    fresh = trusted.receive_heartbeat(witnessed(feed.checkpoint(2), START_MS - 1_000), NOW)
    assert seen_of(fresh) == (START_MS - 1_000, 1_500)
    assert fresh is not None
    trusted.advance(fresh)
    later = hold(trusted, feed, 3, 3, START_MS)
    assert seen_of(later) == (START_MS - 1_000, 1_500)
    assert later.checkpoint is not None
    assert later.checkpoint.note == feed.checkpoint(3, START_MS)


def test_busy_log_is_fresh_by_a_size_held_before() -> None:
    feed, trusted = SigningFeed([opt_out(1), opt_out(2)]), TrustedLog(DEMANDING, EMPTY_HEAD)
    hold(trusted, feed, 1, 2, START_MS)
    now_held = hold(trusted, feed, 3, 3, START_MS)
    fresh = trusted.receive_heartbeat(witnessed(feed.checkpoint(2), START_MS), NOW)
    assert seen_of(fresh) == (START_MS, 500)
    assert fresh is not None
    assert now_held.checkpoint is not None
    assert fresh.checkpoint is not None
    assert (fresh.size, fresh.checkpoint.note) == (3, now_held.checkpoint.note)


def test_smaller_size_of_another_history_is_a_fork_and_one_never_held_a_rollback() -> None:
    feed, other = SigningFeed([opt_out(1), opt_out(2)]), SigningFeed([opt_out(7), opt_out(8)])
    trusted = TrustedLog(DEMANDING, EMPTY_HEAD)
    hold(trusted, feed, 1, 2, START_MS)
    hold(trusted, feed, 3, 3, START_MS)
    with pytest.raises(LogFork):
        trusted.receive_heartbeat(witnessed(other.checkpoint(2), START_MS), NOW)
    with pytest.raises(LogRollback):
        trusted.receive_heartbeat(witnessed(feed.checkpoint(1), START_MS), NOW)


def test_without_a_demand_for_witnesses_a_smaller_size_is_a_rollback() -> None:
    feed, trusted = SigningFeed([opt_out(1), opt_out(2)]), TrustedLog(TRUST, EMPTY_HEAD)
    hold(trusted, feed, 1, 2, START_MS)
    hold(trusted, feed, 3, 3, START_MS)
    with pytest.raises(LogRollback):
        trusted.receive_heartbeat(witnessed(feed.checkpoint(2), START_MS), NOW)


def test_old_size_with_new_times_does_not_stay_fresh() -> None:
    """The freeze: a feed that shows this sidecar an old size for ever cannot get new witnesses' times once they have seen more."""
    feed, trusted = SigningFeed([opt_out(1), opt_out(2)]), TrustedLog(DEMANDING, EMPTY_HEAD)
    hold(trusted, feed, 1, 2, START_MS)
    fresh = trusted.receive_heartbeat(witnessed(feed.checkpoint(2), START_MS), NOW)
    assert fresh is not None
    trusted.advance(fresh)
    later = Moment(START_MS + 60_000, 60_500, "boot-1")
    assert trusted.receive_heartbeat(HeartbeatFrame(feed.checkpoint(2, START_MS + 60_000)), later) is None
    assert seen_of(trusted.head) == (START_MS, 500)
