from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent import encoding as wire
from feed.errors import CorruptArchive, ForeignLog
from feed.log_store import segments
from feed.log_store.port import LoggedRequest
from feed.log_store.sealing import KeyWrap
from feed.log_store.segments import Frame, SegmentFormat, SegmentReader
from feed.ports import Accepted, StoredEntry
from tests.fakes.feed_log import IDENTITY, KEYS, ORIGIN, TENANT, seed, token_of

KEY = KeyWrap(KEYS.kek, IDENTITY.key_context).wrap(bytes(32), "index-key")

NUMBERS = st.integers(0, 2**63 - 1)
ANSWERS = st.builds(
    Accepted, st.binary(min_size=16, max_size=16), NUMBERS, NUMBERS, st.sampled_from(["", "INVALID_REQUEST"])
)
REQUESTS = st.tuples(
    st.binary(min_size=16, max_size=16), st.builds(LoggedRequest, st.binary(min_size=32, max_size=32), ANSWERS)
)
HASHES = st.binary(min_size=32, max_size=32)
TYPES = st.integers(0, 255)
PAYLOADS = st.one_of(
    st.tuples(TYPES, HASHES, st.binary(min_size=1, max_size=60), st.text("0123456789-", max_size=55)),
    # Of an entry whose payload was erased.
    st.tuples(TYPES, st.just(b""), st.just(b""), st.just(""), st.just(()), HASHES),
)
FRAMES = st.builds(
    lambda from_seq, payloads, requests, note, time_ms: Frame(
        from_seq,
        [StoredEntry(seq, *payload) for seq, payload in enumerate(payloads, from_seq)],
        requests,
        note,
        time_ms,
    ),
    st.integers(1, 2**62),
    st.lists(PAYLOADS, max_size=4),
    st.lists(REQUESTS, max_size=3),
    st.binary(max_size=40),
    NUMBERS,
)


def make_frame(seq: int = 1) -> Frame:
    entry = StoredEntry(seq, 1, seed("opening"), b"event bytes" + token_of("ann"))
    request = LoggedRequest(seed("digest"), Accepted(bytes(16), seq, 5))
    return Frame(seq, [entry], [(bytes(16), request)], b"note", 1)


def write(path: Path, *frames: Frame) -> list[int]:
    """Writes a segment; returns where its head and each of its records ends."""
    form = SegmentFormat(ORIGIN, TENANT, KEYS.kek, KEY, frames[0].from_seq if frames else 1)
    pieces = [form.format_head(), *(form.format_record(index, frame) for index, frame in enumerate(frames))]
    path.write_bytes(b"".join(pieces))
    return [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]


def read(path: Path) -> tuple[list[Frame], bool]:
    with closing(SegmentReader.open(path, ORIGIN, TENANT, KEYS.kek)) as reader:
        return list(reader.frames()), reader.is_torn


@given(FRAMES)
def test_segment_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert segments._parse_frame(segments._format_frame(frame)) == frame


def test_segment_holds_its_frames_in_their_order_and_nothing_in_clear(tmp_path: Path) -> None:
    frames = [make_frame(1), make_frame(2), Frame(3, (), (), b"note", 7)]
    write(tmp_path / "s", *frames)

    assert [(frame.from_seq, list(frame.entries), list(frame.requests)) for frame in read(tmp_path / "s")[0]] == [
        (frame.from_seq, list(frame.entries), list(frame.requests)) for frame in frames
    ]
    content = (tmp_path / "s").read_bytes()
    assert [secret for secret in (b"event bytes", token_of("ann"), b"note", seed("digest")) if secret in content] == []


def test_segment_every_flipped_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path / "s", make_frame(1), make_frame(2))
    content = (tmp_path / "s").read_bytes()
    for place in range(len(content)):
        (tmp_path / "s").write_bytes(content[:place] + bytes((content[place] ^ 0x10,)) + content[place + 1 :])
        with pytest.raises((CorruptArchive, ForeignLog)):
            read(tmp_path / "s")


def test_segment_cut_anywhere_gives_the_frames_before_and_says_that_it_is_torn(tmp_path: Path) -> None:
    ends = write(tmp_path / "s", make_frame(1), make_frame(2))
    content = (tmp_path / "s").read_bytes()
    for length in range(ends[0], len(content)):
        (tmp_path / "s").write_bytes(content[:length])
        frames, is_torn = read(tmp_path / "s")
        assert len(frames) == sum(end <= length for end in ends[1:])
        assert is_torn == (length not in ends)


def test_segment_blocks_that_a_crash_left_unwritten_are_a_torn_end(tmp_path: Path) -> None:
    write(tmp_path / "s", make_frame(1))
    with (tmp_path / "s").open("ab") as file:
        file.write(bytes(4096))
    frames, is_torn = read(tmp_path / "s")
    assert (len(frames), is_torn) == (1, True)


def test_segment_records_cannot_be_moved_taken_out_or_brought_from_another(tmp_path: Path) -> None:
    ends = write(tmp_path / "s", make_frame(1), make_frame(2), make_frame(3))
    content = (tmp_path / "s").read_bytes()
    head, first, second, third = (content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))
    write(tmp_path / "t", make_frame(1), make_frame(2), make_frame(3))
    foreign = (tmp_path / "t").read_bytes()[ends[0] : ends[1]]
    for pieces in ((second, first, third), (first, third), (foreign, second, third)):
        (tmp_path / "s").write_bytes(b"".join((head, *pieces)))
        with pytest.raises(CorruptArchive):
            read(tmp_path / "s")


def test_segment_record_that_was_written_twice_uses_no_nonce_twice() -> None:
    form = SegmentFormat(ORIGIN, TENANT, KEYS.kek, KEY, 1)
    first, again = (form.format_record(0, make_frame()) for _ in range(2))
    assert first[8:20] != again[8:20]


def test_segment_of_somebody_else_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "s", make_frame())
    for origin, tenant, kek in (("other", TENANT, KEYS.kek), (ORIGIN, "other", KEYS.kek), (ORIGIN, TENANT, bytes(32))):
        with pytest.raises(ForeignLog):
            SegmentReader.open(tmp_path / "s", origin, tenant, kek)


@pytest.mark.parametrize(
    "content",
    [b"", b"a letter", segments._MAGIC, segments._MAGIC + wire.BLOB.write(b""), segments._MAGIC + b"\xff" * 5000],
)
def test_segment_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(CorruptArchive):
        read(tmp_path / "s")
