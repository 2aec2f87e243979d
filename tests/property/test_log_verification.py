"""Growing the tree in segments and beside a stored one is growing it leaf by leaf."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.errors import MalformedLeaf
from consent.eventlog.merkle import Frontier, commit, hash_entry, hash_leaf, leaf_data
from feed.log_store.tree import node_position
from feed.verification.findings import Reason
from feed.verification.tree_comparison import TreeComparison

_SIZES = st.integers(1, 70)
_LEVELS = st.integers(0, 4)


def _leaf(index: int) -> bytes:
    return sha256(index.to_bytes(8, "big")).digest()


def _store(size: int) -> dict[int, bytes]:
    frontier = Frontier()
    return {
        node_position(level, index): node_hash
        for leaf in range(size)
        for level, index, node_hash in frontier.append(_leaf(leaf))
    }


def _compare(
    size: int, segment_level: int, stored: dict[int, bytes]
) -> tuple[Frontier, list[tuple[Reason, int | None]]]:
    """As the verifier does it, with smaller segments."""
    above = TreeComparison(stored.get, level=segment_level, first_index=0)
    tail, findings, step = tuple[bytes, ...](), [], 1 << segment_level
    for first in range(0, size, step):
        segment = TreeComparison(stored.get, level=0, first_index=first)
        for leaf in range(first, min(first + step, size)):
            segment.append(_leaf(leaf))
        findings += segment.findings
        if segment.frontier.size == step:
            above.append(segment.frontier.hashes[0], is_known_wrong=segment.is_root_wrong)
        else:
            tail = segment.frontier.hashes
    found = [(finding.reason, finding.seq) for finding in (*findings, *above.findings)]
    return Frontier(size, (*above.frontier.hashes, *tail)), found


@given(_SIZES, _LEVELS)
def test_tree_in_segments_is_the_incremental_tree(size: int, segment_level: int) -> None:
    whole = Frontier()
    for leaf in range(size):
        whole.append(_leaf(leaf))
    assert _compare(size, segment_level, _store(size)) == (whole, [])


@given(_SIZES, _LEVELS, st.data())
def test_any_stored_node_changed_or_lost_is_named_and_no_other(
    size: int, segment_level: int, data: st.DataObject
) -> None:
    stored = _store(size)
    position = data.draw(st.sampled_from(sorted(stored)))
    # The number of trailing ones of an in-order number is the node's level.
    level = (~position & position + 1).bit_length() - 1
    index = position >> level + 1
    if data.draw(st.booleans()):
        del stored[position]
    else:
        stored[position] = bytes(32)
    _, found = _compare(size, segment_level, stored)
    assert found == [(Reason.NODE_MISMATCH if level else Reason.LEAF_MISMATCH, (index << level) + 1)]


@given(st.integers(0, 255), st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_hash_entry_is_the_leaf_hash_of_its_commitment(event_type: int, opening: bytes, event_bytes: bytes) -> None:
    assert hash_entry(event_type, opening, event_bytes) == hash_leaf(
        leaf_data(event_type, commit(opening, event_bytes))
    )


@given(st.integers(0, 40), st.integers(0, 40))
def test_extend_is_append_for_each_leaf(before: int, more: int) -> None:
    leaves = [_leaf(index) for index in range(before + more)]
    one_by_one, at_once = Frontier(), Frontier()
    for leaf in leaves:
        one_by_one.append(leaf)
    at_once.extend(leaves[:before])
    at_once.extend(leaves[before:])
    assert at_once == one_by_one


def test_extend_with_a_hash_of_another_size_adds_nothing() -> None:
    frontier = Frontier()
    with pytest.raises(MalformedLeaf):
        frontier.extend([_leaf(0), b"short"])
    assert frontier == Frontier()
