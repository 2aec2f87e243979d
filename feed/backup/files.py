"""A backup's file: whole under its name, or not there."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from feed.errors import BackupFailed


def write_pieces(path: Path, pieces: Iterable[tuple[bytes, int]]) -> int:
    """Write a backup's bytes to a file that its owner alone may read.

    Args:
        path: Of the file; replaced once all of it is on the disk.
        pieces: Bytes, and the entries in all of them so far.

    Returns:
        Entries in the backup.

    Raises:
        BackupFailed: It cannot be written; an older file of that name is untouched.
    """
    size = 0
    with _replacing(path) as file:
        for piece, size in pieces:  # noqa: B007 - the last one's is the result
            file.write(piece)
    return size


async def write_pieces_from(
    path: Path, pieces: AsyncIterator[tuple[bytes, int]], progress: Callable[[int], None]
) -> int:
    """`write_pieces` for pieces that have to be waited for; `progress` is told the entries so far."""
    size = 0
    with _replacing(path) as file:
        async for piece, written in pieces:
            size = written
            await asyncio.to_thread(file.write, piece)
            progress(written)
    return size


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    # A crash leaves a file of this shape beside the older backup; it has no checkpoint at its end and is refused by a restore.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise BackupFailed(f"{path}: cannot be written: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make a new name in a directory durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
