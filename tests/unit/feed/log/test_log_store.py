"""What every store of the log must do; a second backend becomes a second parameter."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consent.state_record import parse_cluster
from feed.errors import CorruptLog
from feed.log_store import sqlite
from feed.log_store.port import Acknowledgement, Batch, LogStore, StoredHead
from feed.ports import Accepted, Submission
from feed.sequencer.batch_builder import BatchBuilder, format_request
from tests.fakes.feed_log import (
    ORIGIN,
    SIGNER,
    fold_entries,
    make_link,
    make_request,
    make_unlink,
    open_store,
    read_all,
    read_clusters,
    seed,
    token_of,
    verify_everything,
)

OpenStore = Callable[[], Awaitable[LogStore]]
BACKENDS = {"sqlite": open_store}


@pytest.fixture(params=BACKENDS)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    return lambda: BACKENDS[request.param](tmp_path / "log")


@pytest.fixture
async def store(open_again: OpenStore) -> AsyncIterator[LogStore]:
    store = await open_again()
    yield store
    await store.close()


async def make_batch(store: LogStore, *submissions: Submission, before: StoredHead | None = None) -> Batch:
    before = before or await store.load_head()
    requests = [format_request(submission) for submission in submissions]
    tokens = {token for request in requests for token in request.tokens}
    builder = BatchBuilder(before, await store.find_clusters(tokens), {}, 1_000)
    for request in requests:
        builder.add(request)
    return builder.build(SIGNER.sign(ORIGIN, builder.size, builder.root_hash(), 5_000), 5_000)


async def commit(store: LogStore, *submissions: Submission) -> Batch:
    batch = await make_batch(store, *submissions)
    await store.commit(batch)
    return batch


async def test_log_store_new_one_is_empty(store: LogStore) -> None:
    assert await store.load_head() == StoredHead()
    assert await read_all(store) == []
    assert [page async for page in store.read_clusters()] == []
    assert await store.count_subjects() == 0
    assert await store.load_acknowledgements() == []


async def test_log_store_batch_is_there_after_the_commit_and_after_a_restart(
    store: LogStore, open_again: OpenStore
) -> None:
    batch = await commit(store, make_request("ann"), make_request("bob"))
    await store.close()
    store = await open_again()
    try:
        assert await store.load_head() == batch.head
        assert await verify_everything(store) == batch.entries
    finally:
        await store.close()


async def test_log_store_batch_on_another_head_changes_nothing(store: LogStore) -> None:
    await commit(store, make_request("ann"))
    late = await make_batch(store, make_request("bob"))
    await commit(store, make_request("cid"))

    with pytest.raises(CorruptLog):
        await store.commit(late)

    assert [token_of("ann") in await read_clusters(store), token_of("bob") in await read_clusters(store)] == [
        True,
        False,
    ]
    await verify_everything(store)


async def test_log_store_first_batch_of_a_second_writer_changes_nothing(store: LogStore) -> None:
    rival = await make_batch(store, make_request("bob"))
    await commit(store, make_request("ann"))

    with pytest.raises(CorruptLog):
        await store.commit(rival)

    assert len(await verify_everything(store)) == 2


async def test_log_store_settled_one_goes_on(store: LogStore) -> None:
    batch = await commit(store, make_request("ann"))
    await store.settle()

    assert await store.load_head() == batch.head
    await commit(store, make_request("bob"))
    await verify_everything(store)


async def test_log_store_entries_are_read_from_any_place_up_to_the_limit(store: LogStore) -> None:
    batch = await commit(store, *(make_request(f"person-{number}") for number in range(10)))

    assert [entry.seq for entry in await store.read_entries(5, 7)] == list(range(5, 12))
    assert await store.read_entries(19, 7) == list(batch.entries[18:])
    assert await store.read_entries(21, 7) == []
    assert batch.entries[0].traceparent.startswith("00-4bf9")


async def test_log_store_large_entries_are_read_in_several_turns(store: LogStore) -> None:
    submissions = [make_request(f"person-{number}", purpose="p" * 60_000) for number in range(100)]
    batch = await commit(store, *submissions)

    first = await store.read_entries(1, 200)

    assert 100 < len(first) < 200
    assert await read_all(store) == batch.entries


async def test_log_store_entry_larger_than_a_turn_is_read_alone(store: LogStore) -> None:
    large = replace((await make_batch(store, make_request("ann"))).entries[1], seq=1, event_bytes=bytes(5 * 2**20))
    batch = await make_batch(store, make_request("ann"))
    await store.commit(replace(batch, entries=[large, *batch.entries[1:]]))

    assert await store.read_entries(1, 10) == [large]


async def test_log_store_finds_the_requests_that_it_has_logged(store: LogStore) -> None:
    batch = await commit(store, make_request("ann"), make_request("bob"))
    ann, bob = ("web", "key-ann"), ("web", "key-bob")

    found = await store.find_requests([ann, bob, ("web", "key-cid"), ("shop", "key-ann"), ("we", "bkey-ann")])

    assert found == batch.requests
    assert found[ann].accepted == Accepted(batch.entries[1].event_bytes[10:26], 2, 1_000)


async def test_log_store_more_keys_than_fit_into_one_statement_are_all_found(store: LogStore) -> None:
    names = [f"person-{number}" for number in range(600)]
    await commit(store, *map(make_request, names))

    assert len(await store.find_requests([("web", f"key-{name}") for name in names])) == 600
    assert set(await store.find_clusters(list(map(token_of, names)))) == set(map(token_of, names))


async def test_log_store_clusters_come_in_the_order_of_their_tokens_page_by_page(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [
        bytes((first,)) + seed(f"token-{first}-{number}")[:15] for first in (0, 1, 127, 255) for number in range(9)
    ]
    requests = [make_request(token.hex(), token=token) for token in (*tokens, bytes((0xFF,)) * 16)]
    await commit(store, *requests)
    monkeypatch.setattr(sqlite, "_PAGE_ROWS", 10)

    pages = [page async for page in store.read_clusters()]

    assert [row.first_token for page in pages for row in page] == [*sorted(tokens), bytes((0xFF,)) * 16]
    assert [len(page) for page in pages] == [18, 9, 10]


async def test_log_store_no_key_finds_nothing(store: LogStore) -> None:
    assert (await store.find_clusters([]), await store.find_requests([]), await store.read_nodes([])) == ({}, {}, {})


async def test_log_store_keeps_clusters_through_links_and_unlinks(store: LogStore) -> None:
    steps = [
        [make_request("ann"), make_request("bob"), make_request("cid")],
        [Submission((make_link("ann", "bob"),))],
        [Submission((make_link("bob", "cid"), make_link("cid", "dan")))],
        [make_request("dan"), make_request("ann", key="again", purpose="newsletter")],
        [Submission((make_unlink("bob", "cid"),))],
        [Submission((make_unlink("ann", "bob"),)), Submission((make_link("ann", "cid"),))],
    ]
    for step in steps:
        await commit(store, *step)
        await verify_everything(store)

    clusters, _ = fold_entries(await read_all(store))
    record = (await store.find_clusters([token_of("dan")]))[token_of("dan")]
    assert parse_cluster(record) == clusters[token_of("dan")]
    assert {member.token for member in clusters[token_of("dan")].members} == {
        token_of(n) for n in ("ann", "cid", "dan")
    }


async def test_log_store_state_sum_is_zero_again_for_an_empty_difference(store: LogStore) -> None:
    first = await commit(store, make_request("ann"))
    # The same directive once more: it dominates the earlier one, so the record has another seq.
    second = await commit(store, make_request("ann", key="again"))
    third = await commit(store, Submission((make_link("ann", "ann"),)))

    assert len({first.head.state_sum, second.head.state_sum}) == 2
    assert third.head.state_sum == second.head.state_sum
    assert not third.changes.records


async def test_log_store_acknowledgements_never_go_back(store: LogStore, open_again: OpenStore) -> None:
    await store.save_acknowledgements([Acknowledgement("pod-1", 7, 70, 71), Acknowledgement("pod-2", 3, 30, 31)])
    await store.save_acknowledgements([Acknowledgement("pod-1", 5, 90, 91), Acknowledgement("pod-2", 4, 40, 41)])
    await store.close()
    store = await open_again()
    try:
        assert await store.load_acknowledgements() == [
            Acknowledgement("pod-1", 7, 70, 71),
            Acknowledgement("pod-2", 4, 40, 41),
        ]
    finally:
        await store.close()
