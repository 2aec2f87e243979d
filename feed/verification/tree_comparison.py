"""Grows the tree anew beside the one that is stored, and names the nodes at which they part."""

from collections.abc import Callable

from consent.eventlog.merkle import Frontier
from feed.log_store.tree import node_position
from feed.verification.findings import Finding, Reason

TakeNode = Callable[[int], bytes | None]


class TreeComparison:
    """A subtree of the log's tree, or the tree above complete subtrees of one size.

    A node is compared wherever it is completed, and named only if both its children are as stored: those above follow from it.

    Args:
        take_node: Hash of the stored node at a position (`node_position`), None where there is none.
        level: Of what is appended: 0 for leaves.
        first_index: Index on that level of what is appended first; a multiple of the size that the subtree may grow to.

    Attributes:
        frontier: Right edge of what was appended.
        findings: Where they part, so far.
    """

    def __init__(self, take_node: TakeNode, *, level: int, first_index: int) -> None:
        self.frontier = Frontier()
        self.findings: list[Finding] = []
        self._take_node = take_node
        self._level = level
        self._first_index = first_index
        self._wrong: set[tuple[int, int]] = set()

    @property
    def is_root_wrong(self) -> bool:
        """Whether the root of a complete subtree is not the stored one."""
        return (self.frontier.size.bit_length() - 1, 0) in self._wrong

    def append(self, node_hash: bytes, *, is_known_wrong: bool = False) -> None:
        """Append the next node of the lowest level and compare what it completes.

        Args:
            node_hash: Its hash, 32 bytes.
            is_known_wrong: It was named before: that the stored one is another says nothing more.
        """
        for height, index, completed_hash in self.frontier.append(node_hash):
            position = node_position(self._level + height, (self._first_index >> height) + index)
            if height == 0 and is_known_wrong:
                self._take_node(position)
                self._wrong.add((0, index))
            elif (stored := self._take_node(position)) != completed_hash:
                self._part(height, index, is_missing=stored is None)

    def _part(self, height: int, index: int, *, is_missing: bool) -> None:
        wrong = self._wrong
        if (height - 1, 2 * index) not in wrong and (height - 1, 2 * index + 1) not in wrong:
            level, place = self._level + height, (self._first_index >> height) + index
            name = (
                f"the stored leaf of entry {place + 1}" if level == 0 else f"the stored node {place} of level {level}"
            )
            text = f"{name} is missing" if is_missing else f"{name} is not what the entries hash to"
            reason = Reason.LEAF_MISMATCH if level == 0 else Reason.NODE_MISMATCH
            self.findings.append(Finding(reason, text, (place << level) + 1))
        wrong.add((height, index))
