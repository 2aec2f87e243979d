"""The table in memory gives back what was put in."""

import hashlib
from dataclasses import replace

import pytest

from consent.errors import MalformedState
from consent.state import Cluster, Link, Member, Override
from consent.state_record import format_cluster
from consent.vocabulary.directive import Directive, Facts
from sidecar.cache import rows, table
from sidecar.cache.record_layout import FIRST_TOKEN, SEQ_LOW, TIME_LOW
from sidecar.cache.rows import ROW_BYTES, Shapes, format_shapes, parse_shapes
from sidecar.cache.table import BuiltTable
from sidecar.cache.table_building import build_table, merge_table
from tests.fakes.log_builder import token_of

OPT_OUT = Directive(seq=7, purpose="analytics", kind=2, occurred_at_ms=1_767_225_600_123, proof=1, assurance=1)
ADA, BOB, CYD = token_of("ada"), token_of("bob"), token_of("cyd")


def single(token: bytes, *directives: Directive, **fields: object) -> Cluster:
    return Cluster((Member(token, directives, **fields),))  # type: ignore[arg-type]


def pair(left: bytes, right: bytes, **fields: object) -> Cluster:
    members = (
        Member(left, (OPT_OUT,), links=(Link(right, 2),), **fields),  # type: ignore[arg-type]
        Member(right, links=(Link(left, 2),)),
    )
    return Cluster(tuple(sorted(members, key=lambda member: member.token)))


def build(*clusters: Cluster) -> BuiltTable:
    return build_table(map(format_cluster, sorted(clusters, key=lambda cluster: cluster.members[0].token)))


@pytest.mark.parametrize(
    ("directive", "spill_bytes"),
    [
        (OPT_OUT, 0),
        (replace(OPT_OUT, seq=2**63 - 1), 0),
        (replace(OPT_OUT, seq=2**32), 0),
        (replace(OPT_OUT, occurred_at_ms=-1), 0),
        (replace(OPT_OUT, occurred_at_ms=-(2**63)), 0),
        (replace(OPT_OUT, kind=200, proof=9, assurance=8, granted_by=7), 0),
        (replace(OPT_OUT, kind=1, subtree=True, explicit=True, notice_version=2**40, recipient="partner"), 0),
        (replace(OPT_OUT, kind=1, expires_at_ms=0), 105),
        (replace(OPT_OUT, floor_seq=5), 97),
    ],
)
def test_table_one_directive_is_found_again_and_spilled_only_where_it_must(
    directive: Directive, spill_bytes: int
) -> None:
    built = build(single(ADA, directive)).table
    assert built.find(ADA) == single(ADA, directive)
    assert built.spill_size > 0 if spill_bytes else built.spill_size == 0


@pytest.mark.parametrize(
    "cluster",
    [
        single(ADA),
        single(ADA, OPT_OUT, replace(OPT_OUT, seq=9, kind=1)),
        single(ADA, *(replace(OPT_OUT, seq=seq) for seq in range(1, 256))),
        single(ADA, *(replace(OPT_OUT, seq=seq) for seq in range(1, 300))),
        single(ADA, OPT_OUT, restricted_seq=4),
        single(ADA, OPT_OUT, stated=Facts(1, ("EU",))),
        single(ADA, OPT_OUT, hinted=Facts(2)),
        single(ADA, OPT_OUT, overrides=(Override("analytics", 7),)),
        single(ADA, OPT_OUT, links=(Link(ADA, 1),)),
    ],
)
def test_table_spilled_cluster_is_found_again(cluster: Cluster) -> None:
    built = build(cluster, single(BOB, OPT_OUT)).table
    assert built.find(ADA) == cluster
    assert built.find(BOB) == single(BOB, OPT_OUT)


def test_table_linked_members_all_find_the_whole_cluster_in_one_record() -> None:
    cluster = pair(ADA, BOB)
    built = build(cluster, single(CYD, OPT_OUT)).table
    assert built.find(ADA) == built.find(BOB) == cluster
    assert built.row_count == 3
    assert built.spill_size < 2 * len(format_cluster(cluster))


