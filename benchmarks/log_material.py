"""A log of opt-outs on disk, put together in bulk: it signs, seals, hashes and folds as the feed does, without its fsyncs per request."""

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from consent.authority import Authority
from consent.event import Event, KeyEpochEvent
from consent.key_ring import commit_key
from feed.log_store.identity import LogIdentity
from feed.log_store.port import StoredHead
from feed.log_store.sqlite import SqliteLog
from feed.ports import Submission
from feed.sequencer.batch_builder import BatchBuilder, format_request
from feed.signing.key_store import FeedKeys
from feed.signing.log_signer import LogSigner
from tests.fakes.feed_log import KEYS, ORIGIN, TENANT, TRUST, make_directive

BATCH_EVENTS = 10_000
CACHE = Path(".cache") / "benchmarks"


def cached_log(size: int) -> Path:
    """Folder of a log of that size under `tests.fakes.feed_log.KEYS`, built on the first call: some minutes for a million entries."""
    folder = CACHE / f"log-{size}"
    if not folder.exists():
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        build_log(unfinished, size, KEYS, tenant=TENANT, origin=ORIGIN)
        unfinished.rename(folder)
    return folder


def build_log(folder: Path, size: int, keys: FeedKeys, *, tenant: str, origin: str) -> None:
    """Write a log whose first entry is its key epoch, and every other one the opt-out of another person."""
    identity = LogIdentity(origin, tenant, (keys.log_key.verifier_key,))
    asyncio.run(_build(folder, size, keys, identity))


async def _build(folder: Path, size: int, keys: FeedKeys, identity: LogIdentity) -> None:
    store, signer = await SqliteLog.open(folder, identity, keys.kek), LogSigner(keys.log_key, keys.cosigner_key)
    # Denials alone, which need nobody's signature.
    head, authority = StoredHead(), Authority(replace(TRUST, origin=identity.origin))
    try:
        for first in track(range(0, size, BATCH_EVENTS), f"log of {size:,} entries", transient=True):
            numbers = range(first, min(first + BATCH_EVENTS, size))
            events: list[Event] = [make_directive(f"bench-{number}", origin=identity.origin) for number in numbers]
            if first == 0:
                commitment = commit_key(keys.subject_key)
                events[0] = KeyEpochEvent(origin=identity.origin, epoch=0, key_commitment=commitment)
            builder = BatchBuilder(head, {}, {}, 0, authority)
            builder.add(format_request(Submission(events)))
            now_ms = int(time.time() * 1000)
            note = signer.sign(identity.origin, builder.size, builder.root_hash(), now_ms)
            batch = builder.build(note, now_ms // 1000 * 1000)
            await store.commit(batch)
            head = batch.head
    finally:
        await store.close()
