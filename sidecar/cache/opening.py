"""The start: what of the files can be used, and what has to be set aside."""

import logging
from pathlib import Path
from typing import NamedTuple

from hosting.clock import Clock
from sidecar.cache.cache_file import set_aside
from sidecar.cache.high_water import HighWaterFile, Mark
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.loading import CacheContent, read_cache_file
from sidecar.cache.manifest import Manifest
from sidecar.errors import CorruptCache
from sidecar.ports import KeyProvider

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """What there is to start from.

    Attributes:
        content: What the file holds, None for a start from nothing.
        schema_version: Of the file.
        next_generation: Number for a start from nothing, greater than any that the high-water mark knows.
    """

    content: CacheContent | None
    schema_version: int
    next_generation: int


def mark_of(manifest: Manifest) -> Mark:
    """The high-water mark of a file with this manifest."""
    return Mark(manifest.generation, manifest.boot_count, manifest.frontier.size)


def open_or_set_aside(
    path: Path, keys: KeyProvider, identity: CacheIdentity, high_water: HighWaterFile | None, clock: Clock
) -> Opened:
    """Read the cache file; one that is damaged, changed or older than the high-water mark is set aside.

    Raises:
        WrongCacheKey, ForeignCache: The file is left as it is.
        CacheWriteFailed: It cannot be read, or not be set aside.
    """
    mark = high_water.read() if high_water is not None else None
    next_generation = mark.generation + 1 if mark is not None else 1
    try:
        content = read_cache_file(path, keys, identity)
        if isinstance(content, int):
            if mark is not None:
                _log.warning("the cache is gone: starting empty, it is rebuilt from the feed")
            return Opened(None, content, next_generation)
        if mark is not None and mark_of(content.manifest) < mark:
            raise CorruptCache("the cache file is older than its high-water mark: it was rolled back")
        return Opened(content, content.version, next_generation)
    except CorruptCache as error:
        aside = set_aside(path, clock.now_ms())
        _log.error("%s; set aside as %s, starting empty, rebuilt from the feed", error, aside.name)
        return Opened(None, 0, next_generation)
