"""A damaged file: every flipped bit gives the same content or is found, and nothing else is ever served."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from consent.event import PolicyEvent
from consent.eventlog.proof import verify_inclusion
from consent.state import Cluster
from feed.errors import FeedError
from feed.log_store.port import LogStore
from feed.log_store.sqlite import DATABASE_NAME
from feed.log_store.tree import LogTree
from feed.ports import FeedHead, StoredEntry
from feed.sequencer import Sequencer
from feed.snapshots import FileSnapshots
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import (
    ORIGIN,
    make_link,
    make_policy,
    make_request,
    make_sequencer,
    make_submission,
    open_log,
    open_store,
    read_clusters,
)

PEOPLE = [f"person-{number}" for number in range(12)]
PAGE_BYTES = 4096
#: How many places are tried in the file's header, at the beginnings of its pages, and in all that is written elsewhere.
HEADER_PLACES, PAGE_PLACES, OTHER_PLACES = 25, 40, 75


@dataclass(frozen=True)
class Content:
    """All that a log says."""

    entries: list[StoredEntry]
    clusters: dict[bytes, Cluster]
    proofs: list[tuple[bytes, ...]]


async def fill(directory: Path) -> Content:
    async with open_log(directory) as log:
        for name in PEOPLE:
            await log.sequencer.submit(make_request(name))
        policy = PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy())
        await log.sequencer.submit(make_submission((policy, make_link(PEOPLE[0], PEOPLE[1]))))
        return await read_content(log.sequencer, log.store)


async def read_content(sequencer: Sequencer, store: LogStore) -> Content:
    head: FeedHead = sequencer.head
    tree = LogTree(store, lambda: head)
    proofs = []
    for seq in range(1, head.size + 1):
        path, root_hash = await tree.inclusion_proof(seq, head.size)
        leaf = (await store.read_nodes([(0, seq - 1)]))[0, seq - 1]
        verify_inclusion(leaf, seq - 1, head.size, path, root_hash)
        proofs.append(path)
    entries = [(await sequencer.read_entries(seq, 1))[0] for seq in range(1, head.size + 1)]
    return Content(entries, await read_clusters(store), proofs)


async def read_damaged(directory: Path) -> Content:
    """What a feed with this file serves; raises our errors only."""
    store = await open_store(directory / "log")
    try:
        sequencer = make_sequencer(store, FakeClock())
        await sequencer.start()
        try:
            content = await read_content(sequencer, store)
            snapshots = FileSnapshots.open(sequencer, store, directory / "chunks", origin=ORIGIN, max_lag_entries=0)
            await snapshots.newest()
            await snapshots.close()
            return content
        finally:
            await sequencer.close()
    finally:
        await store.close()


def choose_places(file_bytes: bytes) -> list[int]:
    """Places that hold something: most of a small file is empty, and nobody reads what is flipped there."""
    header = range(100)
    pages = [page + at for page in range(0, len(file_bytes), PAGE_BYTES) for at in range(16)]
    written = [place for place, byte in enumerate(file_bytes) if byte]
    groups = ((header, HEADER_PLACES), (pages, PAGE_PLACES), (written, OTHER_PLACES))
    return sorted({place for places, count in groups for place in places[:: len(places) // count]})


@pytest.fixture
async def whole(tmp_path: Path) -> tuple[bytes, Content]:
    content = await fill(tmp_path / "whole")
    return (tmp_path / "whole" / DATABASE_NAME).read_bytes(), content


async def test_log_with_a_flipped_byte_says_the_same_or_is_refused(
    tmp_path: Path, whole: tuple[bytes, Content]
) -> None:
    file_bytes, content = whole
    refused = 0
    places = choose_places(file_bytes)
    for place in places:
        damaged = bytearray(file_bytes)
        damaged[place] ^= 0xFF if place % 2 else 0x01
        directory = tmp_path / "damaged"
        (directory / "log").mkdir(parents=True)
        (directory / "log" / DATABASE_NAME).write_bytes(damaged)
        try:
            assert await read_damaged(directory) == content, f"byte {place}"
        except FeedError:
            refused += 1
        shutil.rmtree(directory)
    assert len(places) / 2 < refused < len(places)


async def test_log_cut_short_is_refused(tmp_path: Path, whole: tuple[bytes, Content]) -> None:
    file_bytes, _ = whole
    for kept in (50, 100, PAGE_BYTES, len(file_bytes) // 2, len(file_bytes) - PAGE_BYTES):
        directory = tmp_path / f"cut-{kept}"
        (directory / "log").mkdir(parents=True)
        (directory / "log" / DATABASE_NAME).write_bytes(file_bytes[:kept])
        with pytest.raises(FeedError):
            await read_damaged(directory)
