"""Manifest, secrets, deltas and the table's directory: read back as written, and refused otherwise."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from consent.errors import MalformedEvent, MalformedState, UnknownEventType
from consent.event import ReceivedEvent
from consent.key_ring import KeyRing
from sidecar.cache.deltas import fold_events, format_delta, parse_delta
from sidecar.cache.identity import Binding
from sidecar.cache.manifest import Manifest, SegmentSizes, chain, format_manifest, parse_manifest
from sidecar.cache.record_layout import LAYOUT_HASH
from sidecar.cache.sealed_secrets import Secrets, format_secrets, parse_secrets
from sidecar.cache.sealing import DataKey
from sidecar.cache.segments import CutTable, SealedSegment, open_table, open_tails, tail_numbers
from sidecar.cache.table import BuiltTable
from sidecar.cache.table_building import build_table
from sidecar.errors import CorruptCache
from sidecar.ports import LoggedEvent
from tests.fakes.cache_place import IDENTITY
from tests.fakes.log_builder import LogBuilder, token_of

RING = KeyRing((bytes(32), b"\x01" * 32), ((20_000, b"\x02" * 32),))


def make_manifest() -> Manifest:
    log = LogBuilder()
    head = log.batch(log.directive("ada"), log.directive("bob")).head
    return Manifest(
        identity=IDENTITY,
        generation=4,
        boot_count=2,
        base_size=1,
        frontier=head.frontier,
        checkpoint=head.checkpoint,
        tenant_hash=b"\x01" * 32,
        secrets_hash=b"\x02" * 32,
        sizes=SegmentSizes(1, 2, 3, 4),
        segments_hash=b"\x03" * 32,
        delta_count=1,
        deltas_hash=b"\x04" * 32,
    )


@pytest.mark.parametrize("manifest", [make_manifest(), replace(make_manifest(), checkpoint=None)])
def test_manifest_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(format_manifest(manifest)) == manifest


def test_manifest_cut_short_longer_or_of_another_version_is_refused() -> None:
    content = format_manifest(make_manifest())
    for changed in (*(content[:end] for end in range(len(content))), content + b"\x00", b"\x02" + content[1:]):
        with pytest.raises(CorruptCache):
            parse_manifest(changed)


def test_manifest_written_with_another_encoding_of_records_is_refused() -> None:
    content = format_manifest(make_manifest())
    assert content[1:33] == LAYOUT_HASH
    with pytest.raises(CorruptCache, match="another version"):
        parse_manifest(content.replace(LAYOUT_HASH, bytes(32)))


def test_manifest_with_a_frontier_that_is_none_is_refused() -> None:
    manifest = make_manifest()
    frontier = manifest.frontier.to_bytes()
    content = format_manifest(manifest).replace(frontier, b"\x07" + frontier[1:])
    with pytest.raises(CorruptCache, match="frontier"):
        parse_manifest(content)


def test_chain_depends_on_every_delta_and_their_order() -> None:
    start = bytes(32)
    hashes = {
        chain(chain(start, left), right) for left, right in ((b"a", b"b"), (b"b", b"a"), (b"a", b"a"), (b"", b"ab"))
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("secrets", [Secrets(b"\x07" * 32, b"\x08" * 32), Secrets(b"\x07" * 32, b"\x08" * 32, RING)])
def test_secrets_round_trip_and_never_shown(secrets: Secrets) -> None:
    assert parse_secrets(format_secrets(secrets)) == secrets
    assert repr(secrets) == "Secrets()"


def test_secrets_malformed_are_refused() -> None:
    content = format_secrets(Secrets(b"\x07" * 32, b"\x08" * 32, RING))
    for changed in (*(content[:end] for end in range(len(content))), content + b"\x00"):
        with pytest.raises(CorruptCache):
            parse_secrets(changed)
    with pytest.raises(CorruptCache, match="key ring"):
        parse_secrets(content[:65] + b"\x00\x00\x00\x01\x09")


def test_delta_keeps_what_changes_answers_and_its_place() -> None:
    log = LogBuilder()
    received = ReceivedEvent(origin=log.origin, received_at_ms=1, request_type=1)
    logged = log.append(received, log.directive("ada"), received, log.link("ada", "bob"))
    assert list(parse_delta(format_delta(logged))) == [(2, logged[1].event), (4, logged[3].event)]


def test_delta_cut_short_is_refused() -> None:
    log = LogBuilder()
    content = format_delta(log.append(log.directive("ada")))
    for end in range(1, len(content)):
        with pytest.raises(MalformedState):
            list(parse_delta(content[:end]))


def test_delta_with_an_event_of_a_newer_program_is_refused() -> None:
    log = LogBuilder()
    (logged,) = log.append(log.directive("ada"))
    for event_bytes, error in ((b"\x01\x7f", UnknownEventType), (logged.event_bytes + b"\x00", MalformedEvent)):
        with pytest.raises(error):
            list(parse_delta(format_delta([LoggedEvent(1, logged.event, event_bytes)])))


def test_fold_events_sees_what_came_earlier_in_the_batch_and_leaves_the_state_alone() -> None:
    log = LogBuilder()
    log.append(log.directive("ada"))
    before = dict(log.clusters)
    events = [(logged.seq, logged.event) for logged in log.append(log.link("ada", "bob"), log.directive("bob"))]
    changed = fold_events(events, before.get, ())
    assert changed == log.clusters
    assert list(before) == [token_of("ada")]


def test_table_round_trip_through_segments() -> None:
    built, cut, key, binding = make_cut_table()
    segments = cut.seal(range(cut.segment_count), key, binding)
    digest = hash_of(segments)
    table = open_table(segments, cut.sizes, digest, key, binding)
    assert bytes(table.rows) == bytes(built.table.rows)
    assert table.find(token_of("ada")) == built.table.find(token_of("ada")) is not None
    numbers = tail_numbers(cut.sizes)
    assert open_tails(segments[numbers.start : numbers.stop], cut.sizes, key, binding) == built.tails


def test_segments_missing_swapped_left_over_or_of_another_generation_are_refused() -> None:
    _, cut, key, binding = make_cut_table()
    segments = cut.seal(range(cut.segment_count), key, binding)
    assert cut.segment_count == 4
    swapped = [segments[0], segments[2]._replace(number=1), segments[1]._replace(number=2), segments[3]]
    other = make_cut_table()
    foreign = other[1].seal(range(4), other[2], Binding(IDENTITY, 2))
    for wrong in (segments[:-1], segments[1:], swapped, [*segments, segments[-1]], [foreign[0], *segments[1:]]):
        with pytest.raises(CorruptCache):
            open_table(wrong, cut.sizes, hash_of(wrong), key, binding)
    with pytest.raises(CorruptCache, match="manifest"):
        open_table(segments, cut.sizes, bytes(32), key, binding)


def test_tails_missing_or_left_over_are_refused() -> None:
    _, cut, key, binding = make_cut_table()
    segments = cut.seal(range(cut.segment_count), key, binding)
    for wrong in ([], segments[2:], [segments[3], segments[3]]):
        with pytest.raises(CorruptCache):
            open_tails(wrong, cut.sizes, key, binding)


def make_cut_table() -> tuple[BuiltTable, CutTable, DataKey, Binding]:
    log = LogBuilder()
    log.append(log.directive("ada"), log.link("ada", "bob"), log.directive("cyd"))
    built = build_table(log.records())
    return built, CutTable(built), DataKey(bytes(32)), Binding(IDENTITY, 1)


def hash_of(segments: Sequence[SealedSegment]) -> bytes:
    return sha256(b"".join(segment.blob for segment in segments)).digest()
