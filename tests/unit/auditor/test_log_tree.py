"""The tree of a copied log: every root and every proof, as the pure functions have them."""

import hashlib

import pytest

from auditor.log_tree import LogTree
from consent.eventlog.merkle import EMPTY_ROOT_HASH, Frontier
from consent.eventlog.proof import verify_consistency, verify_inclusion

SIZE = 67


def test_log_tree_has_every_root_and_every_proof() -> None:
    leaves = [hashlib.sha256(bytes((number,))).digest() for number in range(SIZE)]
    frontier, roots = Frontier(), [EMPTY_ROOT_HASH]
    with LogTree() as tree:
        for leaf in leaves:
            tree.append(leaf)
            frontier.append(leaf)
            roots.append(frontier.root_hash())
            assert tree.root_at(tree.size) == tree.root_hash() == roots[-1]
        assert [tree.root_at(size) for size in range(SIZE + 1)] == roots
        for seq in range(1, SIZE + 1):
            verify_inclusion(leaves[seq - 1], seq - 1, SIZE, tree.inclusion_proof(seq, SIZE), roots[SIZE])
            verify_consistency(seq, roots[seq], SIZE, roots[SIZE], tree.consistency_proof(seq, SIZE))
        with pytest.raises(IndexError):
            tree.root_at(SIZE + 1)
