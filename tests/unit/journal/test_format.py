"""The bytes of segments: what is written is read back, and nothing else is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import CorruptJournal
from journal.format import (
    CHAIN_START,
    MAX_FRAME_BYTES,
    PREFIX_BYTES,
    FrameKind,
    JournalMode,
    SegmentChain,
    SegmentHeader,
    format_header,
    format_segment_name,
    header_length,
    pack_records,
    parse_header,
    parse_prefix,
    parse_segment_name,
    unpack_frame,
    verify_header,
)

KEY = bytes(range(32))
HEADER = SegmentHeader(bytes(range(16)), 3, 1_767_225_600_000, JournalMode.SYNC, CHAIN_START, "pod-1", b"wrapped")


@given(
    st.builds(
        SegmentHeader,
        chain_id=st.binary(min_size=16, max_size=16),
        number=st.integers(0, 2**64 - 1),
        created_ms=st.integers(-(2**63), 2**63 - 1),
        mode=st.sampled_from(JournalMode),
        previous_chain_hash=st.binary(min_size=32, max_size=32),
        sidecar_id=st.from_regex(r"[a-z0-9./-]{0,40}", fullmatch=True),
        wrapped_key=st.binary(max_size=200),
    )
)
def test_header_formatted_is_parsed_and_authentic(header: SegmentHeader) -> None:
    header_bytes = format_header(header, KEY)
    assert parse_header(header_bytes) == header
    assert header_length(header_bytes[:17]) == len(header_bytes)
    verify_header(header_bytes, KEY)


def test_header_with_any_byte_flipped_is_refused() -> None:
    header_bytes = format_header(HEADER, KEY)
    for at in range(len(header_bytes)):
        flipped = bytearray(header_bytes)
        flipped[at] ^= 0x41
        with pytest.raises(CorruptJournal):
            parse_and_verify(bytes(flipped))


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_header_length_of_too_few_bytes_is_none_or_the_whole(cut: int) -> None:
    header_bytes = format_header(HEADER, KEY)
    assert header_length(header_bytes[:cut]) in (None, len(header_bytes))
    with pytest.raises(CorruptJournal):
        parse_header(header_bytes[:cut])


def test_header_under_another_key_is_not_authentic() -> None:
    with pytest.raises(CorruptJournal, match="not authentic"):
        verify_header(format_header(HEADER, KEY), bytes(32))


def test_header_of_a_later_version_is_refused_by_name() -> None:
    later = bytearray(format_header(HEADER, KEY))
    later[8] = 2
    with pytest.raises(CorruptJournal, match="version 2 is not known"):
        parse_header(bytes(later))


def test_format_header_too_long_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        format_header(replace(HEADER, wrapped_key=bytes(70_000)), KEY)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 10**9))
def test_segment_name_formatted_is_parsed(chain_id: bytes, number: int) -> None:
    assert parse_segment_name(format_segment_name(chain_id, number)) == (chain_id, number)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "shipped.json",
        f"{'00' * 16}-00000000.tmp",
        f"{'00' * 16}-0.journal",
        f"{'0G' * 16}-00000000.journal",
        f"{'00' * 16}-0000000\u0661.journal",
        f"{'AA' * 16}-00000000.journal",
        f"{'00' * 16}.journal",
    ],
)
def test_parse_segment_name_of_another_file_is_none(name: str) -> None:
    assert parse_segment_name(name) is None


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_records_packed_are_unpacked(records: list[bytes]) -> None:
    assert unpack_frame(pack_records(records)) == (FrameKind.RECORDS, tuple(records))


def test_unpack_frame_of_another_kind_gives_its_content_as_one() -> None:
    assert unpack_frame(b"\x07whatever a later version keeps here") == (7, (b"whatever a later version keeps here",))


@pytest.mark.parametrize("plaintext", [b"\x01\x00", b"\x01\x00\x00\x00\x05abcd", b"\x01\xff\xff\xff\xff"])
def test_unpack_frame_cut_short_refused(plaintext: bytes) -> None:
    with pytest.raises(CorruptJournal):
        unpack_frame(plaintext)


def test_chain_frames_open_in_order_only() -> None:
    first, second = seal_frames(b"one", b"two")
    reader = new_chain()
    with pytest.raises(CorruptJournal):
        reader.open(second)
    assert reader.open(first) == b"one"
    reader.advance(first)
    assert reader.open(second) == b"two"
    with pytest.raises(CorruptJournal):
        reader.open(first)


def test_chain_of_another_header_opens_nothing() -> None:
    (frame,) = seal_frames(b"one")
    with pytest.raises(CorruptJournal):
        SegmentChain(b"another header", CHAIN_START, KEY).open(frame)


def test_prefix_of_a_frame_tells_length_and_decisions() -> None:
    frame = new_chain().seal(b"plaintext", 1_234)
    assert parse_prefix(frame[:PREFIX_BYTES]) == (len(frame) - PREFIX_BYTES, 1_234)


def test_prefix_with_any_bit_flipped_is_refused() -> None:
    prefix = new_chain().seal(b"plaintext", 1)[:PREFIX_BYTES]
    for bit in range(PREFIX_BYTES * 8):
        flipped = (int.from_bytes(prefix, "big") ^ 1 << bit).to_bytes(PREFIX_BYTES, "big")
        with pytest.raises(CorruptJournal):
            parse_prefix(flipped)


def test_decisions_rewritten_with_a_fitting_checksum_break_the_seal() -> None:
    chain, other = new_chain(), new_chain()
    frame = chain.seal(b"plaintext", 1)
    forged = other.seal(b"plaintext", 2)[:PREFIX_BYTES] + frame[PREFIX_BYTES:]
    parse_prefix(forged[:PREFIX_BYTES])
    with pytest.raises(CorruptJournal):
        new_chain().open(forged)


def test_prefix_of_an_endless_frame_is_refused() -> None:
    frame = new_chain().seal(bytes(MAX_FRAME_BYTES), 1)
    with pytest.raises(CorruptJournal):
        parse_prefix(frame[:PREFIX_BYTES])


def new_chain() -> SegmentChain:
    return SegmentChain(format_header(HEADER, KEY), CHAIN_START, KEY)


def seal_frames(*plaintexts: bytes) -> list[bytes]:
    chain, frames = new_chain(), []
    for plaintext in plaintexts:
        frame = chain.seal(plaintext, 1)
        chain.advance(frame)
        frames.append(frame)
    return frames


def parse_and_verify(header_bytes: bytes) -> None:
    parse_header(header_bytes)
    verify_header(header_bytes, KEY)
