"""The log's Merkle tree after RFC 6962 section 2.1 (SHA-256), and the commitments that are its leaves.

A leaf commits to an event without holding it: delete the opening and the event, and every proof stays valid.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Self, TypeAlias

from consent.eventlog.errors import MalformedFrontier, MalformedLeaf

HASH_BYTES = 32
OPENING_BYTES = 32
#: Sizes travel as u64 and are stored as signed 64-bit integers.
MAX_TREE_SIZE = 2**63 - 1
#: Root of the tree without leaves.
EMPTY_ROOT_HASH = sha256(b"").digest()

#: Level (0 = leaf), index on that level, hash: the root of the complete subtree of 2^level leaves at that index.
Node: TypeAlias = tuple[int, int, bytes]

_FRONTIER_VERSION = b"\x01"
_FRONTIER_HEAD_BYTES = 9


def commit(opening: bytes, event_bytes: bytes) -> bytes:
    """Commit to an event: SHA-256(opening || event_bytes).

    Args:
        opening: 32 secret random bytes, one draw per entry. Without them nobody can test a guess of the event.
        event_bytes: The canonical bytes of the event.

    Returns:
        The commitment hash, 32 bytes.

    Raises:
        MalformedLeaf: The opening is not 32 bytes long.
    """
    if len(opening) != OPENING_BYTES:
        raise MalformedLeaf(f"opening: must be {OPENING_BYTES} bytes")
    return sha256(opening + event_bytes).digest()


def leaf_data(event_type: int, commitment_hash: bytes) -> bytes:
    """Build what the tree hashes for one event: u8 type || commitment (33 bytes).

    Raises:
        MalformedLeaf: The type is not a u8 or the commitment not 32 bytes long.
    """
    if not 0 <= event_type <= 0xFF:
        raise MalformedLeaf("event_type: must be 0 to 255")
    if len(commitment_hash) != HASH_BYTES:
        raise MalformedLeaf(f"commitment_hash: must be {HASH_BYTES} bytes")
    return bytes((event_type,)) + commitment_hash


def hash_leaf(leaf_data: bytes) -> bytes:
    """Hash a leaf: SHA-256(0x00 || leaf_data), 32 bytes."""
    return sha256(b"\x00" + leaf_data).digest()


def hash_entry(event_type: int, opening: bytes, event_bytes: bytes) -> bytes:
    """Hash an entry to its leaf, 32 bytes: `hash_leaf(leaf_data(event_type, commit(opening, event_bytes)))` in one step.

    Raises:
        MalformedLeaf: The opening is not 32 bytes long or the type not a u8.
    """
    # Every entry passes here, wherever a log is synced or verified.
    if len(opening) != OPENING_BYTES or not 0 <= event_type <= 0xFF:
        raise MalformedLeaf(f"entry: an opening has {OPENING_BYTES} bytes, a type fits a byte")
    return sha256(b"\x00" + event_type.to_bytes() + sha256(opening + event_bytes).digest()).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256(0x01 || left || right), 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    It holds the roots of the complete subtrees that the binary digits of `size` name, so at most 63 hashes.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Take up a tree of `size` leaves.

        Args:
            size: Number of leaves.
            hashes: One root of a complete subtree per set bit of `size`, largest subtree first.

        Raises:
            MalformedFrontier: Size and hashes do not fit together.
        """
        if not 0 <= size <= MAX_TREE_SIZE:
            raise MalformedFrontier("size: out of range")
        if len(hashes) != size.bit_count():
            raise MalformedFrontier("hashes: must be one per set bit of the size")
        if any(len(node_hash) != HASH_BYTES for node_hash in hashes):
            raise MalformedFrontier(f"hashes: each must be {HASH_BYTES} bytes")
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Roots of the complete subtrees along the right edge, largest first."""
        return tuple(self._hashes)

    def append(self, leaf_hash: bytes) -> list[Node]:
        """Add one leaf.

        Returns:
            Every node that this leaf completes, the leaf itself first, then upwards. Each node of the growing tree is
            returned exactly once, so a store that keeps them can prove anything (`proof.NodeAt`).

        Raises:
            MalformedLeaf: The hash is not 32 bytes long, or the tree is full.
        """
        # Every synced entry passes here: plain locals, no calls but the hash.
        index = self._size
        if len(leaf_hash) != HASH_BYTES or index == MAX_TREE_SIZE:
            raise MalformedLeaf(f"leaf_hash: must be {HASH_BYTES} bytes, in a tree of at most {MAX_TREE_SIZE} leaves")
        self._size = index + 1
        hashes = self._hashes
        nodes: list[Node] = [(0, index, leaf_hash)]
        node_hash = leaf_hash
        level = 0
        while index & 1:
            node_hash = sha256(b"\x01" + hashes.pop() + node_hash).digest()
            index >>= 1
            level += 1
            nodes.append((level, index, node_hash))
        hashes.append(node_hash)
        return nodes

    def extend(self, leaf_hashes: Sequence[bytes]) -> None:
        """Add leaves as `append` does, for whoever keeps no nodes.

        Raises:
            MalformedLeaf: A hash is not 32 bytes long, or the tree would be full; nothing was added.
        """
        if (
            any(len(leaf_hash) != HASH_BYTES for leaf_hash in leaf_hashes)
            or len(leaf_hashes) > MAX_TREE_SIZE - self._size
        ):
            raise MalformedLeaf(f"leaf_hash: must be {HASH_BYTES} bytes, in a tree of at most {MAX_TREE_SIZE} leaves")
        hashes = self._hashes
        for index, leaf_hash in enumerate(leaf_hashes, start=self._size):
            node_hash, rest = leaf_hash, index
            while rest & 1:
                node_hash = sha256(b"\x01" + hashes.pop() + node_hash).digest()
                rest >>= 1
            hashes.append(node_hash)
        self._size += len(leaf_hashes)

    def root_hash(self) -> bytes:
        """Compute the root of the whole tree, 32 bytes."""
        return fold_right_edge(self._hashes)

    def copy(self) -> Self:
        """Return an independent frontier of the same tree, to try a batch on."""
        return type(self)(self._size, self._hashes)

    def to_bytes(self) -> bytes:
        """Write the frontier: u8 version 1, u64 size (big-endian), then the hashes."""
        return _FRONTIER_VERSION + self._size.to_bytes(8, "big") + b"".join(self._hashes)

    def __eq__(self, other: object) -> bool:
        """Compare size and hashes."""
        if not isinstance(other, Frontier):
            return NotImplemented
        return self._size == other._size and self._hashes == other._hashes

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        """Show size and root."""
        return f"Frontier(size={self._size}, root_hash={self.root_hash().hex()})"


def parse_frontier(frontier_bytes: bytes) -> Frontier:
    """Read what `Frontier.to_bytes` wrote.

    Raises:
        MalformedFrontier: Another version, a wrong length, or a size out of range.
    """
    if len(frontier_bytes) < _FRONTIER_HEAD_BYTES or frontier_bytes[:1] != _FRONTIER_VERSION:
        raise MalformedFrontier("frontier: unknown version or truncated")
    hashes_bytes = frontier_bytes[_FRONTIER_HEAD_BYTES:]
    starts = range(0, len(hashes_bytes), HASH_BYTES)
    size = int.from_bytes(frontier_bytes[1:_FRONTIER_HEAD_BYTES], "big")
    return Frontier(size, [hashes_bytes[start : start + HASH_BYTES] for start in starts])


def fold_right_edge(hashes: Sequence[bytes]) -> bytes:
    """Compute the root above adjacent complete subtrees of strictly falling size (largest first)."""
    if not hashes:
        return EMPTY_ROOT_HASH
    root_hash = hashes[-1]
    for left in reversed(hashes[:-1]):
        root_hash = hash_children(left, root_hash)
    return root_hash
