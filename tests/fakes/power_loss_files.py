"""Losses of power for files that a program writes by calls of the operating system (for SQLite's: `tests.fakes.power_loss`).

What a file holds is durable after its fsync, and that it is there, under which name, after its directory's. Of the rest any part may be
there: sectors torn as for SQLite, and of the changes of a directory those up to some moment, as a journaling file system keeps them.
"""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.fakes.power_loss import SimulatedFile

_Entries = dict[Path, SimulatedFile]


class PowerLossFiles:
    """The files of one directory, until the power is cut and after. The real files are never synced, `restore` says what they hold.

    Args:
        directory: Exists and is empty; there are no directories in it.
        chance: Decides what a loss of power leaves.
        is_lying: An fsync does nothing, as if the program had left it out.

    Attributes:
        is_cut: Whether the power is gone.
    """

    def __init__(self, directory: Path, chance: random.Random, *, is_lying: bool = False) -> None:
        self.is_cut = False
        self._is_lying = is_lying
        self._directory = directory
        self._chance = chance
        self._lock = threading.RLock()
        self._operations_left: int | None = None
        self._durable: _Entries = {}
        self._entries: _Entries = {}
        self._changes: list[_Entries] = []
        self._open: dict[int, SimulatedFile] = {}

    def cut_after(self, operations: int) -> None:
        """Cut the power at the operation that comes after so many more; that one may be half done."""
        self._operations_left = operations

    def restore(self) -> None:
        """Give the power back: the directory holds what a disk may hold after the loss."""
        left = self._chance.choice([self._durable, *self._changes])
        for path in self._directory.iterdir():
            path.unlink()
        for path, file in left.items():
            content = file.after_power_loss(self._chance)
            assert content is not None
            path.write_bytes(content)
            path.chmod(0o600)
        self._durable = {path: SimulatedFile(path.read_bytes()) for path in left}
        self._entries, self._changes = dict(self._durable), []
        self._open.clear()
        self.is_cut, self._operations_left = False, None

    @contextmanager
    def powered(self) -> Iterator[None]:
        """For as long as this runs, the calls of this process are watched."""
        calls = {
            "open": self._on_open,
            "close": self._on_close,
            "write": self._on_write,
            "ftruncate": self._on_truncate,
            "posix_fallocate": self._on_allocate,
            "fsync": self._on_sync,
            "rename": self._on_rename,
            "replace": self._on_rename,
            "unlink": self._on_unlink,
            "fdopen": self._on_fdopen,
        }
        with ExitStack() as stack:
            for name, on_call in calls.items():
                real = getattr(os, name)

                def call(*arguments: Any, on: Any = on_call, do: Any = real, **options: Any) -> Any:
                    with self._lock:
                        return on(do, *arguments, **options)

                stack.enter_context(patch.object(os, name, call))
            yield

    def _count(self) -> None:
        """Count an operation that is under way; whatever it has noted may be half done if the power goes now."""
        if self._operations_left is not None:
            self._operations_left -= 1
            self.is_cut = self.is_cut or self._operations_left < 0
        self._check()

    def _check(self) -> None:
        if self.is_cut:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _change(self) -> None:
        self._changes.append(dict(self._entries))

    def _on_open(self, real: Callable[..., int], path: Any, flags: int, *mode: Any, **options: Any) -> int:
        where = Path(path) if isinstance(path, str | Path) else None
        if where is None or where.parent != self._directory:
            return real(path, flags, *mode, **options)
        self._check()
        descriptor = real(path, flags, *mode, **options)
        if flags & os.O_CREAT and where not in self._entries:
            self._entries[where] = SimulatedFile(b"")
            self._change()
        if where in self._entries:
            self._open[descriptor] = self._entries[where]
        return descriptor

    def _on_close(self, real: Callable[[int], None], descriptor: int) -> None:
        self._open.pop(descriptor, None)
        real(descriptor)

    def _on_write(self, real: Callable[[int, Any], int], descriptor: int, data: Any) -> int:
        file = self._open.get(descriptor)
        if file is None:
            return real(descriptor, data)
        self._check()
        file.write(bytes(data), os.lseek(descriptor, 0, os.SEEK_CUR))
        self._count()
        return real(descriptor, data)

    def _on_truncate(self, real: Callable[[int, int], None], descriptor: int, size: int) -> None:
        if descriptor in self._open:
            self._check()
            self._open[descriptor].truncate(size)
            self._count()
        real(descriptor, size)

    def _on_allocate(self, real: Callable[[int, int, int], None], descriptor: int, offset: int, size: int) -> None:
        if descriptor in self._open:
            self._check()
            self._open[descriptor].truncate(offset + size)
            self._count()
        real(descriptor, offset, size)

    def _on_sync(self, real: Callable[[int], None], descriptor: int) -> None:
        is_directory = Path(f"/proc/self/fd/{descriptor}").readlink() == self._directory
        if descriptor in self._open or is_directory:
            self._check()
            self._count()
        if self._is_lying:
            return
        if descriptor in self._open:
            self._open[descriptor].sync()
        elif is_directory:
            self._durable, self._changes = dict(self._entries), []

    def _on_rename(self, real: Callable[..., None], source: Any, target: Any, **options: Any) -> None:
        if Path(source) in self._entries:
            self._check()
            self._entries[Path(target)] = self._entries.pop(Path(source))
            self._change()
            self._count()
        real(source, target, **options)

    def _on_unlink(self, real: Callable[..., None], path: Any, **options: Any) -> None:
        if Path(path) in self._entries:
            self._check()
            del self._entries[Path(path)]
            self._change()
            self._count()
        real(path, **options)

    def _on_fdopen(self, real: Callable[..., Any], descriptor: int, *arguments: Any, **options: Any) -> Any:
        file = real(descriptor, *arguments, **options)
        return _File(self._open, descriptor, file) if descriptor in self._open else file


class _File:
    """A file opened from a descriptor, whose writes go by `os.write`."""

    def __init__(self, opened: dict[int, SimulatedFile], descriptor: int, file: Any) -> None:
        self._opened = opened
        self._descriptor = descriptor
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.pop(self._descriptor, None)
        self._file.close()

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)
