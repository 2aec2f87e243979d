import stat
from pathlib import Path

import pytest

from consent.eventlog.errors import MalformedKey
from feed.signing.key_store import KEY_FILES, audit_day_key, create_keys, load_keys
from hosting.errors import KeyFileError, KeyFileMissing
from tests.fakes.feed_log import ORIGIN

TODAY = 20_454


def test_key_store_created_keys_are_the_owners_alone_and_all_different(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys")

    files = [tmp_path / "keys" / name for name in KEY_FILES]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert len({file.read_bytes().splitlines()[1] for file in files}) == len(KEY_FILES)


def test_key_store_loaded_keys_are_those_created_and_carry_the_logs_name(tmp_path: Path) -> None:
    create_keys(tmp_path)

    keys, again = load_keys(tmp_path, ORIGIN), load_keys(tmp_path, ORIGIN)

    assert keys == again
    assert (keys.log_key.name, keys.cosigner_key.name) == (ORIGIN, f"{ORIGIN}/cosigner")
    assert len({keys.subject_key, keys.audit_master, keys.kek, keys.log_key.seed(), keys.cosigner_key.seed()}) == 5


@pytest.mark.parametrize("name", KEY_FILES)
def test_key_store_existing_key_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")

    with pytest.raises(KeyFileError, match=f"{name}: exists already"):
        create_keys(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize("name", KEY_FILES)
def test_key_store_key_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    create_keys(tmp_path)
    (tmp_path / name).chmod(0o640)

    with pytest.raises(KeyFileError, match=f"{name}: open to its group or to others"):
        load_keys(tmp_path, ORIGIN)


@pytest.mark.parametrize("name", KEY_FILES)
def test_key_store_missing_key_is_named(tmp_path: Path, name: str) -> None:
    create_keys(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(KeyFileMissing, match=name):
        load_keys(tmp_path, ORIGIN)


def test_key_store_key_of_another_use_is_refused(tmp_path: Path) -> None:
    create_keys(tmp_path)
    (tmp_path / "cosigner.key").replace(tmp_path / "log.key")

    with pytest.raises(KeyFileError, match=r"log\.key: holds a key for cosigner-signing"):
        load_keys(tmp_path, ORIGIN)


def test_key_store_origin_that_cannot_name_a_key_is_refused(tmp_path: Path) -> None:
    create_keys(tmp_path)

    with pytest.raises(MalformedKey):
        load_keys(tmp_path, "two words")


def test_key_ring_holds_the_audit_keys_from_yesterday_to_five_weeks_ahead(tmp_path: Path) -> None:
    create_keys(tmp_path)
    keys = load_keys(tmp_path, ORIGIN)

    ring = keys.key_ring(TODAY)

    assert ring.subject_keys == (keys.subject_key,)
    assert [day for day, _ in ring.audit_keys] == list(range(TODAY - 1, TODAY + 36))
    assert len({key for _, key in ring.audit_keys}) == 37
    assert dict(keys.key_ring(TODAY + 1).audit_keys)[TODAY] == ring.audit_key(TODAY)


def test_audit_day_key_is_the_one_that_other_implementations_compute() -> None:
    # HKDF-SHA256 (RFC 5869) by hand: extract with an empty salt, expand by one block.
    import hashlib
    import hmac

    master = bytes(range(32))
    extracted = hmac.digest(bytes(32), master, hashlib.sha256)
    info = b"consentry/audit-day/v1" + TODAY.to_bytes(8, "big")

    assert audit_day_key(master, TODAY) == hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def test_feed_keys_repr_shows_no_secret(tmp_path: Path) -> None:
    create_keys(tmp_path)
    keys = load_keys(tmp_path, ORIGIN)

    assert repr(keys) == f"FeedKeys({ORIGIN!r})"
