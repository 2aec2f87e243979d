import json
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.errors import InvalidProof, ProofOutOfRange
from consent.eventlog.merkle import EMPTY_ROOT_HASH, hash_children, hash_leaf
from consent.eventlog.proof import (
    consistency_proof,
    inclusion_proof,
    root_from_nodes,
    verify_consistency,
    verify_inclusion,
)
from tests.unit.consent.eventlog.trees import StoredTree

VECTORS = Path(__file__).parents[3] / "vectors" / "eventlog" / "rfc6962.json"


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def tree(vectors: dict[str, Any]) -> StoredTree:
    tree = StoredTree()
    tree.append(*(hash_leaf(bytes.fromhex(leaf)) for leaf in vectors["leaves"]))
    return tree


def test_inclusion_proof_published_cases_are_met(vectors: dict[str, Any], tree: StoredTree) -> None:
    for case in vectors["inclusion"]:
        index, size = case["index"], case["size"]
        proof = inclusion_proof(index, size, tree.node_at)
        assert [node_hash.hex() for node_hash in proof] == case["proof"]
        verify_inclusion(tree.nodes[0, index], index, size, proof, tree.root_hashes[size])


def test_consistency_proof_published_cases_are_met(vectors: dict[str, Any], tree: StoredTree) -> None:
    for case in vectors["consistency"]:
        old_size, new_size = case["old_size"], case["new_size"]
        proof = consistency_proof(old_size, new_size, tree.node_at)
        assert [node_hash.hex() for node_hash in proof] == case["proof"]
        verify_consistency(old_size, tree.root_hashes[old_size], new_size, tree.root_hashes[new_size], proof)


def test_root_from_nodes_every_size_gives_the_root(tree: StoredTree) -> None:
    assert [root_from_nodes(size, tree.node_at) for size in range(9)] == tree.root_hashes


def test_proofs_of_a_large_tree_read_only_few_nodes() -> None:
    tree = StoredTree()
    tree.append(*(hash_leaf(bytes([number & 0xFF])) for number in range(1023)))
    inclusion_proof(0, 1023, tree.node_at)
    assert len(tree.reads) <= 2 * 10
    tree.reads.clear()
    consistency_proof(511, 1023, tree.node_at)
    assert len(tree.reads) <= 2 * 10


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0), (0, -1)])
def test_inclusion_leaf_outside_the_tree_is_refused(tree: StoredTree, index: int, size: int) -> None:
    with pytest.raises(ProofOutOfRange):
        inclusion_proof(index, size, tree.node_at)
    with pytest.raises(ProofOutOfRange):
        verify_inclusion(tree.nodes[0, 0], index, size, (), tree.root_hashes[4])


@pytest.mark.parametrize(("old_size", "new_size"), [(-1, 4), (5, 4)])
def test_consistency_sizes_in_wrong_order_are_refused(tree: StoredTree, old_size: int, new_size: int) -> None:
    with pytest.raises(ProofOutOfRange):
        consistency_proof(old_size, new_size, tree.node_at)
    with pytest.raises(ProofOutOfRange):
        verify_consistency(old_size, tree.root_hashes[4], new_size, tree.root_hashes[4], ())


def test_root_from_nodes_negative_size_is_refused(tree: StoredTree) -> None:
    with pytest.raises(ProofOutOfRange):
        root_from_nodes(-1, tree.node_at)


@pytest.mark.parametrize("change", ["drop_first", "drop_last", "drop_all", "repeat_last", "append_root"])
def test_verify_inclusion_proof_of_wrong_length_is_refused(tree: StoredTree, change: str) -> None:
    for size in range(2, 9):
        for index in range(size):
            proof = _change(inclusion_proof(index, size, tree.node_at), change, tree.root_hashes[size])
            with pytest.raises(InvalidProof):
                verify_inclusion(tree.nodes[0, index], index, size, proof, tree.root_hashes[size])


@pytest.mark.parametrize("change", ["drop_first", "drop_last", "drop_all", "repeat_last", "append_root"])
def test_verify_consistency_proof_of_wrong_length_is_refused(tree: StoredTree, change: str) -> None:
    for new_size in range(2, 9):
        for old_size in range(1, new_size):
            proof = _change(consistency_proof(old_size, new_size, tree.node_at), change, tree.root_hashes[new_size])
            with pytest.raises(InvalidProof):
                verify_consistency(old_size, tree.root_hashes[old_size], new_size, tree.root_hashes[new_size], proof)


