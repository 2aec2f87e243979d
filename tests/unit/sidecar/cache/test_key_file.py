"""Key-encryption keys in files."""

import logging
import os
import stat
from pathlib import Path

import pytest

from hosting.errors import KeyFileError
from hosting.key_files import create_key_file
from sidecar.cache.cache_file import CACHE_FILE_NAME
from sidecar.cache.key_file import KEY_USE, load_key_files
from sidecar.errors import MissingCacheKey, WrongCacheKey
from tests.fakes.cache_place import make_keys

DATA_KEY = bytes(range(32))
LOG = logging.getLogger("test")


def test_wrapped_key_is_unwrapped_for_its_purpose_and_not_shown(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    wrapped = keys.wrap(DATA_KEY, "cache")
    assert keys.unwrap(wrapped, "cache") == DATA_KEY
    assert DATA_KEY not in wrapped
    assert keys.wrap(DATA_KEY, "cache") != wrapped


def test_unwrap_for_another_purpose_is_wrong_key(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    with pytest.raises(WrongCacheKey):
        keys.unwrap(keys.wrap(DATA_KEY, "cache"), "journal")


def test_unwrap_under_another_key_is_wrong_key(tmp_path: Path) -> None:
    wrapped = make_keys(tmp_path, "mine").wrap(DATA_KEY, "cache")
    with pytest.raises(WrongCacheKey):
        make_keys(tmp_path, "other").unwrap(wrapped, "cache")


def test_unwrap_any_changed_byte_is_wrong_key(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    wrapped = keys.wrap(DATA_KEY, "cache")
    for at in range(len(wrapped)):
        changed = wrapped[:at] + bytes((wrapped[at] ^ 1,)) + wrapped[at + 1 :]
        with pytest.raises(WrongCacheKey):
            keys.unwrap(changed, "cache")


@pytest.mark.parametrize("length", [0, 1, 8, 9, 20, 30])
def test_unwrap_a_short_blob_is_wrong_key(tmp_path: Path, length: int) -> None:
    keys = make_keys(tmp_path)
    with pytest.raises(WrongCacheKey):
        keys.unwrap(keys.wrap(DATA_KEY, "cache")[:length], "cache")


def test_rotation_older_key_still_opens_and_newest_wraps(tmp_path: Path) -> None:
    older = make_keys(tmp_path, "old")
    wrapped = older.wrap(DATA_KEY, "cache")
    both = make_keys(tmp_path, "new", "old")
    assert both.unwrap(wrapped, "cache") == DATA_KEY
    assert (older.is_current(wrapped), both.is_current(wrapped)) == (True, False)
    rewrapped = both.wrap(DATA_KEY, "cache")
    assert both.is_current(rewrapped)
    assert make_keys(tmp_path, "new").unwrap(rewrapped, "cache") == DATA_KEY


def test_load_existing_files_opens_what_they_wrapped(tmp_path: Path) -> None:
    wrapped = make_keys(tmp_path).wrap(DATA_KEY, "cache")
    paths = [tmp_path / "kek.key"]
    keys = load_key_files(paths, cache_directory=tmp_path, create_for_development=False, log=LOG)
    assert keys.unwrap(wrapped, "cache") == DATA_KEY


@pytest.mark.parametrize("development", [True, False])
def test_load_missing_key_beside_a_cache_refuses(tmp_path: Path, development: bool) -> None:
    (tmp_path / CACHE_FILE_NAME).write_bytes(b"something")
    paths = [tmp_path / "kek.key"]
    with pytest.raises(MissingCacheKey, match="there is a cache"):
        load_key_files(paths, cache_directory=tmp_path, create_for_development=development, log=LOG)
    assert not paths[0].exists()


def test_load_missing_key_outside_development_refuses(tmp_path: Path) -> None:
    with pytest.raises(MissingCacheKey, match=r"kek\.key"):
        load_key_files([tmp_path / "kek.key"], cache_directory=tmp_path, create_for_development=False, log=LOG)


def test_load_one_of_two_keys_missing_refuses_even_in_development(tmp_path: Path) -> None:
    make_keys(tmp_path, "old")
    paths = [tmp_path / "new.key", tmp_path / "old.key"]
    with pytest.raises(MissingCacheKey, match=r"new\.key"):
        load_key_files(paths, cache_directory=tmp_path, create_for_development=True, log=LOG)


def test_load_in_development_makes_a_private_key_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys" / "kek.key"
    keys = load_key_files([path], cache_directory=tmp_path, create_for_development=True, log=LOG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "DEVELOPMENT KEY" in caplog.text
    caplog.clear()
    again = load_key_files([path], cache_directory=tmp_path, create_for_development=True, log=LOG)
    assert again.unwrap(keys.wrap(DATA_KEY, "cache"), "cache") == DATA_KEY
    assert caplog.records == []


def test_load_a_file_that_others_can_read_refuses(tmp_path: Path) -> None:
    make_keys(tmp_path)
    path = tmp_path / "kek.key"
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="0644"):
        load_key_files([path], cache_directory=tmp_path, create_for_development=False, log=LOG)


def replace_key(path: Path) -> None:
    path.unlink()
    create_key_file(path, os.urandom(32), use=KEY_USE)


def test_refresh_takes_up_a_key_that_took_the_place_of_the_newest(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    older = keys.wrap(DATA_KEY, "cache")
    replace_key(tmp_path / "kek.key")
    assert keys.is_current(older)
    keys.refresh()
    newer = keys.wrap(DATA_KEY, "cache")
    assert (keys.is_current(older), keys.is_current(newer)) == (False, True)
    assert keys.unwrap(older, "cache") == keys.unwrap(newer, "cache") == DATA_KEY
    assert make_keys(tmp_path).unwrap(newer, "cache") == DATA_KEY


def test_unwrap_of_a_key_that_was_rotated_in_since_looks_at_the_files_again(tmp_path: Path) -> None:
    """So the process that ships the journal follows a rotation that the sidecar beside it has seen."""
    shipper = make_keys(tmp_path)
    replace_key(tmp_path / "kek.key")
    assert shipper.unwrap(make_keys(tmp_path).wrap(DATA_KEY, "journal"), "journal") == DATA_KEY


@pytest.mark.parametrize("state", ["missing", "torn", "wide", "another use"])
def test_refresh_of_files_that_cannot_be_used_keeps_the_keys_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    keys, path = make_keys(tmp_path), tmp_path / "kek.key"
    wrapped = keys.wrap(DATA_KEY, "cache")
    if state == "missing":
        path.unlink()
    elif state == "torn":
        path.write_bytes(path.read_bytes()[:40])
    elif state == "wide":
        path.chmod(0o640)
    else:
        path.unlink()
        create_key_file(path, os.urandom(32), use="log-storage")
    for _ in range(3):
        keys.refresh()
    assert keys.is_current(wrapped)
    assert keys.unwrap(wrapped, "cache") == DATA_KEY
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    path.unlink(missing_ok=True)
    create_key_file(path, os.urandom(32), use=KEY_USE)
    keys.refresh()
    assert not keys.is_current(wrapped)
