import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosting.errors import DirectoryUnusable, SocketInUse, SocketPathError
from hosting.sockets import SocketLease


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, whatever the test's name is."""
    with tempfile.TemporaryDirectory(prefix="lease") as name:
        yield Path(name)


def bind(path: Path, *, listen: bool = True) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(os.fspath(path))
    if listen:
        server.listen(1)
    return server


def test_socket_lease_published_socket_has_the_mode_and_is_removed_at_the_end(directory: Path) -> None:
    path = directory / "check.sock"

    with SocketLease(path) as lease, bind(path):
        lease.publish()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        lease.publish(mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert not path.exists()


def test_socket_lease_second_server_is_refused_until_the_first_leaves(directory: Path) -> None:
    path = directory / "check.sock"

    in_use = pytest.raises(SocketInUse, match=rf"check\.sock: in use by process {os.getpid()}")
    with SocketLease(path), in_use, SocketLease(path):
        pass
    with SocketLease(path):
        pass


def test_socket_lease_missing_directory_is_created_for_the_group(directory: Path) -> None:
    path = directory / "run" / "consentry" / "check.sock"

    with SocketLease(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o770


def test_socket_lease_stale_socket_of_a_dead_server_is_removed(directory: Path) -> None:
    path = directory / "check.sock"
    bind(path).close()
    assert path.is_socket()

    with SocketLease(path):
        assert not path.exists()


def test_socket_lease_server_without_a_lease_is_left_alone(directory: Path) -> None:
    path = directory / "check.sock"

    with bind(path):
        for _ in range(2):
            with pytest.raises(SocketInUse, match="another server listens here"), SocketLease(path):
                pass
        assert path.is_socket()


def test_socket_lease_server_with_full_backlog_is_left_alone(directory: Path) -> None:
    path = directory / "check.sock"
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]

    with bind(path):
        try:
            for client in clients:
                client.setblocking(False)
                client.connect_ex(os.fspath(path))
            with pytest.raises(SocketInUse, match="another server listens here"), SocketLease(path):
                pass
        finally:
            for client in clients:
                client.close()


def test_socket_lease_where_a_file_is_touches_nothing(directory: Path) -> None:
    path = directory / "check.sock"
    path.write_text("precious")

    with pytest.raises(SocketPathError, match="not a socket"), SocketLease(path):
        pass

    assert path.read_text() == "precious"
    path.unlink()
    with SocketLease(path):
        pass


def test_socket_lease_path_longer_than_the_kernel_takes_is_refused(directory: Path) -> None:
    path = directory / ("s" * 107)

    with pytest.raises(SocketPathError, match="the kernel takes at most 107"), SocketLease(path):
        pass


def test_socket_lease_directory_that_is_a_file_is_refused(directory: Path) -> None:
    (directory / "run").touch()

    with pytest.raises(DirectoryUnusable, match="run: is not a directory"), SocketLease(directory / "run" / "s"):
        pass


def test_socket_lease_publish_before_bind_is_refused(directory: Path) -> None:
    with SocketLease(directory / "check.sock") as lease, pytest.raises(SocketPathError, match="nothing is bound"):
        lease.publish()


def test_socket_lease_release_keeps_the_socket_of_another_server(directory: Path) -> None:
    path = directory / "check.sock"

    with SocketLease(path) as lease:
        ours = bind(path)
        lease.publish()
        path.rename(directory / "moved")
        theirs = bind(path)

    assert path.is_socket()
    ours.close()
    theirs.close()
