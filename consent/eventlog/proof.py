"""Inclusion and consistency proofs: built after RFC 6962 section 2.1, verified after RFC 9162 section 2.1.

Builders read O(log size) nodes of complete subtrees through `NodeAt`; such nodes never change once they exist.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from consent.eventlog.errors import InvalidProof, ProofOutOfRange
from consent.eventlog.merkle import EMPTY_ROOT_HASH, HASH_BYTES, fold_right_edge, hash_children

#: (level, index) -> hash of the complete subtree of 2^level leaves at that index, 32 bytes (`merkle.Node`).
NodeAt: TypeAlias = Callable[[int, int], bytes]


def inclusion_proof(index: int, size: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """Prove that the leaf at `index` is in the tree of the first `size` leaves (RFC 6962 section 2.1.1).

    Returns:
        The sibling hashes from the leaf up.

    Raises:
        ProofOutOfRange: There is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ProofOutOfRange("index: must lie inside the tree")
    return tuple(_siblings(0, index, size, node_at))


def consistency_proof(old_size: int, new_size: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """Prove that the tree of `new_size` leaves starts with that of `old_size` (RFC 6962 section 2.1.2).

    Returns:
        The hashes in the order of the RFC; empty where the sizes are equal or the old tree is empty.

    Raises:
        ProofOutOfRange: The old size is negative or above the new one.
    """
    if not 0 <= old_size <= new_size:
        raise ProofOutOfRange("old_size: must lie between 0 and new_size")
    if old_size in (0, new_size):
        return ()
    # The old tree ends in a complete subtree of 2^level leaves; if that is all of it, the verifier knows its hash.
    level = (old_size & -old_size).bit_length() - 1
    index = (old_size >> level) - 1
    seed = () if index == 0 else (node_at(level, index),)
    return (*seed, *_siblings(level, index, new_size, node_at))


def root_from_nodes(size: int, node_at: NodeAt) -> bytes:
    """Compute the root of the first `size` leaves, 32 bytes.

    Raises:
        ProofOutOfRange: The size is negative.
    """
    if size < 0:
        raise ProofOutOfRange("size: must not be negative")
    return _range_hash(0, size, node_at)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Check an inclusion proof (RFC 9162 section 2.1.3.2).

    Raises:
        ProofOutOfRange: There is no such leaf in a tree of that size.
        InvalidProof: The proof does not lead to the root, or a hash has the wrong length.
    """
    _check_hashes(root_hash)
    if root_from_inclusion(leaf_hash, index, size, proof) != root_hash:
        raise InvalidProof("proof: does not lead to the root")


def root_from_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Compute the root that an inclusion proof leads to, 32 bytes; whether it is the right one, the caller must know.

    Raises:
        ProofOutOfRange: There is no such leaf in a tree of that size.
        InvalidProof: The proof has not the length for this place, or a hash has the wrong length.
    """
    if not 0 <= index < size:
        raise ProofOutOfRange("index: must lie inside the tree")
    _check_hashes(leaf_hash, *proof)
    node, last = index, size - 1
    reached = leaf_hash
    for sibling in proof:
        if last == 0:
            raise InvalidProof("proof: too long")
        if node & 1 or node == last:
            reached = hash_children(sibling, reached)
            node, last = _skip_single_nodes(node, last)
        else:
            reached = hash_children(reached, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise InvalidProof("proof: too short")
    return reached


def verify_consistency(
    old_size: int, old_root_hash: bytes, new_size: int, new_root_hash: bytes, proof: Sequence[bytes]
) -> None:
    """Check a consistency proof (RFC 9162 section 2.1.4.2).

    Raises:
        ProofOutOfRange: The old size is negative or above the new one.
        InvalidProof: The new tree does not start with the old one, or a hash has the wrong length.
    """
    if not 0 <= old_size <= new_size:
        raise ProofOutOfRange("old_size: must lie between 0 and new_size")
    _check_hashes(old_root_hash, new_root_hash, *proof)
    if old_size in (0, new_size):
        # The RFC leaves these to the caller: an empty tree starts every tree, and a tree starts itself.
        expected_hash = EMPTY_ROOT_HASH if old_size == 0 else new_root_hash
        if proof or old_root_hash != expected_hash or (new_size == 0 and new_root_hash != EMPTY_ROOT_HASH):
            raise InvalidProof("proof: an empty or unchanged tree needs no proof and has one root")
        return
    is_complete_subtree = old_size & (old_size - 1) == 0
    path = (old_root_hash, *proof) if is_complete_subtree else tuple(proof)
    if not path:
        raise InvalidProof("proof: too short")
    reached_old_hash, reached_new_hash = _climb_both(old_size, new_size, path)
    if reached_old_hash != old_root_hash:
        raise InvalidProof("proof: does not lead to the old root")
    if reached_new_hash != new_root_hash:
        raise InvalidProof("proof: does not lead to the new root")


def _climb_both(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Compute old and new root from the last complete subtree of the old tree upwards."""
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    reached_old_hash = reached_new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise InvalidProof("proof: too long")
        if node & 1 or node == last:
            reached_old_hash = hash_children(sibling, reached_old_hash)
            reached_new_hash = hash_children(sibling, reached_new_hash)
            node, last = _skip_single_nodes(node, last)
        else:
            reached_new_hash = hash_children(reached_new_hash, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise InvalidProof("proof: too short")
    return reached_old_hash, reached_new_hash


def _skip_single_nodes(node: int, last: int) -> tuple[int, int]:
    """Rise over the levels on which the last node has no sibling and is its own parent."""
    while node and not node & 1:
        node >>= 1
        last >>= 1
    return node, last


def _check_hashes(*hashes: bytes) -> None:
    # Two hashes of 31 and 33 bytes would hash like two of 32.
    if any(len(node_hash) != HASH_BYTES for node_hash in hashes):
        raise InvalidProof(f"proof: each hash must be {HASH_BYTES} bytes")


def _siblings(level: int, index: int, size: int, node_at: NodeAt) -> Iterator[bytes]:
    """Yield the siblings of the path from the node (level, index) to the root of the first `size` leaves."""
    last = (size - 1) >> level
    while last:
        if index & 1:
            yield node_at(level, index - 1)
        elif index < last:
            start = (index + 1) << level
            yield _range_hash(start, min(start + (1 << level), size), node_at)
        level += 1
        index >>= 1
        last >>= 1


def _range_hash(start: int, end: int, node_at: NodeAt) -> bytes:
    """Compute the root over leaves [start, end), where a subtree that could hold them begins at `start`."""
    hashes = []
    while start < end:
        level = (end - start).bit_length() - 1
        hashes.append(node_at(level, start >> level))
        start += 1 << level
    return fold_right_edge(hashes)
