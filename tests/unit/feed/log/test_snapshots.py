import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consent.event import PolicyEvent, StateRootEvent, parse_event
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.state import Cluster
from consent.state_record import StateHasher, parse_cluster, parse_tenant, split_records
from feed import snapshots as snapshots_module
from feed.errors import CorruptLog, EntryUnknown, LogStoreError, ShuttingDown
from feed.log_store import sqlite
from feed.ports import Snapshot, Submission
from feed.snapshots import FileSnapshots
from tests.fakes.feed_log import (
    ORIGIN,
    TRUST,
    OpenLog,
    fold_entries,
    make_link,
    make_policy,
    make_request,
    open_log,
    read_all,
    token_of,
)


@asynccontextmanager
async def open_snapshots(
    directory: Path, people: int = 0, max_lag_entries: int = 100
) -> AsyncIterator[tuple[OpenLog, FileSnapshots]]:
    async with open_log(directory / "log") as log:
        await asyncio.gather(*(log.sequencer.submit(make_request(f"person-{n}")) for n in range(people)))
        snapshots = FileSnapshots.open(
            log.sequencer, log.store, directory / "chunks", origin=ORIGIN, max_lag_entries=max_lag_entries
        )
        yield log, snapshots
        await snapshots.close()


async def verify_snapshot(snapshots: FileSnapshots, snapshot: Snapshot) -> dict[bytes, Cluster]:
    """What a sidecar does with it: the state root over what came stands in the log that the checkpoint signs."""
    hasher = StateHasher()
    clusters: dict[bytes, Cluster] = {}
    chunks = [chunk async for chunk in snapshots.chunks(snapshot)]
    assert len(chunks) == snapshot.chunk_count
    for chunk in chunks:
        for record in split_records(chunk):
            cluster = parse_cluster(record)
            hasher.add(cluster.members[0].token, record)
            clusters |= dict.fromkeys((member.token for member in cluster.members), cluster)
    state_root_hash = hasher.finish(parse_tenant(snapshot.tenant_record))
    entry = snapshot.state_root_entry
    event = parse_event(entry.event_bytes)
    assert event == StateRootEvent(origin=ORIGIN, source="feed", size=snapshot.size, state_root_hash=state_root_hash)
    frontier = Frontier(snapshot.size, snapshot.frontier_hashes)
    frontier.append(hash_leaf(leaf_data(entry.type_byte, commit(entry.opening, entry.event_bytes))))
    checkpoint = verify_checkpoint(snapshot.checkpoint_note, TRUST, None).checkpoint
    assert (checkpoint.size, checkpoint.root_hash) == (snapshot.size + 1, frontier.root_hash())
    assert snapshot.subject_count == len(clusters)
    return clusters


async def test_snapshot_is_the_fold_of_the_log_and_the_log_commits_to_it(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=30) as (log, snapshots):
        policy = PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy())
        await log.sequencer.submit(
            Submission((policy, make_link("person-3", "person-5"), make_link("new", "person-7")))
        )
        snapshot = await snapshots.newest()
        clusters = await verify_snapshot(snapshots, snapshot)

        assert (snapshot.size, log.sequencer.head.size) == (64, 65)
        assert (clusters, parse_tenant(snapshot.tenant_record)) == fold_entries((await read_all(log.store))[:64])


async def test_snapshot_of_a_log_without_people_has_no_chunk(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path) as (_, snapshots):
        snapshot = await snapshots.newest()

        assert (snapshot.size, snapshot.chunk_count) == (1, 0)
        assert await verify_snapshot(snapshots, snapshot) == {}


async def test_snapshot_is_split_into_chunks_that_records_are_never_cut_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "MAX_CHUNK_BYTES", 1_000)
    monkeypatch.setattr(sqlite, "_PAGE_ROWS", 7)
    async with open_snapshots(tmp_path, people=50) as (_, snapshots):
        snapshot = await snapshots.newest()

        assert snapshot.chunk_count >= 5
        # A nonce that came twice under one key would give both chunks away.
        nonces = {path.read_bytes()[:12] for path in (tmp_path / "chunks").iterdir()}
        assert len(nonces) == snapshot.chunk_count
        assert {len(chunk) <= 1_000 async for chunk in snapshots.chunks(snapshot)} == {True}
        assert len(await verify_snapshot(snapshots, snapshot)) == 50


async def test_snapshot_record_larger_than_a_chunk_is_one_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "MAX_CHUNK_BYTES", 10)
    async with open_snapshots(tmp_path, people=3) as (_, snapshots):
        snapshot = await snapshots.newest()

        assert snapshot.chunk_count == 3
        assert len(await verify_snapshot(snapshots, snapshot)) == 3


