"""Who may work where: one process for each lock file, known by flock(2), which ends with the process that holds it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hosting.errors import DirectoryUnusable, InstanceLocked

LOCK_NAME: Final = "instance.lock"


class FileLock:
    """An exclusive flock on the file at ``path``, which names its holder; forked child processes share it.

    The file is never removed: whoever had it open would hold a lock that nobody else can see.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock and return True, or return False where another process, or another object here, has it.

        Raises:
            DirectoryUnusable: The file cannot be opened.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise DirectoryUnusable(f"{self._path}: the lock file cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        # For people only: on a full disk the lock holds all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        return True

    def release(self) -> None:
        """Give the lock back; without effect if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Return who holds the lock, as far as its file tells."""
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            text = ""
        return f"process {text}" if text.isdigit() else "another process"


def create_directory(directory: Path, mode: int) -> None:
    """Create a directory with the permission bits ``mode``; one that exists keeps its own.

    Raises:
        DirectoryUnusable: It cannot be created, or something else has its name.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
            directory.chmod(mode)
        is_directory = directory.is_dir()
    except OSError as error:
        raise DirectoryUnusable(f"{directory}: cannot be created: {error.strerror}") from None
    if not is_directory:
        raise DirectoryUnusable(f"{directory}: is not a directory")


class InstanceLock:
    """The right to be the only process that works on a data directory, as a context manager.

    Args:
        directory: Created with mode 0700 if it is missing; holds the lock file ``instance.lock``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = FileLock(directory / LOCK_NAME)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            InstanceLocked: Another process works on the directory.
            DirectoryUnusable: It cannot be created or written.
        """
        create_directory(self._directory, 0o700)
        if not self._lock.try_acquire():
            raise InstanceLocked(f"{self._directory}: in use by {self._lock.holder()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


@contextlib.contextmanager
def keep_still(directory: Path) -> Iterator[None]:
    """Let no process take the `InstanceLock` of a directory while the block reads it; other readers may come too.

    Nothing is created or written, so that a copy on a read-only disk will do. Where there is no lock file, nobody ever worked there.

    Raises:
        InstanceLocked: A process works on the directory.
        DirectoryUnusable: Its lock file cannot be opened.
    """
    lock_file = directory / LOCK_NAME
    try:
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise DirectoryUnusable(f"{lock_file}: the lock file cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstanceLocked(f"{directory}: in use by {FileLock(lock_file).holder()}") from None
        yield
    finally:
        os.close(descriptor)
