"""Every kind of damage to a stored log is found, named, and placed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent.event import Event, KeyEpochEvent, PolicyEvent, StateRootEvent
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.trust import Trust, TrustedKey
from feed.errors import CorruptLog, ForeignLog, LogStoreError
from feed.log_store.sqlite import DATABASE_NAME
from feed.log_store.tree import node_position
from feed.verification.findings import Reason
from feed.verification.segment import SEGMENT_ENTRIES, SEGMENT_LEVEL
from feed.verification.verifier import Phase, verify_log
from tests.fakes.feed_log import ORIGIN, TRUST, make_directive, make_policy, seed
from tests.unit.feed.verification.rewriting import rewrite_entry
from tests.unit.feed.verification.stored_logs import (
    change,
    commit_forged,
    first_events,
    opt_outs,
    place_of,
    read_value,
    write_log,
    write_state_root,
)

SIZE = 40


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Folder of a log of 40 entries."""
    events = first_events()
    write_log(tmp_path, [*events, *opt_outs(SIZE - len(events))], batch_events=7)
    return tmp_path


def find(directory: Path, trust: Trust = TRUST, **options: Any) -> list[tuple[str, int | None]]:
    """Reason and seq of everything that is found."""
    report = verify_log(place_of(directory), trust, workers=1, **options)
    assert report.finding_count == len(report.findings)
    return [(finding.reason.value, finding.seq) for finding in report.findings]


def _believing_a_stranger() -> Trust:
    stranger = generate_signing_key(ORIGIN, KeyKind.LOG, seed("stranger"))
    return replace(TRUST, log_keys=(TrustedKey(stranger.verifier_key),))


def test_verify_sound_log_finds_nothing_and_returns_what_was_signed(log: Path) -> None:
    seen = []
    report = verify_log(place_of(log), TRUST, workers=1, with_state=True, progress=lambda *step: seen.append(step))
    assert (report.findings, report.finding_count, report.entry_count, report.is_state_checked) == ([], 0, SIZE, True)
    assert report.checkpoint is not None
    assert report.checkpoint.size == SIZE
    assert seen[-2:] == [(Phase.ENTRIES, SIZE, SIZE), (Phase.STATE, SIZE, SIZE)]


def test_verify_writes_nothing(log: Path) -> None:
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    assert find(log, with_state=True) == []
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before


def test_verify_reads_what_a_crash_left_in_the_write_ahead_log(log: Path) -> None:
    crashed = log / "crashed"
    write_log(log, [make_directive("before-the-crash")], copy_open_files_to=crashed)
    before = {path.name: path.read_bytes() for path in crashed.iterdir()}
    assert sorted(before) == [DATABASE_NAME, f"{DATABASE_NAME}-wal"]
    report = verify_log(place_of(crashed), TRUST, workers=1)
    assert (report.findings, report.entry_count) == ([], SIZE + 1)
    assert {name: (crashed / name).read_bytes() for name in before} == before


def test_verify_empty_log_finds_nothing_unless_the_trust_file_knows_better(tmp_path: Path) -> None:
    write_log(tmp_path, [])
    assert find(tmp_path) == []
    assert find(tmp_path, replace(TRUST, minimum_size=1)) == [("BELOW_MINIMUM_SIZE", None)]


def test_verify_flipped_byte_of_an_entry_names_the_entry(log: Path) -> None:
    sealed = bytearray(read_value(log, "SELECT sealed FROM entry WHERE seq = 11"))
    for at in (0, 7, 13, 60, len(sealed) - 1):
        flipped = bytes(sealed[:at]) + bytes((sealed[at] ^ 1,)) + bytes(sealed[at + 1 :])
        change(log, f"UPDATE entry SET sealed = x'{flipped.hex()}' WHERE seq = 11")
        assert find(log) == [("ENTRY_UNREADABLE", 11)]


def test_verify_changed_type_names_the_entry(log: Path) -> None:
    change(log, "UPDATE entry SET type = 2 WHERE seq = 11")
    assert find(log) == [("ENTRY_UNREADABLE", 11)]


def test_verify_swapped_rows_names_both(log: Path) -> None:
    change(
        log,
        "UPDATE entry SET seq = -11 WHERE seq = 11",
        "UPDATE entry SET seq = 11 WHERE seq = 12",
        "UPDATE entry SET seq = 12 WHERE seq = -11",
    )
    assert find(log) == [("ENTRY_UNREADABLE", 11), ("ENTRY_UNREADABLE", 12)]


