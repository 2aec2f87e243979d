"""The tree against RFC 6962's recursion, and its proofs against every small lie."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier, hash_leaf, parse_frontier
from consent.eventlog.proof import (
    consistency_proof,
    inclusion_proof,
    root_from_nodes,
    verify_consistency,
    verify_inclusion,
)
from tests.unit.consent.eventlog.trees import StoredTree, recursive_root

MAX_LEAVES = 80
LEAF_HASHES = [hash_leaf(bytes([number])) for number in range(MAX_LEAVES)]
TREE = StoredTree()
TREE.append(*LEAF_HASHES)


@st.composite
def frontiers(draw: st.DrawFn) -> Frontier:
    size = draw(st.integers(0, 2**63 - 1))
    seed = draw(st.integers(0, 255))
    return Frontier(size, [sha256(bytes([seed, number])).digest() for number in range(size.bit_count())])


def _flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8 % len(content)] ^= 1 << bit % 8
    return bytes(flipped)


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_frontier_root_is_that_of_the_recursion(leaves: list[bytes]) -> None:
    leaf_hashes = [hash_leaf(leaf) for leaf in leaves]
    frontier = Frontier()
    for leaf_hash in leaf_hashes:
        frontier.append(leaf_hash)
    assert frontier.root_hash() == recursive_root(leaf_hashes)


def test_append_returns_every_complete_node_with_its_hash() -> None:
    complete = {(level, index) for level in range(7) for index in range(MAX_LEAVES >> level)}
    assert set(TREE.nodes) == complete
    for level, index in complete:
        span = LEAF_HASHES[index << level : (index + 1) << level]
        assert TREE.nodes[level, index] == recursive_root(span)


@given(st.integers(0, MAX_LEAVES))
def test_root_from_nodes_is_that_of_the_recursion(size: int) -> None:
    assert root_from_nodes(size, TREE.node_at) == recursive_root(LEAF_HASHES[:size])


def test_inclusion_proof_of_every_leaf_in_every_tree_verifies() -> None:
    for size in range(1, MAX_LEAVES + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, TREE.node_at)
            verify_inclusion(LEAF_HASHES[index], index, size, proof, TREE.root_hashes[size])


def test_consistency_proof_between_every_two_trees_verifies() -> None:
    for new_size in range(MAX_LEAVES + 1):
        for old_size in range(new_size + 1):
            proof = consistency_proof(old_size, new_size, TREE.node_at)
            verify_consistency(old_size, TREE.root_hashes[old_size], new_size, TREE.root_hashes[new_size], proof)


@given(st.data())
def test_inclusion_proof_with_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, MAX_LEAVES))
    index = data.draw(st.integers(0, size - 1))
    parts = [LEAF_HASHES[index], TREE.root_hashes[size], *inclusion_proof(index, size, TREE.node_at)]
    number = data.draw(st.integers(0, len(parts) - 1))
    parts[number] = _flip(parts[number], data.draw(st.integers(0, 255)))
    leaf_hash, root_hash, *proof = parts
    with pytest.raises(EventLogError):
        verify_inclusion(leaf_hash, index, size, proof, root_hash)


@given(st.data())
def test_consistency_proof_with_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    new_size = data.draw(st.integers(1, MAX_LEAVES))
    old_size = data.draw(st.integers(1, new_size))
    proof = consistency_proof(old_size, new_size, TREE.node_at)
    parts = [TREE.root_hashes[old_size], TREE.root_hashes[new_size], *proof]
    number = data.draw(st.integers(0, len(parts) - 1))
    parts[number] = _flip(parts[number], data.draw(st.integers(0, 255)))
    old_root_hash, new_root_hash, *proof_with_flip = parts
    with pytest.raises(EventLogError):
        verify_consistency(old_size, old_root_hash, new_size, new_root_hash, proof_with_flip)


@given(st.data())
def test_consistency_proof_to_a_rewritten_tree_is_refused(data: st.DataObject) -> None:
    new_size = data.draw(st.integers(1, 40))
    old_size = data.draw(st.integers(1, new_size))
    rewritten = data.draw(st.integers(0, old_size - 1))
    leaf_hashes = LEAF_HASHES[:new_size]
    leaf_hashes[rewritten] = hash_leaf(b"another leaf")
    other = StoredTree()
    other.append(*leaf_hashes)
    proof = consistency_proof(old_size, new_size, other.node_at)
    with pytest.raises(EventLogError):
        verify_consistency(old_size, TREE.root_hashes[old_size], new_size, other.root_hashes[new_size], proof)


SIZES = st.integers(-2, 2**64)
PROOFS = st.lists(st.sampled_from(TREE.root_hashes) | st.binary(max_size=33))


@given(SIZES, SIZES, PROOFS)
def test_verify_inclusion_garbage_raises_only_our_errors(index: int, size: int, proof: list[bytes]) -> None:
    with contextlib.suppress(EventLogError):
        verify_inclusion(LEAF_HASHES[0], index, size, proof, TREE.root_hashes[1])


@given(SIZES, SIZES, PROOFS)
def test_verify_consistency_garbage_raises_only_our_errors(old_size: int, new_size: int, proof: list[bytes]) -> None:
    with contextlib.suppress(EventLogError):
        verify_consistency(old_size, TREE.root_hashes[2], new_size, TREE.root_hashes[3], proof)


@given(frontiers())
def test_parse_frontier_reads_what_to_bytes_wrote(frontier: Frontier) -> None:
    assert parse_frontier(frontier.to_bytes()) == frontier


@given(frontiers().map(Frontier.to_bytes), st.data())
def test_parse_frontier_of_changed_bytes_differs_or_is_refused(frontier_bytes: bytes, data: st.DataObject) -> None:
    changed = data.draw(
        st.just(_flip(frontier_bytes, data.draw(st.integers(0, 8 * len(frontier_bytes) - 1))))
        | st.integers(0, len(frontier_bytes) - 1).map(lambda end: frontier_bytes[:end])
        | st.binary(max_size=80)
    )
    try:
        parsed = parse_frontier(changed)
    except EventLogError:
        return
    assert parsed.to_bytes() == changed
