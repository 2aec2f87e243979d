"""Decision records, key rings and the state root: what they hold comes back, what is changed is noticed."""

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consent import decision_record as dr
from consent.errors import MalformedState
from consent.key_ring import InvalidKeyRing, KeyRing, open_key_ring, seal_key_ring
from consent.state import Cluster, Link, Member
from consent.state_record import StateHasher, format_cluster, join_records, parse_cluster, split_records
from consent.tenant_state import EMPTY_TENANT, TenantState
from consent.vocabulary.directive import Directive
from consent.vocabulary.reason import Effect, Reason
from tests.fakes.histories import directives, fold

SITUATION = dr.Situation("o", 7, bytes(32), 2, 1_000)
QUESTION = dr.AskedQuestion("mailer", True, ("a", "b"), ("EU",), 3, False, "*", ("health",), 9)


def _call(items: tuple[dr.Item, ...]) -> dr.CallRecord:
    return dr.CallRecord(
        call_id=bytes(range(16)),
        now_ms=5,
        age_ms=dr.NO_AGE,
        latency_us=12,
        trace_id=bytes([1]) * 16,
        parent_span_id=bytes(8),
        span_id=bytes([2]) * 8,
        trace_flags=1,
        situation=dr.format_situation(SITUATION),
        question=dr.format_question(QUESTION),
        items=items,
    )


_items = st.builds(
    dr.Item,
    st.lists(st.binary(min_size=16, max_size=16), max_size=3).map(tuple),
    st.booleans(),
    st.sampled_from(Effect),
    st.sampled_from(Reason),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
)


@given(st.lists(_items, max_size=5).map(tuple))
def test_record_round_trips(items: tuple[dr.Item, ...]) -> None:
    call = _call(items)
    assert dr.parse_record(dr.format_record(call)) == call
    assert dr.parse_situation(call.situation) == SITUATION
    assert dr.parse_question(call.question) == QUESTION


@given(st.binary(max_size=300))
def test_record_any_bytes_raise_only_our_error(record: bytes) -> None:
    try:
        dr.parse_record(record)
    except dr.MalformedRecord:
        return


def test_record_truncated_anywhere_is_refused() -> None:
    record = dr.format_record(_call((dr.Item((bytes(16),), True, Effect.ALLOW, Reason.GRANTED, 1, 2),)))
    for end in range(len(record)):
        with pytest.raises(dr.MalformedRecord):
            dr.parse_record(record[:end])


def test_item_id_counts_up_as_one_number_and_wraps() -> None:
    assert dr.item_id(bytes(15) + b"\xff", 1) == bytes(14) + b"\x01\x00"
    assert dr.item_id(b"\xff" * 16, 1) == bytes(16)


RING = KeyRing((bytes(range(32)),), ((20_000, bytes(32)), (20_001, b"\x01" * 32)))


def test_key_ring_opens_for_the_sidecar_and_tenant_it_was_sealed_to() -> None:
    private_key = X25519PrivateKey.generate()
    public_key = private_key.public_key().public_bytes_raw()
    sealed = seal_key_ring(RING, public_key, tenant="t", sidecar_id="s")
    assert open_key_ring(sealed, private_key, tenant="t", sidecar_id="s") == RING
    for key, tenant, sidecar_id, blob in (
        (X25519PrivateKey.generate(), "t", "s", sealed),
        (private_key, "other", "s", sealed),
        (private_key, "t", "other", sealed),
        (private_key, "t", "s", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (private_key, "t", "s", b""),
    ):
        with pytest.raises(InvalidKeyRing):
            open_key_ring(blob, key, tenant=tenant, sidecar_id=sidecar_id)


def test_key_ring_sealed_to_what_is_no_key_is_refused() -> None:
    with pytest.raises(InvalidKeyRing, match="recipient_public_key"):
        seal_key_ring(RING, b"short", tenant="t", sidecar_id="s")


def test_key_ring_audit_key_of_a_day_without_one_is_the_last_before() -> None:
    assert RING.audit_key(20_001) == b"\x01" * 32
    assert RING.audit_key(30_000) == b"\x01" * 32
    assert RING.audit_key(1) == bytes(32)
    assert KeyRing((), ()).audit_key(1) is None


def test_key_ring_repr_shows_no_key() -> None:
    assert "01" * 8 not in repr(RING)
    assert repr(RING) == "KeyRing(1 subject keys, 2 audit keys)"


def _state_root(records: dict[bytes, bytes], tenant: TenantState = EMPTY_TENANT) -> bytes:
    hasher = StateHasher()
    for token in sorted(records):
        hasher.add(token, records[token])
    return hasher.finish(tenant)


@given(st.lists(directives(), min_size=1, max_size=6), st.integers(0, 10**6))
def test_state_root_any_change_gives_another_root(events: list[object], seed: int) -> None:
    state = fold(events)  # type: ignore[arg-type]
    records = {cluster.members[0].token: format_cluster(cluster) for cluster in state.values()}
    root_hash = _state_root(records)
    token = random.Random(seed).choice(sorted(records))
    assert _state_root({**records, token: records[token] + b"\x00"}) != root_hash
    assert _state_root({key: record for key, record in records.items() if key != token}) != root_hash
    assert _state_root(records, TenantState(key_commitments=(bytes(32),))) != root_hash
    assert _state_root(dict(reversed(records.items()))) == root_hash


def test_state_root_records_out_of_order_are_refused() -> None:
    hasher = StateHasher()
    hasher.add(b"\x02" * 16, b"record")
    with pytest.raises(MalformedState, match="order"):
        hasher.add(b"\x01" * 16, b"record")


def test_split_records_cut_short_is_refused() -> None:
    chunk = join_records([b"one", b"", b"three"])
    assert list(split_records(chunk)) == [b"one", b"", b"three"]
    for cut in (1, 4, len(chunk) - 1):
        with pytest.raises(MalformedState):
            list(split_records(chunk[:cut]))


def test_parse_cluster_with_a_link_that_joins_nothing_is_refused() -> None:
    left, right = bytes([1]) * 16, bytes([2]) * 16
    lonely = Member(left, links=(Link(right, 2),))
    for members in ((lonely,), (lonely, Member(right)), (lonely, Member(right, links=(Link(left, 1),)))):
        with pytest.raises(MalformedState, match="links"):
            parse_cluster(format_cluster(Cluster(members)))


def test_cluster_record_holds_more_directives_than_16_bits_can_count() -> None:
    directives = tuple(Directive(seq, "p", 5, 0, 0, 0) for seq in range(1, 70_001))
    cluster = Cluster((Member(bytes(16), directives),))
    assert parse_cluster(format_cluster(cluster)) == cluster