def test_verify_inclusion_proof_of_a_higher_or_lower_tree_is_refused(tree: StoredTree) -> None:
    # Both lead to the root given; only the length tells that the tree has another size.
    with pytest.raises(InvalidProof, match="too long"):
        verify_inclusion(tree.nodes[0, 1], 0, 1, inclusion_proof(1, 2, tree.node_at), tree.root_hashes[2])
    with pytest.raises(InvalidProof, match="too short"):
        verify_inclusion(tree.nodes[0, 0], 0, 4, inclusion_proof(0, 2, tree.node_at), tree.root_hashes[2])


def test_verify_consistency_proof_of_higher_or_lower_trees_is_refused(tree: StoredTree) -> None:
    proof = consistency_proof(7, 8, tree.node_at)
    with pytest.raises(InvalidProof, match="too long"):
        verify_consistency(3, tree.root_hashes[7], 4, tree.root_hashes[8], proof)
    proof = consistency_proof(3, 4, tree.node_at)
    with pytest.raises(InvalidProof, match="too short"):
        verify_consistency(3, tree.root_hashes[3], 8, tree.root_hashes[4], proof)


def test_consistency_proof_between_equal_trees_is_empty(tree: StoredTree) -> None:
    assert consistency_proof(6, 6, tree.node_at) == ()


def test_verify_inclusion_under_another_index_is_refused(tree: StoredTree) -> None:
    proof = inclusion_proof(2, 8, tree.node_at)
    for index in set(range(8)) - {2}:
        with pytest.raises(InvalidProof):
            verify_inclusion(tree.nodes[0, 2], index, 8, proof, tree.root_hashes[8])


def test_verify_inclusion_hashes_cut_elsewhere_are_refused(tree: StoredTree) -> None:
    leaf_hash, sibling = tree.nodes[0, 0], tree.nodes[0, 1]
    root_hash = hash_children(leaf_hash + sibling[:1], sibling[1:])
    assert root_hash == tree.root_hashes[2]
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_inclusion(leaf_hash + sibling[:1], 0, 2, (sibling[1:],), root_hash)


def test_verify_consistency_hash_of_other_length_is_refused(tree: StoredTree) -> None:
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_consistency(1, tree.root_hashes[1], 2, tree.root_hashes[2], (tree.nodes[0, 1] + b"\0",))


def test_verify_consistency_wrong_old_root_is_refused(tree: StoredTree) -> None:
    proof = consistency_proof(3, 8, tree.node_at)
    with pytest.raises(InvalidProof, match="old root"):
        verify_consistency(3, tree.root_hashes[4], 8, tree.root_hashes[8], proof)


def test_verify_consistency_wrong_new_root_is_refused(tree: StoredTree) -> None:
    proof = consistency_proof(3, 8, tree.node_at)
    with pytest.raises(InvalidProof, match="new root"):
        verify_consistency(3, tree.root_hashes[3], 8, tree.root_hashes[7], proof)


def test_verify_consistency_empty_and_equal_trees_need_no_proof(tree: StoredTree) -> None:
    verify_consistency(0, EMPTY_ROOT_HASH, 0, EMPTY_ROOT_HASH, ())
    verify_consistency(0, EMPTY_ROOT_HASH, 8, tree.root_hashes[8], ())
    verify_consistency(8, tree.root_hashes[8], 8, tree.root_hashes[8], ())


@pytest.mark.parametrize(
    ("old_size", "old_root", "new_size", "new_root", "proof_length"),
    [(0, 1, 8, 8, 0), (0, 0, 8, 8, 1), (8, 7, 8, 8, 0), (8, 8, 8, 8, 1), (0, 0, 0, 1, 0), (0, 1, 0, 1, 0)],
)
def test_verify_consistency_empty_or_equal_trees_that_contradict_are_refused(
    tree: StoredTree, old_size: int, old_root: int, new_size: int, new_root: int, proof_length: int
) -> None:
    proof = tree.root_hashes[:proof_length]
    with pytest.raises(InvalidProof):
        verify_consistency(old_size, tree.root_hashes[old_root], new_size, tree.root_hashes[new_root], proof)


def _change(proof: tuple[bytes, ...], change: str, root_hash: bytes) -> tuple[bytes, ...]:
    changed = {
        "drop_first": proof[1:],
        "drop_last": proof[:-1],
        "drop_all": (),
        "repeat_last": proof + proof[-1:],
        "append_root": (*proof, root_hash),
    }
    return changed[change]
