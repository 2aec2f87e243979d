"""Who owns a Unix socket.

Binding is no proof of ownership: gRPC removes a socket file that is in its way and binds anew, so two servers on one
path both start and one of them is never asked. A lock beside the socket is the proof.
"""

import os
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from hosting.addresses import length_problem
from hosting.errors import SocketInUse, SocketPathError
from hosting.locks import FileLock, create_directory


class SocketLease:
    """The right to serve on the Unix socket at ``path``, as a context manager around the server's life.

    Entering takes the lock ``<path>.lock`` and clears a socket left by a process that died; after the server has
    bound, ``publish`` opens the socket to its group; leaving removes the socket.

    Args:
        path: Where the socket goes; its directory is created with mode 0770 if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))
        self._published: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            SocketInUse: Another server holds the lease, or listens there without one.
            SocketPathError: The path is too long, or something that is not a socket is there.
            DirectoryUnusable: The directory cannot be created or written.
        """
        if problem := length_problem(self.path):
            raise SocketPathError(f"{self.path}: {problem}")
        create_directory(self.path.parent, 0o770)
        if not self._lock.try_acquire():
            raise SocketInUse(f"{self.path}: in use by {self._lock.holder()}")
        try:
            self._remove_stale_socket()
        except BaseException:
            self._lock.release()
            raise
        return self

    def publish(self, mode: int = 0o660) -> None:
        """Open the socket, once the server has bound it, to those that ``mode`` names.

        Raises:
            SocketPathError: The server has not bound the path.
        """
        status = self._socket_status()
        if status is None:
            raise SocketPathError(f"{self.path}: nothing is bound here yet")
        self.path.chmod(mode)
        self._published = (status.st_dev, status.st_ino)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the socket, unless the path has come to hold somebody else's, and give the lock back."""
        try:
            status = self._socket_status()
            if status is not None and self._published in (None, (status.st_dev, status.st_ino)):
                self.path.unlink(missing_ok=True)
        finally:
            self._published = None
            self._lock.release()

    def _socket_status(self) -> os.stat_result | None:
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISSOCK(status.st_mode):
            raise SocketPathError(f"{self.path}: something that is not a socket is there; move it away")
        return status

    def _remove_stale_socket(self) -> None:
        if self._socket_status() is None:
            return
        # We hold the lock, so whoever answers here is a server that knows nothing of it.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(os.fspath(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                self.path.unlink(missing_ok=True)
                return
            except OSError:
                # A full backlog (EAGAIN) or a socket of another kind: somebody has it.
                pass
        raise SocketInUse(f"{self.path}: another server listens here")
