"""A place for a sidecar's cache, with its keys and its clock."""

import os
from pathlib import Path
from typing import Self

from hosting.key_files import create_key_file
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.high_water import HighWaterFile, Mark
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.key_file import KEY_USE, FileKeyProvider
from sidecar.cache.store import KEY_CHECK_SECONDS, MERGE_AFTER_ENTRIES, EncryptedCache
from sidecar.ports import KeyProvider
from tests.fakes.clock import FakeClock
from tests.fakes.log_builder import ORIGIN, TENANT, LogBuilder

IDENTITY = CacheIdentity("sidecar-1", TENANT, ORIGIN)


def make_keys(directory: Path, *names: str) -> FileKeyProvider:
    """Keys from files of these names, the newest first; files that are missing are made."""
    paths = [directory / f"{name}.key" for name in names or ("kek",)]
    for path in paths:
        if not path.exists():
            create_key_file(path, os.urandom(32), use=KEY_USE)
    return FileKeyProvider(paths)


class CachePlace:
    """Where one cache lives.

    Args:
        root: A folder of the test's own.
        identity: Whose cache.

    Attributes:
        root: As given.
        directory: Of the cache.
        path: The cache file.
        mark_path: The high-water mark's file.
        keys: Key provider, replaced by tests that rotate.
        clock: Stands still until told.
    """

    def __init__(self, root: Path, identity: CacheIdentity = IDENTITY) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.identity = identity
        self.directory = root / "cache"
        self.path = self.directory / CACHE_FILE_NAME
        self.mark_path = root / "high-water"
        self.root = root
        self.keys: KeyProvider = make_keys(root)
        self.clock = FakeClock()
        self._opened: list[EncryptedCache] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what a failed test left open: its thread would keep the process alive."""
        for cache in self._opened:
            await cache.close()

    async def open(
        self, merge_after_entries: int = MERGE_AFTER_ENTRIES, key_check_seconds: float = KEY_CHECK_SECONDS
    ) -> EncryptedCache:
        cache = await EncryptedCache.open(
            self.directory,
            self.keys,
            self.identity,
            high_water_path=self.mark_path,
            clock=self.clock,
            merge_after_entries=merge_after_entries,
            key_check_seconds=key_check_seconds,
        )
        self._opened.append(cache)
        return cache

    async def reopen(self, cache: EncryptedCache) -> EncryptedCache:
        await cache.close()
        return await self.open()

    def read_mark(self) -> Mark | None:
        """The high-water mark, as the next start would read it."""
        return HighWaterFile(self.mark_path, self.keys, self.identity).read()

    def files(self) -> dict[str, bytes]:
        """What the cache's files hold, by name; the index of the log of writes is no content."""
        parts = self.directory.glob(f"{CACHE_FILE_NAME}*")
        return {path.name: path.read_bytes() for path in parts if not path.name.endswith("-shm")}

    def restore(self, files: dict[str, bytes]) -> None:
        """Put files back as they were, and nothing else."""
        for path in self.directory.glob(f"{CACHE_FILE_NAME}*"):
            path.unlink()
        for name, content in files.items():
            (self.directory / name).write_bytes(content)

    def set_aside(self) -> list[str]:
        """Names of cache files that were set aside, without their logs of writes."""
        names = (path.name for path in self.directory.glob("*.corrupt-*"))
        return sorted(name for name in names if not name.endswith(("-wal", "-shm", "-journal")))


def assert_holds(cache: EncryptedCache, log: LogBuilder) -> None:
    """The cache answers as the log does, for every token that the log ever named and one that it did not."""
    assert cache.head.frontier == log.frontier
    assert cache.head.tenant == log.tenant_state
    assert {token: cache.find(token) for token in log.clusters} == log.clusters
    assert cache.subject_count == len(log.clusters)
    assert cache.find(bytes(16)) is None


def assert_empty(cache: EncryptedCache) -> None:
    """The cache holds nothing."""
    assert (cache.head.size, cache.head.checkpoint, cache.policy, cache.subject_count) == (0, None, None, 0)
