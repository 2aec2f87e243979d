"""The tree over a copied log, in temporary files: any root and any proof can be had, and memory stays flat."""

import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from typing import IO, Final, Self

from consent.eventlog.merkle import HASH_BYTES, Frontier
from consent.eventlog.proof import consistency_proof, inclusion_proof, root_from_nodes

_BUFFER_BYTES: Final = 1 << 16
_REMEMBERED_ROOTS: Final = 1_024


class LogTree:
    """Grows leaf by leaf and keeps every node of a complete subtree: 64 bytes of temporary file for each entry."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._levels: list[IO[bytes]] = []
        self._is_flushed = True
        self.root_at: Callable[[int], bytes] = lru_cache(_REMEMBERED_ROOTS)(self._root_at)
        """Root of the first so many leaves, 32 bytes; `ProofOutOfRange` or `IndexError` where there are not as many."""

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the files."""
        for level in self._levels:
            level.close()

    @property
    def size(self) -> int:
        """Leaves in it."""
        return self._frontier.size

    def root_hash(self) -> bytes:
        """Of all leaves, 32 bytes."""
        return self._frontier.root_hash()

    def append(self, leaf_hash: bytes) -> None:
        """Add a leaf (32 bytes).

        Raises:
            MalformedLeaf: It has another length.
            OSError: The disk for temporary files is full.
        """
        for level, _, node_hash in self._frontier.append(leaf_hash):
            if level == len(self._levels):
                self._levels.append(tempfile.TemporaryFile(buffering=_BUFFER_BYTES))  # noqa: SIM115 - closed in __exit__
            self._levels[level].write(node_hash)
        self._is_flushed = False

    def inclusion_proof(self, seq: int, size: int) -> tuple[bytes, ...]:
        """That entry `seq` is in the tree of the first `size` ones (`consent.eventlog.proof.inclusion_proof`)."""
        return inclusion_proof(seq - 1, size, self._node_at)

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """That the larger tree begins with the smaller one (`consent.eventlog.proof.consistency_proof`)."""
        return consistency_proof(old_size, new_size, self._node_at)

    def _root_at(self, size: int) -> bytes:
        return root_from_nodes(size, self._node_at)

    def _node_at(self, level: int, index: int) -> bytes:
        if not self._is_flushed:
            for file in self._levels:
                file.flush()
            self._is_flushed = True
        node_hash = os.pread(self._levels[level].fileno(), HASH_BYTES, index * HASH_BYTES)
        if len(node_hash) != HASH_BYTES:
            raise IndexError("no such node")
        return node_hash
