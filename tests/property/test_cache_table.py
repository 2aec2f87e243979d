"""For any history, the table answers as the fold does: built from records, merged from deltas, or read back from segments."""

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.event import Event
from consent.state import Cluster, Member
from consent.state_record import format_cluster
from consent.vocabulary.directive import Directive
from sidecar.cache.identity import Binding
from sidecar.cache.sealing import DataKey
from sidecar.cache.segments import CutTable, open_table
from sidecar.cache.table import Table
from sidecar.cache.table_building import build_table, merge_table
from tests.fakes.cache_place import IDENTITY
from tests.fakes.histories import TOKENS, fold, histories

_u64, _i64, _u8 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 255)
_names = st.sampled_from(("", "a", "marketing", "é", "*"))


def directives() -> st.SearchStrategy[Directive]:
    """Anything that the encoding can hold, few enough words that shapes meet again."""
    return st.builds(
        Directive,
        seq=st.one_of(st.integers(1, 9), _u64),
        purpose=_names,
        kind=st.one_of(st.integers(1, 2), _u8),
        occurred_at_ms=st.one_of(st.integers(0, 9), _i64),
        proof=_u8,
        assurance=st.integers(0, 2),
        expires_at_ms=st.one_of(st.none(), st.none(), _i64),
        subtree=st.booleans(),
        notice_version=st.one_of(st.just(0), _u64),
        recipient=_names,
        explicit=st.booleans(),
        granted_by=_u8,
        floor_seq=st.one_of(st.just(0), st.just(0), _u64),
    )


def records(state: dict[bytes, Cluster]) -> list[bytes]:
    firsts = {cluster.members[0].token: cluster for cluster in state.values()}
    return [format_cluster(firsts[token]) for token in sorted(firsts)]


def assert_answers(table: Table, state: dict[bytes, Cluster]) -> None:
    assert {token: table.find(token) for token in TOKENS} == {token: state.get(token) for token in TOKENS}
    assert table.row_count == len(state)


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.lists(directives(), max_size=3), max_size=8))
def test_table_of_any_members_is_lossless(members: dict[bytes, list[Directive]]) -> None:
    # Tokens are unique in the 14 bytes that memory keeps; two that are not cannot be told apart, by design.
    by_prefix = {token[:14]: token for token in members}
    state = {token: Cluster((Member(token, tuple(members[token])),)) for token in by_prefix.values()}
    table = build_table(records(state)).table
    assert {token: table.find(token) for token in state} == state


@given(histories(max_size=12))
def test_table_built_from_any_history_answers_as_the_fold(history: list[Event]) -> None:
    state = fold(history)
    assert_answers(build_table(records(state)).table, state)


@given(histories(max_size=8), st.lists(histories(max_size=4), max_size=3))
def test_table_merged_again_and_again_equals_one_built_at_once(first: list[Event], later: list[list[Event]]) -> None:
    state, seq = fold(first), len(first) + 1
    built = build_table(records(state))
    for history in later:
        newer = fold(history, state, seq)
        overlay = {token: cluster for token, cluster in newer.items() if state.get(token) is not cluster}
        built = merge_table(built.table, built.tails, overlay)
        state, seq = newer, seq + len(history)
        assert_answers(built.table, state)
    at_once = build_table(records(state))
    assert built.tails == at_once.tails
    assert built.table.coarse == at_once.table.coarse
    assert built.table.spill_size == at_once.table.spill_size


@given(histories(max_size=12), st.integers(24, 200))
@settings(max_examples=40)
def test_table_cut_into_segments_of_any_size_is_read_back(history: list[Event], segment_bytes: int) -> None:
    state = fold(history)
    key, binding = DataKey(bytes(32)), Binding(IDENTITY, 1)
    cut = CutTable(build_table(records(state)), segment_bytes)
    segments = cut.seal(range(cut.segment_count), key, binding)
    digest = sha256(b"".join(segment.blob for segment in segments)).digest()
    assert_answers(open_table(segments, cut.sizes, digest, key, binding, segment_bytes), state)