def test_table_without_rows_finds_nothing() -> None:
    built = build().table
    assert (built.row_count, built.find(ADA), built.has(ADA)) == (0, None, False)
    assert built.find(bytes(16)) is built.find(b"\xff" * 16) is None


def test_table_first_and_last_token_are_found() -> None:
    built = build(single(bytes(16), OPT_OUT), single(b"\xff" * 16, OPT_OUT)).table
    assert built.has(bytes(16))
    assert built.has(b"\xff" * 16)
    assert not built.has(b"\xff" * 13 + bytes(3))


def test_table_key_that_also_stands_across_rows_is_found_only_as_a_row() -> None:
    # The payload of the first row and the key of the second together hold the key that is asked for.
    directive = Directive(seq=0x01020304, purpose="analytics", kind=2, occurred_at_ms=0x05060708, proof=1, assurance=1)
    payload_end = bytes((1, 2, 3, 4, 5, 6, 7, 8))
    first = b"\x11\x11" + bytes(12) + b"\x00\x00"
    second = b"\x11\x11" + b"\x20\x21\x22\x23" + bytes(8) + b"\x00\x00"
    asked = b"\x11\x11" + payload_end + b"\x20\x21\x22\x23" + b"\x00\x00"
    others = build(single(first, directive), single(second, directive)).table
    assert bytes(others.rows).find(asked[2:14]) % ROW_BYTES != 0
    assert others.find(asked) is None
    # And if it is a row as well, after that place, it is found.
    higher = build(single(first, directive), single(second, directive), single(b"\x11\x11" + b"\xff" * 14, OPT_OUT))
    assert higher.table.find(b"\x11\x11" + b"\xff" * 14) is not None


def test_table_member_that_matches_by_112_bits_only_is_not_taken_for_linked() -> None:
    built = build(pair(ADA, BOB)).table
    stranger = ADA[:14] + bytes((ADA[14] ^ 1, ADA[15]))
    assert built.find(stranger) is None


def test_table_with_more_shapes_than_numbers_spills_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_SHAPES", 2)
    clusters = [single(token_of(name), replace(OPT_OUT, purpose=name)) for name in ("one", "two", "three", "four")]
    built = build(*clusters).table
    assert len(built.shapes) == 2
    assert [built.find(cluster.members[0].token) for cluster in clusters] == clusters


def test_table_with_a_finer_index_finds_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_choose_bits", lambda _: 18)
    names = [f"person-{number}" for number in range(3000)]
    clusters = {token_of(name): single(token_of(name), replace(OPT_OUT, seq=at)) for at, name in enumerate(names, 1)}
    built = build(*clusters.values())
    assert len(built.table._index) == (1 << 18) + 1
    assert all(built.table.find(token) == cluster for token, cluster in clusters.items())
    assert built.table.find(token_of("nobody")) is None
    assert len(built.table.coarse) == (1 << 16) + 1
    merged = merge_table(built.table, built.tails, {CYD: single(CYD, OPT_OUT)}).table
    assert all(merged.find(token) == cluster for token, cluster in clusters.items())
    assert merged.find(CYD) == single(CYD, OPT_OUT)


def test_build_records_out_of_order_or_twice_are_refused() -> None:
    first, second = sorted((ADA, BOB))
    ordered = [format_cluster(single(token, OPT_OUT)) for token in (first, second)]
    build_table(ordered)
    for wrong in (ordered[::-1], [ordered[0], ordered[0]]):
        with pytest.raises(MalformedState):
            build_table(wrong)


def test_build_record_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(MalformedState):
        build_table([format_cluster(single(ADA, OPT_OUT))[:-1]])


def test_build_many_records_of_one_shape_equal_those_read_one_by_one() -> None:
    clusters = [
        single(token_of(str(number)), replace(OPT_OUT, seq=number, occurred_at_ms=number)) for number in range(99)
    ]
    built = build(*clusters).table
    assert [built.find(cluster.members[0].token) for cluster in clusters] == clusters
    assert len(built.shapes) == 1


def test_record_layout_finds_the_token_and_the_lower_halves() -> None:
    record = format_cluster(single(ADA, replace(OPT_OUT, seq=0x1122334455667788, occurred_at_ms=0x0102030405060708)))
    assert record[FIRST_TOKEN] == ADA
    assert (record[SEQ_LOW], record[TIME_LOW]) == (b"\x55\x66\x77\x88", b"\x05\x06\x07\x08")


