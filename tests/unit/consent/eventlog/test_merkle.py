import json
from hashlib import sha256
from pathlib import Path

import pytest

from consent.eventlog.errors import MalformedFrontier, MalformedLeaf
from consent.eventlog.merkle import (
    EMPTY_ROOT_HASH,
    MAX_TREE_SIZE,
    Frontier,
    commit,
    hash_children,
    hash_leaf,
    leaf_data,
    parse_frontier,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "eventlog" / "rfc6962.json"
HASHES = [sha256(bytes([number])).digest() for number in range(8)]


def test_frontier_published_tree_gives_every_published_root() -> None:
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    frontier = Frontier()
    root_hashes = [frontier.root_hash().hex()]
    for leaf in vectors["leaves"]:
        frontier.append(hash_leaf(bytes.fromhex(leaf)))
        root_hashes.append(frontier.root_hash().hex())
    assert root_hashes == vectors["roots"]


def test_frontier_empty_has_root_of_no_bytes() -> None:
    assert Frontier().root_hash() == EMPTY_ROOT_HASH == sha256(b"").digest()


def test_hash_leaf_and_hash_children_differ_by_prefix() -> None:
    assert hash_leaf(HASHES[0] + HASHES[1]) == sha256(b"\x00" + HASHES[0] + HASHES[1]).digest()
    assert hash_children(HASHES[0], HASHES[1]) == sha256(b"\x01" + HASHES[0] + HASHES[1]).digest()


def test_commit_opening_and_event_are_hashed_in_this_order() -> None:
    assert commit(b"o" * 32, b"event") == sha256(b"o" * 32 + b"event").digest()


@pytest.mark.parametrize("opening_bytes", [0, 31, 33])
def test_commit_opening_of_other_length_is_refused(opening_bytes: int) -> None:
    with pytest.raises(MalformedLeaf, match="opening"):
        commit(bytes(opening_bytes), b"event")


def test_leaf_data_is_type_byte_and_commitment() -> None:
    assert leaf_data(0x80, HASHES[0]) == b"\x80" + HASHES[0]


@pytest.mark.parametrize(
    ("event_type", "commitment_hash", "named"),
    [(-1, HASHES[0], "event_type"), (256, HASHES[0], "event_type"), (1, HASHES[0][1:], "commitment_hash")],
)
def test_leaf_data_wrong_part_is_refused(event_type: int, commitment_hash: bytes, named: str) -> None:
    with pytest.raises(MalformedLeaf, match=named):
        leaf_data(event_type, commitment_hash)


def test_append_fourth_leaf_returns_leaf_and_both_completed_nodes() -> None:
    frontier = Frontier()
    for leaf_hash in HASHES[:3]:
        frontier.append(leaf_hash)
    left, right = hash_children(HASHES[0], HASHES[1]), hash_children(HASHES[2], HASHES[3])
    assert frontier.append(HASHES[3]) == [(0, 3, HASHES[3]), (1, 1, right), (2, 0, hash_children(left, right))]


def test_frontier_hashes_stand_largest_subtree_first() -> None:
    frontier = Frontier()
    for leaf_hash in HASHES[:3]:
        frontier.append(leaf_hash)
    assert (frontier.size, frontier.hashes) == (3, (hash_children(HASHES[0], HASHES[1]), HASHES[2]))


@pytest.mark.parametrize("leaf_hash", [b"", HASHES[0][:31], HASHES[0] + b"\0"])
def test_append_hash_of_other_length_is_refused_and_changes_nothing(leaf_hash: bytes) -> None:
    frontier = Frontier(1, HASHES[:1])
    with pytest.raises(MalformedLeaf):
        frontier.append(leaf_hash)
    assert frontier == Frontier(1, HASHES[:1])


def test_append_to_full_tree_is_refused() -> None:
    with pytest.raises(MalformedLeaf):
        Frontier(MAX_TREE_SIZE, HASHES[:1] * 63).append(HASHES[0])


def test_copy_append_leaves_the_other_untouched() -> None:
    frontier = Frontier(1, HASHES[:1])
    copied = frontier.copy()
    copied.append(HASHES[1])
    assert (frontier.size, frontier.hashes) == (1, (HASHES[0],))
    assert copied.size == 2


def test_frontier_of_other_size_or_hashes_is_unequal() -> None:
    assert Frontier(1, HASHES[:1]) not in (Frontier(1, HASHES[1:2]), Frontier(2, HASHES[:1]), b"")


def test_frontier_repr_shows_size_and_root() -> None:
    assert repr(Frontier(1, HASHES[:1])) == f"Frontier(size=1, root_hash={HASHES[0].hex()})"


def test_frontier_to_bytes_has_the_written_layout() -> None:
    expected = b"\x01" + (3).to_bytes(8, "big") + HASHES[0] + HASHES[1]
    assert Frontier(3, HASHES[:2]).to_bytes() == expected
    assert parse_frontier(expected) == Frontier(3, HASHES[:2])


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(-1, HASHES[:1]), (2**63, HASHES[:1]), (3, HASHES[:1]), (0, HASHES[:1]), (1, []), (1, [HASHES[0][1:]])],
)
def test_frontier_parts_that_do_not_fit_are_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(MalformedFrontier):
        Frontier(size, hashes)


@pytest.mark.parametrize(
    "frontier_bytes",
    [
        b"",
        b"\x01",
        b"\x02" + bytes(8),
        b"\x01" + bytes(7),
        b"\x01" + bytes(8) + b"\0",
        b"\x01" + bytes(8) + HASHES[0],
        b"\x01" + (1).to_bytes(8, "big") + HASHES[0][:31],
        b"\x01" + (1).to_bytes(8, "big") + HASHES[0] + b"\0",
        b"\x01" + (2**63).to_bytes(8, "big") + HASHES[0],
    ],
)
def test_parse_frontier_malformed_bytes_are_refused(frontier_bytes: bytes) -> None:
    with pytest.raises(MalformedFrontier):
        parse_frontier(frontier_bytes)
