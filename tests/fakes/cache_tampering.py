"""A cache worth tampering with, and what may become of it."""

from pathlib import Path

from consent.state import Cluster
from sidecar.cache.loading import CacheContent, read_cache_file
from sidecar.cache.opening import mark_of
from sidecar.cache.store import EncryptedCache
from sidecar.errors import CacheWriteFailed, CorruptCache, WrongCacheKey
from tests.fakes.cache_place import CachePlace
from tests.fakes.log_builder import LogBuilder


async def fill(place: CachePlace, log: LogBuilder) -> EncryptedCache:
    """A cache with inline and spilled rows, linked ones, deltas, two generations behind it."""
    cache = await place.open()
    await cache.apply(log.batch(*(log.directive(f"p{number}") for number in range(20)), log.link("p1", "p2")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("p1"), log.directive("p3")))
    await cache.merge()
    await cache.apply(log.batch(log.directive("p4", kind=1), log.link("p4", "p5")))
    await cache.apply(log.batch(log.directive("ada")))
    return cache


def answers(content: CacheContent, log: LogBuilder) -> dict[bytes, Cluster | None]:
    return {token: content.overlay.get(token) or content.table.find(token) for token in log.clusters}


def read_or_detect(path: Path, place: CachePlace, log: LogBuilder, history: dict[int, LogBuilder] | None = None) -> str:
    """What becomes of a changed file; fails if it gives other answers.

    Args:
        path: The file.
        place: Whose keys, identity and high-water mark.
        log: What it should hold.
        history: Older states by their size: one of those may come out too, if the high-water mark then tells that it is older.
    """
    try:
        content = read_cache_file(path, place.keys, place.identity)
    except (CorruptCache, WrongCacheKey, CacheWriteFailed) as error:
        return error.reason
    assert isinstance(content, CacheContent)
    size = content.manifest.frontier.size
    if size != log.size:
        mark = place.read_mark()
        assert mark is not None
        assert mark_of(content.manifest) < mark
        log = (history or {})[size]
    assert (content.manifest.frontier, content.tenant) == (log.frontier, log.tenant_state)
    assert answers(content, log) == log.clusters
    return "SAME_ANSWERS" if history is None or size == max(history) else "OLDER_BY_ITS_MARK"
