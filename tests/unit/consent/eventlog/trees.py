"""A tree kept whole for tests, and RFC 6962's own recursion to compare it with."""

from collections.abc import Sequence

from consent.eventlog.merkle import EMPTY_ROOT_HASH, Frontier, hash_children


class StoredTree:
    """Keeps every complete node and root, and remembers which nodes were read."""

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.root_hashes = [EMPTY_ROOT_HASH]
        self.reads: list[tuple[int, int]] = []

    def append(self, *leaf_hashes: bytes) -> None:
        for leaf_hash in leaf_hashes:
            for level, index, node_hash in self.frontier.append(leaf_hash):
                assert (level, index) not in self.nodes
                self.nodes[level, index] = node_hash
            self.root_hashes.append(self.frontier.root_hash())

    def node_at(self, level: int, index: int) -> bytes:
        self.reads.append((level, index))
        return self.nodes[level, index]


def recursive_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word, over hashed leaves."""
    if not leaf_hashes:
        return EMPTY_ROOT_HASH
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    split = 1 << (len(leaf_hashes) - 1).bit_length() - 1
    return hash_children(recursive_root(leaf_hashes[:split]), recursive_root(leaf_hashes[split:]))
