"""Sealed values open at their place, under their key, and nowhere else."""

import pytest

from sidecar.cache.identity import Binding, CacheIdentity
from sidecar.cache.sealing import DataKey
from sidecar.errors import CorruptCache
from tests.fakes.cache_place import IDENTITY

KEY = bytes(range(32))
HERE = Binding(IDENTITY, 3).place("delta", 5, 9)


def test_sealed_value_opens_at_its_place_in_a_later_start() -> None:
    sealed = DataKey(KEY).seal("delta", HERE, b"what was said")
    assert b"what" not in sealed
    assert DataKey(KEY).open("delta", HERE, sealed) == b"what was said"


@pytest.mark.parametrize(
    "place",
    [
        Binding(CacheIdentity("sidecar-2", IDENTITY.tenant, IDENTITY.origin), 3).place("delta", 5, 9),
        Binding(CacheIdentity(IDENTITY.sidecar_id, "other", IDENTITY.origin), 3).place("delta", 5, 9),
        Binding(CacheIdentity(IDENTITY.sidecar_id, IDENTITY.tenant, "log.example.net/x"), 3).place("delta", 5, 9),
        Binding(IDENTITY, 4).place("delta", 5, 9),
        Binding(IDENTITY, 3).place("segment", 5, 9),
        Binding(IDENTITY, 3).place("delta", 6, 9),
        Binding(IDENTITY, 3).place("delta", 5, 10),
    ],
)
def test_sealed_value_opens_at_no_other_place(place: bytes) -> None:
    sealed = DataKey(KEY).seal("delta", HERE, b"what was said")
    with pytest.raises(CorruptCache):
        DataKey(KEY).open("delta", place, sealed)


def test_binding_fields_cannot_run_into_each_other() -> None:
    left = CacheIdentity("ab", "c", "log.example.org")
    right = CacheIdentity("a", "bc", "log.example.org")
    assert Binding(left, 1).place("meta") != Binding(right, 1).place("meta")


def test_sealed_value_opens_for_no_other_use_and_under_no_other_key() -> None:
    sealed = DataKey(KEY).seal("delta", HERE, b"what was said")
    with pytest.raises(CorruptCache):
        DataKey(KEY).open("meta", HERE, sealed)
    with pytest.raises(CorruptCache):
        DataKey(bytes(32)).open("delta", HERE, sealed)


def test_sealed_value_any_changed_or_missing_byte_is_noticed() -> None:
    sealed = DataKey(KEY).seal("delta", HERE, b"said")
    for at in range(len(sealed)):
        for changed in (sealed[:at] + bytes((sealed[at] ^ 0x80,)) + sealed[at + 1 :], sealed[:at]):
            with pytest.raises(CorruptCache):
                DataKey(KEY).open("delta", HERE, changed)


def test_seal_two_starts_with_the_same_data_key_share_no_key_and_nonce() -> None:
    # What a restored older file leads to: both starts count from 1, under the same data key.
    before, after = DataKey(KEY), DataKey(KEY)
    first = [before.seal("delta", HERE, b"said") for _ in range(3)]
    second = [after.seal("delta", HERE, b"said") for _ in range(3)]
    heads = {sealed[:24] for sealed in first + second}
    assert len(heads) == 6
    assert len({sealed[24:] for sealed in first + second}) == 6


def test_segments_are_sealed_once_each() -> None:
    key = DataKey(KEY)
    key.seal_segment(0, HERE, b"rows")
    with pytest.raises(ValueError, match="once"):
        key.seal_segment(0, HERE, b"other rows")


def test_segment_opens_into_its_place_only_as_its_number_and_size() -> None:
    sealed = DataKey(KEY).seal_segment(0, HERE, b"rows")
    into = bytearray(4)
    DataKey(KEY).open_segment(0, HERE, sealed, memoryview(into))
    assert into == b"rows"
    for number, blob, size in ((1, sealed, 4), (0, sealed[:-1], 4), (0, sealed, 5), (0, b"", 4)):
        with pytest.raises(CorruptCache):
            DataKey(KEY).open_segment(number, HERE, blob, memoryview(bytearray(size)))


def test_wiped_key_is_gone() -> None:
    key = DataKey(KEY)
    key.wipe()
    assert key.reveal() == bytes(32)


def test_data_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(b"short")
