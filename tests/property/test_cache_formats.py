"""Whatever bytes come out of a cache file, the parsers raise nothing but our errors."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from consent.errors import ConsentError
from consent.eventlog.merkle import Frontier
from consent.key_ring import KeyRing
from sidecar.cache.deltas import parse_delta
from sidecar.cache.manifest import Manifest, SegmentSizes, format_manifest, parse_manifest
from sidecar.cache.rows import parse_shapes
from sidecar.cache.sealed_secrets import Secrets, format_secrets, parse_secrets
from sidecar.cache.sealing import DataKey
from sidecar.errors import CorruptCache
from sidecar.ports import CheckpointSeen
from tests.fakes.cache_place import IDENTITY

_u64, _i64, _hash = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=32, max_size=32)


def frontiers() -> st.SearchStrategy[Frontier]:
    return st.integers(0, 2**63 - 1).flatmap(
        lambda size: st.just(Frontier(size, [bytes([at]) * 32 for at in range(size.bit_count())]))
    )


manifests = st.builds(
    Manifest,
    identity=st.just(IDENTITY),
    generation=_u64,
    boot_count=_u64,
    base_size=_u64,
    frontier=frontiers(),
    checkpoint=st.none()
    | st.builds(
        CheckpointSeen,
        note=st.binary(max_size=40),
        time_ms=_i64,
        age_at_arrival_ms=_i64,
        arrived_boot_ms=_i64,
        boot_id=st.sampled_from(("", "boot-1")),
    ),
    tenant_hash=_hash,
    secrets_hash=_hash,
    sizes=st.builds(SegmentSizes, _u64, _u64, _u64, _u64),
    segments_hash=_hash,
    delta_count=_u64,
    deltas_hash=_hash,
)
secrets = st.builds(
    Secrets,
    _hash,
    _hash,
    st.none() | st.builds(KeyRing, st.lists(_hash, max_size=2).map(tuple), st.lists(st.tuples(_u64, _hash)).map(tuple)),
)


@given(manifests)
def test_manifest_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(format_manifest(manifest)) == manifest


@given(secrets)
def test_secrets_round_trip(kept: Secrets) -> None:
    assert parse_secrets(format_secrets(kept)) == kept


@given(st.binary(max_size=300), st.sampled_from((b"", b"\x01", b"\x00\x00\x00\x05")))
def test_parsers_of_any_bytes_raise_only_our_errors(content: bytes, start: bytes) -> None:
    key = DataKey(bytes(32))
    for parse in (parse_manifest, parse_secrets, parse_shapes, lambda data: list(parse_delta(data))):
        with suppress(ConsentError, CorruptCache):
            parse(start + content)
    with suppress(CorruptCache):
        key.open("meta", b"", content)


@given(manifests, st.data())
def test_manifest_with_one_byte_changed_is_another_or_refused(manifest: Manifest, data: st.DataObject) -> None:
    content = bytearray(format_manifest(manifest))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(CorruptCache):
        assert parse_manifest(bytes(content)) != manifest