@pytest.mark.parametrize(("condition", "seq"), [("seq = 1", 1), ("seq = 11", 11), ("seq BETWEEN 11 AND 13", 11)])
def test_verify_missing_row_names_the_gap(log: Path, condition: str, seq: int) -> None:
    change(log, f"DELETE FROM entry WHERE {condition}")
    assert find(log) == [("ENTRIES_MISSING", seq)]


def test_verify_log_cut_short_names_the_first_entry_that_is_gone(log: Path) -> None:
    change(log, "DELETE FROM entry WHERE seq > 30")
    assert find(log) == [("ENTRIES_MISSING", 31)]


def test_verify_rows_behind_the_head_are_named(log: Path) -> None:
    sealed = read_value(log, "SELECT sealed FROM entry WHERE seq = 40")
    change(log, f"INSERT INTO entry VALUES (41, 1, x'{sealed.hex()}')")
    assert find(log) == [("ENTRIES_BEYOND_HEAD", 41)]


@pytest.mark.parametrize(
    ("level", "index", "finding"),
    [(0, 10, ("LEAF_MISMATCH", 11)), (1, 5, ("NODE_MISMATCH", 11)), (5, 0, ("NODE_MISMATCH", 1))],
)
@pytest.mark.parametrize(
    "damage", ["UPDATE node SET hash = x'{hash}'", "UPDATE node SET hash = x'00'", "DELETE FROM node"]
)
def test_verify_wrong_node_is_named_and_those_above_it_are_not(
    log: Path, level: int, index: int, finding: tuple[str, int], damage: str
) -> None:
    change(log, f"{damage.format(hash=bytes(32).hex())} WHERE position = {node_position(level, index)}")
    assert find(log) == [finding]


def test_verify_node_that_cannot_be_there_is_named(log: Path) -> None:
    change(log, f"INSERT INTO node VALUES ({node_position(4, 2)}, x'{bytes(32).hex()}')")
    assert find(log) == [("NODES_UNEXPECTED", 1)]


def test_verify_entry_put_in_place_of_another_breaks_the_signed_root(log: Path) -> None:
    """Somebody who holds the keys of the file, and not the log's, rewrites an entry."""
    rewrite_entry(log, 11, make_directive("somebody-else"), with_tree=False)
    assert find(log) == [("LEAF_MISMATCH", 11), ("ROOT_MISMATCH", None)]
    rewrite_entry(log, 11, make_directive("somebody-else"), with_tree=True)
    assert find(log) == [("ROOT_MISMATCH", None)]


def test_verify_head_of_another_log_is_named(log: Path, tmp_path: Path) -> None:
    """The same keys signed it for other entries."""
    other = tmp_path / "other"
    head = write_log(other, opt_outs(SIZE + 1))
    commit_forged(log, [make_directive("last")], checkpoint_note=head.checkpoint_note)
    assert find(log) == [("FRONTIER_MISMATCH", None), ("ROOT_MISMATCH", None)]


def test_verify_frontier_that_is_not_the_entries_is_named_whoever_signed(log: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path / "other", opt_outs(SIZE + 1))
    commit_forged(log, [make_directive("last")], frontier=other.frontier)
    assert find(log) == [("FRONTIER_MISMATCH", None)]
    assert find(log, _believing_a_stranger()) == [("CHECKPOINT_REJECTED", None), ("FRONTIER_MISMATCH", None)]


def test_verify_older_head_put_back_is_named(log: Path) -> None:
    columns = "version, frontier, checkpoint_note, checkpoint_time_ms, sealed"
    change(log, "CREATE TABLE kept AS SELECT * FROM head")
    write_log(log, [make_directive("later")])
    change(log, f"UPDATE head SET ({columns}) = (SELECT {columns} FROM kept)", "DROP TABLE kept")
    assert find(log) == [("ENTRIES_BEYOND_HEAD", 41), ("NODES_UNEXPECTED", 1)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM head", "HEAD_MISSING"),
        ("DELETE FROM tenant", "HEAD_UNREADABLE"),
        ("UPDATE head SET checkpoint_time_ms = checkpoint_time_ms + 1", "HEAD_UNREADABLE"),
    ],
)
def test_verify_damaged_head_is_named(log: Path, statement: str, reason: str) -> None:
    change(log, statement)
    assert find(log) == [(reason, None)]


def test_verify_trust_file_with_other_keys_rejects_the_checkpoint(log: Path) -> None:
    report = verify_log(place_of(log), _believing_a_stranger(), workers=1)
    assert [finding.reason.value for finding in report.findings] == ["CHECKPOINT_REJECTED"]
    assert "INSUFFICIENT_SIGNATURES" in report.findings[0].text
    assert report.checkpoint is None