def test_build_tails_are_the_rest_of_the_tokens_in_order() -> None:
    built = build(single(ADA, OPT_OUT), pair(BOB, CYD))
    assert bytes(built.tails) == b"".join(token[14:] for token in sorted((ADA, BOB, CYD)))


@pytest.mark.parametrize(("row_count", "bits"), [(0, 16), (2**21 - 1, 16), (2**21, 17), (10**7, 19), (2**40, 24)])
def test_table_index_grows_with_the_rows(row_count: int, bits: int) -> None:
    assert table._choose_bits(row_count) == bits


def test_merge_replaces_adds_and_keeps() -> None:
    dan = token_of("dan")
    base = build(single(ADA, OPT_OUT), single(BOB, OPT_OUT, OPT_OUT), single(CYD, OPT_OUT))
    newer = {BOB: single(BOB, replace(OPT_OUT, seq=8)), dan: single(dan, replace(OPT_OUT, expires_at_ms=4))}
    merged = merge_table(base.table, base.tails, newer)
    assert merged.table.row_count == 4
    assert merged.table.find(ADA) == single(ADA, OPT_OUT)
    assert merged.table.find(BOB) == newer[BOB]
    assert merged.table.find(CYD) == single(CYD, OPT_OUT)
    assert merged.table.find(dan) == newer[dan]
    assert bytes(merged.tails) == b"".join(token[14:] for token in sorted((ADA, BOB, CYD, dan)))
    assert base.table.find(BOB) == single(BOB, OPT_OUT, OPT_OUT)
    assert base.table.find(dan) is None


def test_merge_drops_spill_records_that_nothing_points_to_and_moves_the_others() -> None:
    linked = pair(ADA, BOB)
    base = build(linked, single(CYD, OPT_OUT, OPT_OUT))
    merged = merge_table(base.table, base.tails, {CYD: single(CYD, OPT_OUT)}).table
    assert merged.find(ADA) == merged.find(BOB) == linked
    assert merged.spill_size == 5 + len(format_cluster(linked))
    # A second merge starts from moved records.
    again = merge_table(merged, base.tails, {CYD: single(CYD, OPT_OUT, OPT_OUT)}).table
    assert again.find(ADA) == again.find(BOB) == linked
    assert again.find(CYD) == single(CYD, OPT_OUT, OPT_OUT)


def test_merge_does_not_touch_the_shapes_of_the_table_it_starts_from() -> None:
    base = build(single(ADA, OPT_OUT))
    merge_table(base.table, base.tails, {BOB: single(BOB, replace(OPT_OUT, purpose="other"))})
    assert len(base.table.shapes) == 1


def test_table_costs_little_memory_per_subject() -> None:
    # 95 % one directive, 5 % two: the bytes are arithmetic, not a measurement.
    clusters = []
    for number in range(2000):
        token = hashlib.blake2b(number.to_bytes(4, "big"), digest_size=16).digest()
        clusters.append(single(token, *[replace(OPT_OUT, seq=number + 1)] * (2 if number % 20 == 0 else 1)))
    built = build(*clusters).table
    index_bytes = 4 * ((1 << 16) + 1)
    assert (built.memory_bytes - index_bytes) / len(clusters) <= 23.2


def test_shapes_round_trip_with_their_numbers() -> None:
    shapes = Shapes()
    directives = [replace(OPT_OUT, purpose=purpose, seq=2**40, occurred_at_ms=-(2**50)) for purpose in "abc"]
    payloads = [shapes.pack(directive) for directive in directives]
    read = parse_shapes(format_shapes(shapes))
    assert [read.pack(directive) for directive in directives] == payloads
    assert len(read) == 3


@pytest.mark.parametrize("content", [b"\x00", b"\x00\x00\x00\x02\x00\x00"])
def test_shapes_malformed_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedState):
        parse_shapes(content)


def test_shapes_twice_the_same_are_refused() -> None:
    shapes = Shapes()
    shapes.pack(OPT_OUT)
    with pytest.raises(MalformedState, match="twice"):
        parse_shapes(format_shapes(shapes) * 2)
