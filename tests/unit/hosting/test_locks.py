import os
import stat
from pathlib import Path

import pytest

from hosting.errors import DirectoryUnusable, InstanceLocked
from hosting.locks import InstanceLock, keep_still


def test_instance_lock_second_holder_is_refused_until_the_first_leaves(tmp_path: Path) -> None:
    with InstanceLock(tmp_path):
        with pytest.raises(InstanceLocked, match=f"in use by process {os.getpid()}") as refusal, InstanceLock(tmp_path):
            pass
        assert refusal.value.reason == "INSTANCE_LOCKED"
    with InstanceLock(tmp_path):
        pass


def test_instance_lock_missing_directory_is_created_for_the_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "cache"

    with InstanceLock(directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_instance_lock_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    with InstanceLock(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_instance_lock_where_a_file_is_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(DirectoryUnusable, match="file: is not a directory"), InstanceLock(file):
        pass
    with pytest.raises(DirectoryUnusable, match="cannot be created"), InstanceLock(file / "data"):
        pass


def test_instance_lock_never_follows_a_link_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "instance.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DirectoryUnusable, match="lock file cannot be opened"), InstanceLock(tmp_path):
        pass

    assert not (tmp_path / "elsewhere").exists()


def test_instance_lock_with_unreadable_holder_is_refused_all_the_same(tmp_path: Path) -> None:
    with InstanceLock(tmp_path):
        (tmp_path / "instance.lock").write_bytes(b"\xff")
        with pytest.raises(InstanceLocked, match="in use by another process"), InstanceLock(tmp_path):
            pass


def test_keep_still_keeps_workers_out_lets_readers_in_and_creates_nothing(tmp_path: Path) -> None:
    with keep_still(tmp_path):
        assert list(tmp_path.iterdir()) == []
    with InstanceLock(tmp_path), pytest.raises(InstanceLocked, match=f"process {os.getpid()}"), keep_still(tmp_path):
        pass
    with keep_still(tmp_path), keep_still(tmp_path), pytest.raises(InstanceLocked), InstanceLock(tmp_path):
        pass
    with InstanceLock(tmp_path):
        pass
