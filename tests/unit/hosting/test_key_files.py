import os
import stat
from pathlib import Path

import pytest

from hosting import key_files
from hosting.errors import KeyFileError, KeyFileMissing
from hosting.key_files import create_key_file, format_key, parse_key, read_key_file, write_file_atomically

KEY = bytes(range(32))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_key_file_created_and_read_is_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "cache.key"

    create_key_file(path, KEY, use="cache-kek")

    assert read_key_file(path, use="cache-kek") == bytearray(KEY)
    assert path.read_text().startswith("consentry-key v1 cache-kek\n")


def test_create_key_file_with_any_umask_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0o277)
    try:
        create_key_file(tmp_path / "cache.key", KEY, use="cache-kek")
    finally:
        os.umask(umask)

    assert mode_of(tmp_path / "cache.key") == 0o600


def test_create_key_file_existing_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "cache.key"
    create_key_file(path, KEY, use="cache-kek")

    with pytest.raises(KeyFileError, match=r"cache\.key: exists already"):
        create_key_file(path, bytes(32), use="cache-kek")

    assert read_key_file(path, use="cache-kek") == bytearray(KEY)


def test_create_key_file_in_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be created: No such file or directory"):
        create_key_file(tmp_path / "missing" / "cache.key", KEY, use="cache-kek")


def test_create_key_file_when_the_disk_is_full_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(KeyFileError, match="cannot be written: No space left on device"):
        create_key_file(tmp_path / "cache.key", KEY, use="cache-kek")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_read_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "cache.key"
    create_key_file(path, KEY, use="cache-kek")
    path.chmod(mode)

    with pytest.raises(KeyFileError, match=rf"cache\.key: open to its group or to others \(mode {mode:04o}\)"):
        read_key_file(path, use="cache-kek")


def test_read_key_file_through_links_checks_the_file_behind_them(tmp_path: Path) -> None:
    path, link = tmp_path / "cache.key", tmp_path / "link"
    create_key_file(path, KEY, use="cache-kek")
    link.symlink_to(path)

    assert read_key_file(link, use="cache-kek") == bytearray(KEY)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="link: open to its group or to others"):
        read_key_file(link, use="cache-kek")


def test_read_key_file_owned_by_another_user_is_refused() -> None:
    somebody_else = os.geteuid() + 1
    status = os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, somebody_else, 0, 0, 0, 0, 0))

    with pytest.raises(KeyFileError, match="owned by another user"):
        key_files._verify_private(Path("cache.key"), status)


def test_read_key_file_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissing, match=r"absent\.key: no such file") as refusal:
        read_key_file(tmp_path / "absent.key", use="cache-kek")

    assert refusal.value.reason == "KEY_FILE_MISSING"


def test_read_key_file_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path in (pipe, tmp_path):
        with pytest.raises(KeyFileError, match="not a regular file"):
            read_key_file(path, use="cache-kek")


def test_read_key_file_endless_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.key"
    path.write_bytes(b"A" * 5_000)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match="longer than 4096 bytes"):
        read_key_file(path, use="cache-kek")


def test_read_key_file_malformed_is_named_by_path(tmp_path: Path) -> None:
    path = tmp_path / "cache.key"
    path.write_text("hunter2-hunter2\n")
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match=r"cache\.key: not a key file") as refusal:
        read_key_file(path, use="cache-kek")

    assert "hunter2" not in str(refusal.value)


def test_parse_key_of_another_use_is_refused() -> None:
    with pytest.raises(KeyFileError, match="holds a key for log-signing, a key for cache-kek is needed"):
        parse_key(format_key(KEY, "log-signing"), use="cache-kek")


def test_parse_key_of_another_length_is_refused() -> None:
    with pytest.raises(KeyFileError, match="holds a key of 32 bytes, 16 are needed"):
        parse_key(format_key(KEY, "cache-kek"), use="cache-kek", length_bytes=16)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"consentry-key v1 cache-kek",
        b"consentry-key v2 cache-kek\nAAAA\n",
        b"consentry-key v1 CACHE\nAAAA\n",
        b"consentry-key v1 \nAAAA\n",
        b"consentry-key v1 cache-kek\nAAA\n",
        b"consentry-key v1 cache-kek\nAA AA\n",
        b"consentry-key v1 cache-kek\nAAAAAB==\n",
        b"consentry-key v1 cache-kek\nAAAA\nAAAA\n",
        b"consentry-key v1 cache-kek\r\nAAAA\r\n",
        b"consentry-key v1 cache-kek\n\xff\xff\n",
        b"\xff consentry-key v1 cache-kek\nAAAA\n",
    ],
)
def test_parse_key_malformed_is_refused(text: bytes) -> None:
    with pytest.raises(KeyFileError, match="not a key file; expected a line 'consentry-key v1 cache-kek'"):
        parse_key(text, use="cache-kek", length_bytes=3)


def test_parse_key_without_last_line_break_is_read() -> None:
    assert parse_key(format_key(KEY, "cache-kek").rstrip(b"\n"), use="cache-kek") == bytearray(KEY)


def test_format_key_with_malformed_use_is_refused() -> None:
    with pytest.raises(ValueError, match="lower-case words"):
        format_key(KEY, "cache kek\n")


def test_write_file_atomically_replaces_the_content_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_file_atomically(path, b"old", mode=0o600)

    write_file_atomically(path, b"new", mode=0o644)

    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_write_file_atomically_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_file_atomically(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_file_atomically(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_file_atomically_syncs_file_before_and_directory_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)

    write_file_atomically(tmp_path / "state", b"data")

    assert steps == ["file", "rename", "directory"]
