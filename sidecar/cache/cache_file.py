"""The cache file as a file: its name, its header, and how it is set aside."""

import os
import struct
from pathlib import Path

from sidecar.errors import CacheWriteFailed, CorruptCache

CACHE_FILE_NAME = "cache.db"
_FORMAT_BYTES = slice(18, 20)
_FIRST_PAGE_BYTES = 4096
# https://www.sqlite.org/fileformat2.html#the_write_ahead_log: a header, then frames of a header and a page.
_LOG_HEADER = struct.Struct(">8xI20x")
_FRAME_HEADER = struct.Struct(">I20x")


def verify_header(path: Path) -> None:
    """Check the two bytes by which SQLite takes a file for one that may only be read, which would stop every write later.

    A loss of power while the log of writes is moved into the file may tear its first page. SQLite then takes that page from the log and
    writes it anew, so such a file is whole; and so is one that `is_never_written`.

    Raises:
        CorruptCache: They say what no version of ours writes.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_FORMAT_BYTES.stop)
    if not header or all(version in (1, 2) for version in header[_FORMAT_BYTES]):
        return
    if not _is_first_page_logged(path) and not is_never_written(path):
        raise CorruptCache("the cache file's header is damaged")


def is_never_written(path: Path) -> bool:
    """Whether nothing was ever committed to a file.

    SQLite keeps a rollback journal while it makes the first page, and ends it before the first commit to the log of writes is durable. A
    crash there leaves both, and the next connection that may write undoes the page.
    """
    try:
        return Path(f"{path}-journal").exists() and path.stat().st_size <= _FIRST_PAGE_BYTES
    except OSError:
        return False


def _is_first_page_logged(path: Path) -> bool:
    """Whether the log of writes holds the file's first page; SQLite itself checks that it is whole."""
    try:
        with Path(f"{path}-wal").open("rb") as log:
            (page_bytes,) = _LOG_HEADER.unpack(log.read(_LOG_HEADER.size))
            while frame := log.read(_FRAME_HEADER.size):
                if _FRAME_HEADER.unpack(frame) == (1,):
                    return True
                log.seek(page_bytes, os.SEEK_CUR)
    except (FileNotFoundError, struct.error):
        pass
    return False


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
        for suffix in ("", "-wal", "-shm", "-journal"):
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
