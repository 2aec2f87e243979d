import pytest

from feed.errors import CorruptLog
from feed.log_store.sealing import KeyWrap, Sealer, derive_key, identify_kek
from tests.fakes.feed_log import seed

KEYS = {1: seed("one"), 2: seed("two")}


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(KEYS, 2, b"log")


def test_sealer_opens_what_it_sealed_and_hides_it(sealer: Sealer) -> None:
    sealed = sealer.seal(b"place", b"a secret content")

    assert b"secret" not in sealed
    assert sealer.open(b"place", sealed) == b"a secret content"


def test_sealer_same_content_twice_gives_other_bytes(sealer: Sealer) -> None:
    assert sealer.seal(b"place", b"content") != sealer.seal(b"place", b"content")


def test_sealer_opens_rows_of_earlier_keys(sealer: Sealer) -> None:
    sealed = Sealer({1: KEYS[1]}, 1, b"log").seal(b"place", b"content")

    assert sealer.open(b"place", sealed) == b"content"


def test_sealer_row_under_a_key_that_is_gone_is_refused(sealer: Sealer) -> None:
    with pytest.raises(CorruptLog, match="data key that is not there"):
        Sealer({1: KEYS[1]}, 1, b"log").open(b"place", sealer.seal(b"place", b"content"))


def test_sealer_row_moved_to_another_place_or_log_is_refused(sealer: Sealer) -> None:
    sealed = sealer.seal(b"place", b"content")

    with pytest.raises(CorruptLog, match="not authentic"):
        sealer.open(b"elsewhere", sealed)
    with pytest.raises(CorruptLog, match="not authentic"):
        Sealer(KEYS, 2, b"another log").open(b"place", sealed)


def test_sealer_every_changed_bit_is_found(sealer: Sealer) -> None:
    sealed = sealer.seal(b"place", b"content")

    for at in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptLog):
            sealer.open(b"place", bytes(changed))


@pytest.mark.parametrize("value", [None, 7, "text", b"", b"short"])
def test_sealer_value_that_is_no_sealed_row_is_refused(sealer: Sealer, value: object) -> None:
    with pytest.raises(CorruptLog):
        sealer.open(b"place", value)


def test_key_wrap_unwraps_for_the_same_use_only() -> None:
    wrap = KeyWrap(seed("kek"), b"log")
    wrapped = wrap.wrap(seed("key"), "data-key/1")

    assert seed("key") not in wrapped
    assert wrap.unwrap(wrapped, "data-key/1") == seed("key")
    for other in (KeyWrap(seed("other kek"), b"log"), KeyWrap(seed("kek"), b"other log")):
        with pytest.raises(CorruptLog, match="data-key/1: cannot be unwrapped"):
            other.unwrap(wrapped, "data-key/1")
    with pytest.raises(CorruptLog, match="data-key/2: cannot be unwrapped"):
        wrap.unwrap(wrapped, "data-key/2")
    with pytest.raises(CorruptLog, match="cannot be unwrapped"):
        wrap.unwrap(b"", "data-key/1")


def test_derived_keys_differ_by_use_and_the_keks_name_is_none_of_them() -> None:
    kek = seed("kek")

    assert derive_key(kek, "a") != derive_key(kek, "b") != kek
    assert identify_kek(kek) != identify_kek(seed("other kek"))
    assert identify_kek(kek) not in (kek[:16], derive_key(kek, "key-wrap/v1")[:16])
