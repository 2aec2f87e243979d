"""The position file: what is written is read back, and nothing else is."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal.position import (
    MalformedPosition,
    Position,
    format_positions,
    load_positions,
    parse_positions,
    save_positions,
)

CHAIN = bytes(range(16))
POSITION = Position(segment=2, offset=4_711, frame=9, chain_hash=bytes(range(32)), decisions=1_000)

counts = st.integers(0, 2**63)
positions = st.builds(
    Position,
    segment=counts,
    offset=counts,
    frame=counts,
    chain_hash=st.sampled_from([b""]) | st.binary(min_size=32, max_size=32),
    decisions=counts,
)


@given(st.dictionaries(st.binary(min_size=16, max_size=16), positions, max_size=4))
def test_positions_formatted_are_parsed(by_chain: dict[bytes, Position]) -> None:
    assert parse_positions(format_positions(by_chain)) == by_chain


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version": 1', b'"version": 2'),
        (b'"chains": {', b'"others": {'),
        (b'"segment": 2', b'"segment": -2'),
        (b'"segment": 2', b'"segment": true'),
        (b'"segment": 2', b'"segment": "2"'),
        (b'"segment": 2', b'"part": 2'),
        (b'"segment": 2', b'"part": 2, "segment": 2'),
        (b"0001020304", b"00010203"),
        (b'"chain_hash": "0', b'"chain_hash": "x'),
    ],
)
def test_parse_positions_malformed_refused(old: bytes, new: bytes) -> None:
    text = format_positions({CHAIN: POSITION})
    assert old in text
    with pytest.raises(MalformedPosition):
        parse_positions(text.replace(old, new))


@given(st.binary(max_size=60))
def test_parse_positions_of_any_bytes_raises_only_our_error(text: bytes) -> None:
    with contextlib.suppress(MalformedPosition):
        parse_positions(text)


def test_load_positions_without_a_file_is_empty(tmp_path: Path) -> None:
    assert load_positions(tmp_path / "shipped.json") == {}


def test_positions_saved_are_loaded_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "shipped.json"
    save_positions(path, {})
    save_positions(path, {CHAIN: POSITION})
    assert load_positions(path) == {CHAIN: POSITION}
    assert [each.name for each in tmp_path.iterdir()] == ["shipped.json"]
