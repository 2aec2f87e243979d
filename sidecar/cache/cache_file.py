"""The cache file as a file: its name, its header, and how it is set aside."""

import os
from pathlib import Path

from sidecar.errors import CacheWriteFailed, CorruptCache

CACHE_FILE_NAME = "cache.db"
_FORMAT_BYTES = slice(18, 20)


def verify_header(path: Path) -> None:
    """Check the two bytes by which SQLite takes a file for one that may only be read, which would stop every write later.

    Raises:
        CorruptCache: They say what no version of ours writes.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_FORMAT_BYTES.stop)
    if header and any(version not in (1, 2) for version in header[_FORMAT_BYTES]):
        raise CorruptCache("the cache file's header is damaged")


def set_aside(path: Path, now_ms: int) -> Path:
    """Rename a cache file and its logs, so that somebody can look at it and the sidecar can start anew.

    Args:
        path: The cache file.
        now_ms: Unix ms, for its new name.

    Returns:
        The new path of the cache file.

    Raises:
        CacheWriteFailed: The directory cannot be written.
    """
    aside = path.with_name(f"{path.name}.corrupt-{now_ms}")
    while aside.exists():
        now_ms += 1
        aside = path.with_name(f"{path.name}.corrupt-{now_ms}")
    try:
        # The file first: a log of writes that a crash leaves without its file is thrown away by SQLite.
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CacheWriteFailed(f"{path}: cannot be set aside: {error.strerror}") from None
    return aside