def test_verify_log_smaller_than_the_trust_file_says_is_named(log: Path) -> None:
    assert find(log, replace(TRUST, minimum_size=SIZE)) == []
    assert find(log, replace(TRUST, minimum_size=SIZE + 1)) == [("BELOW_MINIMUM_SIZE", None)]


@pytest.mark.parametrize(
    ("event", "finding"),
    [
        (make_directive("x", origin="another.example/log"), ("EVENT_REFUSED", 41)),
        (make_directive("x", key_epoch=1), ("EVENT_REFUSED", 41)),
        (StateRootEvent(origin=ORIGIN, size=7, state_root_hash=bytes(32)), ("EVENT_REFUSED", 41)),
        (
            PolicyEvent(origin=ORIGIN, version=3, replaces_version=2, document=make_policy(3)),
            ("TENANT_REFUSED", 41),
        ),
    ],
)
def test_verify_entry_that_may_not_stand_there_is_named(log: Path, event: Event, finding: tuple[str, int]) -> None:
    commit_forged(log, [event])
    assert find(log) == [finding]


def test_verify_tokens_of_a_key_epoch_must_come_behind_it(log: Path) -> None:
    epoch = KeyEpochEvent(origin=ORIGIN, epoch=1, key_commitment=bytes(32))
    write_log(log, [epoch, make_directive("after", key_epoch=1)])
    assert find(log) == []
    write_log(log, [make_directive("before", key_epoch=2), replace(epoch, epoch=2), make_directive("x", key_epoch=2)])
    assert find(log) == [("EVENT_REFUSED", SIZE + 3)]


def test_verify_stored_policy_that_no_entry_says_is_named(log: Path) -> None:
    commit_forged(log, [PolicyEvent(origin=ORIGIN, version=2, replaces_version=1, document=make_policy(2))])
    assert find(log) == [("TENANT_MISMATCH", None)]


def test_verify_state_finds_a_state_root_that_the_entries_do_not_fold_to(log: Path) -> None:
    write_state_root(log)
    write_log(log, [make_directive("after")])
    assert find(log, with_state=True) == []
    write_state_root(log, bytes(32))
    assert find(log) == []
    assert find(log, with_state=True) == [("STATE_ROOT_MISMATCH", SIZE + 3)]


def test_verify_state_finds_a_sum_that_the_entries_do_not_fold_to(log: Path) -> None:
    commit_forged(log, [make_directive("never-folded")])
    assert find(log) == []
    assert find(log, with_state=True) == [("STATE_MISMATCH", None)]


def test_verify_segments_are_joined_up_to_the_signed_root(tmp_path: Path) -> None:
    """Four segments, the last a part of one, in two processes."""
    events = first_events()
    write_log(tmp_path, [*events, *opt_outs(3 * SEGMENT_ENTRIES + 5 - len(events))], batch_events=5_000)
    report = verify_log(place_of(tmp_path), TRUST, workers=2)
    assert (report.findings, report.entry_count) == ([], 3 * SEGMENT_ENTRIES + 5)
    change(
        tmp_path,
        f"UPDATE node SET hash = x'{bytes(32).hex()}' WHERE position = {node_position(SEGMENT_LEVEL + 1, 0)}",
        f"DELETE FROM entry WHERE seq = {SEGMENT_ENTRIES + 2}",
        f"DELETE FROM node WHERE position = {node_position(SEGMENT_LEVEL, 2)}",
    )
    assert sorted(find(tmp_path)) == [
        ("ENTRIES_MISSING", SEGMENT_ENTRIES + 2),
        ("NODE_MISMATCH", 1),
        ("NODE_MISMATCH", 2 * SEGMENT_ENTRIES + 1),
    ]


def test_verify_another_log_or_key_is_no_finding_but_an_error(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ForeignLog):
        verify_log(replace(place_of(log), origin="another.example/log"), TRUST, workers=1)
    with pytest.raises(ForeignLog):
        verify_log(replace(place_of(log), kek=bytes(32)), TRUST, workers=1)
    with pytest.raises(LogStoreError):
        verify_log(place_of(tmp_path / "nothing"), TRUST, workers=1)
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database, and long enough to be taken for the header of one" * 20)
    with pytest.raises(CorruptLog):
        verify_log(place_of(tmp_path), TRUST, workers=1)


def test_every_kind_of_finding_is_explained_to_operators() -> None:
    page = (Path(__file__).parents[4] / "docs" / "verification.md").read_text(encoding="utf-8")
    assert {reason for reason in Reason if f"`{reason}`" not in page} == set()
