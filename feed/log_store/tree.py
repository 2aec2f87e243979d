"""Proofs out of a store: which nodes a proof needs, where they lie, and that what was read leads to the signed root."""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from consent.eventlog.errors import InvalidProof
from consent.eventlog.merkle import HASH_BYTES
from consent.eventlog.proof import (
    NodeAt,
    consistency_proof,
    inclusion_proof,
    root_from_nodes,
    verify_consistency,
    verify_inclusion,
)
from feed.errors import CorruptLog, EntryUnknown
from feed.log_store.port import LogStore
from feed.ports import FeedHead

_NO_HASH: Final = bytes(HASH_BYTES)
_Result = TypeVar("_Result")


def node_position(level: int, index: int) -> int:
    """The in-order number of a node: leaves have even numbers, a growing tree's new nodes the largest."""
    return (index << (level + 1)) + (1 << level) - 1


def needed_nodes(walk: Callable[[NodeAt], object]) -> list[tuple[int, int]]:
    """The places that `walk` reads; which they are never depends on the hashes."""
    places = []

    def record(level: int, index: int) -> bytes:
        places.append((level, index))
        return _NO_HASH

    walk(record)
    return places


def node_reader(nodes: Mapping[tuple[int, int], bytes]) -> NodeAt:
    """A `NodeAt` over nodes that were read; raises CorruptLog for one that is not among them."""

    def node_at(level: int, index: int) -> bytes:
        try:
            return nodes[level, index]
        except KeyError:
            raise CorruptLog(f"tree node {index} of level {level} is missing") from None

    return node_at


class LogTree:
    """Builds proofs, and hands on none that does not verify against the head: a damaged node must not look like a forged log.

    Args:
        store: Where the nodes are.
        current_head: Returns what is committed.
    """

    def __init__(self, store: LogStore, current_head: Callable[[], FeedHead]) -> None:
        self._store = store
        self._current_head = current_head

    async def root_hash(self, size: int) -> bytes:
        """The root of the first `size` entries, 32 bytes.

        Raises:
            EntryUnknown: The log is not that large.
            CorruptLog: The stored nodes do not lead to the head's root.
        """
        return await self._prefix_root(size, self._current_head())

    async def inclusion_proof(self, seq: int, size: int) -> tuple[tuple[bytes, ...], bytes]:
        """The audit path of an entry in the tree of the first `size` entries, and that tree's root.

        Raises:
            EntryUnknown: No such entry in a log of that size, or the log is not that large.
            CorruptLog: The stored nodes do not lead to the head's root.
        """
        if not 1 <= seq <= size:
            raise EntryUnknown("seq: must be 1 to tree_size")
        root_hash = await self.root_hash(size)
        leaf_hash, path = await self._walk(
            lambda node_at: (node_at(0, seq - 1), inclusion_proof(seq - 1, size, node_at))
        )
        _check(lambda: verify_inclusion(leaf_hash, seq - 1, size, path, root_hash))
        return path, root_hash

    async def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """That the first `old_size` entries are where the first `new_size` begin.

        Raises:
            EntryUnknown: The sizes are the wrong way round, or the log is not that large.
            CorruptLog: The stored nodes do not lead to the head's root.
        """
        if not 0 <= old_size <= new_size:
            raise EntryUnknown("old_size: must be 0 to new_size")
        head = self._current_head()
        old_root_hash = await self._prefix_root(old_size, head)
        new_root_hash = await self._prefix_root(new_size, head)
        proof = await self._walk(lambda node_at: consistency_proof(old_size, new_size, node_at))
        _check(lambda: verify_consistency(old_size, old_root_hash, new_size, new_root_hash, proof))
        return proof

    async def _prefix_root(self, size: int, head: FeedHead) -> bytes:
        if not 0 <= size <= head.size:
            raise EntryUnknown("size: the log is not that large")
        head_root_hash = head.frontier.root_hash()
        if size == head.size:
            return head_root_hash
        root_hash, proof = await self._walk(
            lambda node_at: (root_from_nodes(size, node_at), consistency_proof(size, head.size, node_at))
        )
        _check(lambda: verify_consistency(size, root_hash, head.size, head_root_hash, proof))
        return root_hash

    async def _walk(self, walk: Callable[[NodeAt], _Result]) -> _Result:
        return walk(node_reader(await self._store.read_nodes(needed_nodes(walk))))


def _check(verify: Callable[[], None]) -> None:
    try:
        verify()
    except InvalidProof:
        raise CorruptLog("the stored tree does not lead to the head's root") from None
