"""Logs on disk to verify, and ways to damage them behind the feed's back."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from consent.authority import Authority
from consent.event import Event, KeyEpochEvent, PolicyEvent, StateRootEvent
from consent.key_ring import commit_key
from consent.state_record import StateHasher, format_cluster
from feed.log_store.port import Batch, StoredHead
from feed.log_store.reader import LogPlace
from feed.log_store.sqlite import DATABASE_NAME
from feed.ports import Submission
from feed.sequencer.batch_builder import BatchBuilder, format_request
from tests.fakes.feed_log import (
    KEYS,
    ORIGIN,
    SIGNER,
    TENANT,
    TRUST,
    make_directive,
    make_link,
    make_policy,
    make_submission,
    make_unlink,
    open_store,
    read_clusters,
)

NOW_MS = 1_767_225_600_000


def place_of(directory: Path) -> LogPlace:
    """The log in a folder, and its key."""
    return LogPlace(directory, ORIGIN, TENANT, KEYS.kek)


def first_events() -> list[Event]:
    """What a log begins with: a key epoch, a policy, links and unlinks, and people's choices."""
    return [
        KeyEpochEvent(origin=ORIGIN, source="feed", epoch=0, key_commitment=commit_key(KEYS.subject_key)),
        PolicyEvent(origin=ORIGIN, source="feed", version=1, replaces_version=0, document=make_policy()),
        make_directive("ada"),
        make_link("ada", "bob"),
        make_directive("bob", kind=1),
        make_unlink("ada", "bob"),
    ]


def opt_outs(count: int) -> list[Event]:
    """An opt-out each of so many people."""
    return [make_directive(f"person-{number}") for number in range(count)]


def write_log(
    directory: Path, events: Sequence[Event], *, batch_events: int = 1_000, copy_open_files_to: Path | None = None
) -> StoredHead:
    """Write a log of these events, sealed and signed as the feed does, and return its head.

    Args:
        directory: Of the log.
        events: What to log behind what is there.
        batch_events: How many to commit at once.
        copy_open_files_to: A folder that gets the database as it lies on the disk before the store is closed.
    """
    batches = [events[at : at + batch_events] for at in range(0, len(events), batch_events)]
    return asyncio.run(_write(directory, batches, copy_open_files_to))


async def _write(directory: Path, batches: Sequence[Sequence[Event]], copy_to: Path | None) -> StoredHead:
    store = await open_store(directory)
    head = await store.load_head()
    try:
        for events in batches:
            tokens = {token for event in events for token in format_request(Submission((event,))).tokens}
            builder = BatchBuilder(head, await store.find_clusters(tokens), {}, NOW_MS, Authority(TRUST))
            builder.add(format_request(make_submission(events)))
            batch = builder.build(SIGNER.sign(ORIGIN, builder.size, builder.root_hash(), NOW_MS), NOW_MS)
            await store.commit(batch)
            head = batch.head
        if copy_to is not None:
            copy_to.mkdir()
            for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal"):
                shutil.copy(directory / name, copy_to)
    finally:
        await store.close()
    return head


def write_state_root(directory: Path, state_root_hash: bytes | None = None) -> None:
    """Append a state root: the right one, or one that a test makes up."""
    head, root = asyncio.run(_read_state(directory))
    event = StateRootEvent(origin=ORIGIN, source="feed", size=head.size, state_root_hash=state_root_hash or root)
    write_log(directory, [event])


async def _read_state(directory: Path) -> tuple[StoredHead, bytes]:
    store = await open_store(directory)
    try:
        head, hasher = await store.load_head(), StateHasher()
        clusters = {cluster.members[0].token: cluster for cluster in (await read_clusters(store)).values()}
        for first_token in sorted(clusters):
            hasher.add(first_token, format_cluster(clusters[first_token]))
        return head, hasher.finish(head.tenant)
    finally:
        await store.close()


def commit_forged(directory: Path, events: Sequence[Event], **head_changes: Any) -> None:
    """Append events as somebody would who holds the log's keys and does not keep to its rules; the head may be made to lie."""
    asyncio.run(_commit_forged(directory, events, head_changes))


async def _commit_forged(directory: Path, events: Sequence[Event], head_changes: dict[str, Any]) -> None:
    store = await open_store(directory)
    try:
        head = await store.load_head()
        builder = BatchBuilder(head, {}, {}, NOW_MS, None)
        # The entries without the fold, which would refuse them.
        builder._append(format_request(make_submission(events)))
        batch: Batch = builder.build(SIGNER.sign(ORIGIN, builder.size, builder.root_hash(), NOW_MS), NOW_MS)
        await store.commit(replace(batch, head=replace(batch.head, **head_changes)))
    finally:
        await store.close()


def change(directory: Path, *statements: str) -> None:
    """Run SQL on the database of a log that nobody has open."""
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def read_value(directory: Path, query: str) -> Any:
    """The one value that a query finds."""
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        ((value,),) = connection.execute(query).fetchall()
    return value
