from pathlib import Path

import pytest

from consent.eventlog.merkle import EMPTY_ROOT_HASH, Frontier
from consent.eventlog.proof import verify_consistency, verify_inclusion
from feed.errors import CorruptLog, EntryUnknown
from feed.log_store.tree import LogTree, node_position
from tests.fakes.feed_log import OpenLog, make_request, open_log


def test_node_position_is_each_nodes_own_and_new_nodes_have_the_largest() -> None:
    frontier, seen = Frontier(), -1
    positions = set()
    for _ in range(64):
        nodes = [node_position(level, index) for level, index, _ in frontier.append(bytes(32))]
        # A leaf stands to the right of all that were there before it; the nodes that it completes stand to its left.
        assert nodes[0] > seen
        seen = nodes[0]
        positions.update(nodes)
    assert positions == set(range(127))


async def fill(log: OpenLog, requests: int) -> LogTree:
    for number in range(requests):
        await log.sequencer.submit(make_request(f"person-{number}"))
    return LogTree(log.store, lambda: log.sequencer.head)


async def test_log_tree_proves_every_entry_and_every_prefix(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        tree = await fill(log, 6)
        size = log.sequencer.head.size
        nodes = await log.store.read_nodes([(0, index) for index in range(size)])
        for tree_size in range(1, size + 1):
            root_hash = await tree.root_hash(tree_size)
            for seq in range(1, tree_size + 1):
                path, proven_root_hash = await tree.inclusion_proof(seq, tree_size)
                assert proven_root_hash == root_hash
                verify_inclusion(nodes[0, seq - 1], seq - 1, tree_size, path, root_hash)
            for old_size in range(tree_size + 1):
                proof = await tree.consistency_proof(old_size, tree_size)
                old_root_hash = await tree.root_hash(old_size)
                verify_consistency(old_size, old_root_hash, tree_size, root_hash, proof)
        assert await tree.root_hash(size) == log.sequencer.head.frontier.root_hash()
        assert await tree.root_hash(0) == EMPTY_ROOT_HASH


async def test_log_tree_entry_or_size_beyond_the_log_is_unknown(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        tree = await fill(log, 1)
        for seq, size in ((0, 3), (4, 3), (3, 2), (1, 4), (-1, 3)):
            with pytest.raises(EntryUnknown):
                await tree.inclusion_proof(seq, size)
        for old_size, new_size in ((3, 2), (-1, 2), (1, 4), (4, 4)):
            with pytest.raises(EntryUnknown):
                await tree.consistency_proof(old_size, new_size)
        with pytest.raises(EntryUnknown):
            await tree.root_hash(4)


async def test_log_tree_damaged_or_missing_node_never_becomes_a_proof(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        tree = await fill(log, 4)
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE node SET hash = zeroblob(32) WHERE position = ?", (node_position(1, 1),))
        for seq in (1, 2, 3, 4):
            path, root_hash = await refused_or_right(tree, seq)
            if path:
                leaf = (await log.store.read_nodes([(0, seq - 1)]))[0, seq - 1]
                verify_inclusion(leaf, seq - 1, 9, path, root_hash)
        with pytest.raises(CorruptLog, match="does not lead to the head's root"):
            await tree.inclusion_proof(1, 9)
        async with log.store._database.writing() as connection:
            await connection.execute("DELETE FROM node WHERE position = ?", (node_position(1, 1),))
        with pytest.raises(CorruptLog, match="tree node 1 of level 1 is missing"):
            await tree.inclusion_proof(1, 9)


async def refused_or_right(tree: LogTree, seq: int) -> tuple[tuple[bytes, ...], bytes]:
    try:
        return await tree.inclusion_proof(seq, 9)
    except CorruptLog:
        return (), b""