async def test_snapshot_is_used_again_until_the_log_has_outgrown_it(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=1, max_lag_entries=5) as (log, snapshots):
        first = await snapshots.newest()
        await log.sequencer.submit(make_request("ann"))
        await log.sequencer.submit(make_request("bob"))
        assert await snapshots.newest() is first

        await log.sequencer.submit(make_request("cid"))
        second = await snapshots.newest()

        assert (first.size, second.size) == (3, 10)
        assert token_of("cid") in await verify_snapshot(snapshots, second)
        with pytest.raises(EntryUnknown):
            await anext(snapshots.chunks(first))


async def test_snapshot_asked_for_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=5) as (log, snapshots):
        found = await asyncio.gather(*(snapshots.newest() for _ in range(10)))

        assert {snapshot.size for snapshot in found} == {11}
        assert log.sequencer.head.size == 12


async def test_snapshot_whose_first_asker_went_away_is_made_for_the_others(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=5) as (log, snapshots):
        gone = asyncio.create_task(snapshots.newest())
        await asyncio.sleep(0)
        gone.cancel()
        snapshot = await snapshots.newest()

        assert (snapshot.size, log.sequencer.head.size) == (11, 12)
        await verify_snapshot(snapshots, snapshot)


async def test_snapshot_that_is_being_sent_outlives_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "MAX_CHUNK_BYTES", 500)
    async with open_snapshots(tmp_path, people=10, max_lag_entries=0) as (log, snapshots):
        first = await snapshots.newest()
        sending = snapshots.chunks(first)
        received = [await anext(sending)]
        await log.sequencer.submit(make_request("ann"))
        second = await snapshots.newest()
        received += [chunk async for chunk in sending]

        assert len(received) == first.chunk_count
        assert sum(len(list(split_records(chunk))) for chunk in received) == 10
        left = {path.name.split("-")[1] for path in (tmp_path / "chunks").iterdir()}
        assert left == {str(second.size)}
    assert list((tmp_path / "chunks").iterdir()) == []


async def test_snapshot_files_of_an_earlier_process_are_removed_and_unreadable(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=10) as (log, snapshots):
        await snapshots.newest()
        left_over = b"".join(path.read_bytes() for path in (tmp_path / "chunks").iterdir())
        assert b"marketing" not in left_over
        assert token_of("person-1") not in left_over
        FileSnapshots.open(log.sequencer, log.store, tmp_path / "chunks", origin=ORIGIN, max_lag_entries=1)
        assert list((tmp_path / "chunks").iterdir()) == []


async def test_snapshot_changed_or_missing_chunk_is_never_sent(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=10) as (_, snapshots):
        snapshot = await snapshots.newest()
        (file,) = (tmp_path / "chunks").iterdir()
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
        with pytest.raises(CorruptLog, match="not what was written"):
            await anext(snapshots.chunks(snapshot))
        file.unlink()
        with pytest.raises(LogStoreError, match="cannot be read"):
            await anext(snapshots.chunks(snapshot))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM cluster WHERE token_hash = (SELECT max(token_hash) FROM cluster)",
        "UPDATE cluster SET sealed = (SELECT sealed FROM old WHERE old.token_hash = cluster.token_hash)",
        "INSERT INTO cluster SELECT token_hash, sealed FROM gone",
    ],
)
async def test_snapshot_rows_lost_left_over_or_put_back_stop_it(tmp_path: Path, statement: str) -> None:
    async with open_snapshots(tmp_path, people=4) as (log, snapshots):
        async with log.store._database.writing() as connection:
            await connection.execute("CREATE TEMP TABLE old AS SELECT * FROM cluster")
            await connection.execute("CREATE TEMP TABLE gone AS SELECT * FROM cluster ORDER BY token_hash DESC LIMIT 1")
        for number in range(4):
            await log.sequencer.submit(make_request(f"person-{number}", key=f"again-{number}", purpose="newsletter"))
        last = max((token_of(f"person-{number}"), f"person-{number}") for number in range(4))[1]
        first = min((token_of(f"person-{number}"), f"person-{number}") for number in range(4))[1]
        await log.sequencer.submit(Submission((make_link(first, last),)))
        size = log.sequencer.head.size
        async with log.store._database.writing() as connection:
            await connection.execute(statement)

        with pytest.raises(CorruptLog, match="not the fold of the log"):
            await snapshots.newest()
        assert log.sequencer.head.size == size
        assert list((tmp_path / "chunks").iterdir()) == []


async def test_snapshot_that_cannot_be_written_leaves_no_entry_and_no_file(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=3) as (log, snapshots):
        size = log.sequencer.head.size
        (tmp_path / "chunks").rmdir()
        with pytest.raises(LogStoreError, match="cannot be written"):
            await snapshots.newest()
        assert log.sequencer.head.size == size

        (tmp_path / "chunks").mkdir()
        await verify_snapshot(snapshots, await snapshots.newest())


async def test_snapshot_of_a_closed_log_is_refused(tmp_path: Path) -> None:
    async with open_snapshots(tmp_path, people=3) as (log, snapshots):
        await log.sequencer.close()
        with pytest.raises(ShuttingDown):
            await snapshots.newest()
