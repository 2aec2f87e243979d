"""Reading a segment: whatever was done to its frames is found, with its place, and an honest crash is not called damage."""

from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import CorruptSegment, JournalError, TornTail
from journal.format import JournalMode
from journal.reader import UNOPENED, SegmentReader, read_frames, read_segment
from sidecar.errors import WrongCacheKey
from sidecar.journal.writer import FileJournal
from tests.fakes.clock import FakeClock
from tests.fakes.journal_material import SealingKeys, join_segment, make_record, segment_paths, split_segment

KEYS = SealingKeys()
COUNT = 6


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A segment of six frames, one record each."""
    write_records(tmp_path / "journal")
    (path,) = segment_paths(tmp_path / "journal")
    return path


def test_read_segment_gives_every_record_with_its_place(segment: Path) -> None:
    found = list(read_segment(segment, KEYS))
    assert [each.record for each in found] == [make_record(number) for number in range(COUNT)]
    assert [(each.segment, each.frame, each.place) for each in found] == [(0, number, 0) for number in range(COUNT)]


def test_read_frames_places_follow_each_other(segment: Path) -> None:
    frames = list(read_frames(segment, KEYS))
    header, parts = split_segment(segment.read_bytes())
    assert [frame.offset for frame in frames] == [len(header) + sum(map(len, parts[:at])) for at in range(COUNT)]
    assert [frame.end for frame in frames[:-1]] == [frame.offset for frame in frames[1:]]
    assert frames[-1].end == segment.stat().st_size
    assert {frame.decisions for frame in frames} == {1}


def test_read_segment_with_any_byte_flipped_stops_before_it(segment: Path) -> None:
    whole = segment.read_bytes()
    header, parts = split_segment(whole)
    ends = [len(header) + sum(map(len, parts[: at + 1])) for at in range(COUNT)]
    # Every byte of the header and of each frame's prefix and first sealed bytes, every seventh of the rest.
    places = {*range(len(header)), *range(len(header), len(whole), 7)}
    places |= {end + extra for end in ends[:-1] for extra in range(20)}
    for at in sorted(places):
        segment.write_bytes(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :])
        untouched = sum(end <= at for end in ends)
        records, fault = read_until_fault(segment)
        assert records == [make_record(number) for number in range(untouched)], at
        if at >= len(header):
            assert isinstance(fault, CorruptSegment), at
            assert (fault.frame, fault.offset) == (untouched, [len(header), *ends][untouched])
        else:
            # The wrapped key opens or does not; only the provider can say.
            assert isinstance(fault, WrongCacheKey) or (isinstance(fault, CorruptSegment) and fault.frame == -1), at


Change = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "bad_frame"),
    [
        pytest.param(lambda frames: frames[:2] + frames[3:], 2, id="removed"),
        pytest.param(lambda frames: frames[1:], 0, id="first removed"),
        pytest.param(lambda frames: [*frames[:2], frames[3], frames[2], *frames[4:]], 2, id="reordered"),
        pytest.param(lambda frames: [*frames[:3], frames[2], *frames[3:]], 3, id="duplicated"),
        pytest.param(lambda frames: [*frames, frames[-1]], 6, id="repeated at the end"),
        pytest.param(
            lambda frames: [*frames[:2], b"", frames[2][:-1] + bytes((frames[2][-1] ^ 1,)), *frames[3:]],
            2,
            id="tag changed",
        ),
        pytest.param(lambda frames: [*frames[:2], frames[2][:-40], *frames[3:]], 2, id="cut within"),
        pytest.param(lambda frames: [*frames[:4], b"x" * 40], 4, id="rubbish at the end"),
    ],
)
def test_read_segment_with_changed_frames_names_the_first(segment: Path, change: Change, bad_frame: int) -> None:
    header, frames = split_segment(segment.read_bytes())
    segment.write_bytes(join_segment(header, change(frames)))
    records, fault = read_until_fault(segment)
    assert records == [make_record(number) for number in range(bad_frame)]
    assert isinstance(fault, CorruptSegment)
    assert (fault.segment, fault.frame) == (segment.name, bad_frame)
    assert f"frame {bad_frame} at byte {len(join_segment(header, frames[:bad_frame]))}" in str(fault)


def test_read_segment_with_frames_of_another_segment_is_refused(segment: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "other")
    (other,) = segment_paths(tmp_path / "other")
    header, frames = split_segment(segment.read_bytes())
    segment.write_bytes(join_segment(header, [*frames[:3], split_segment(other.read_bytes())[1][3], *frames[4:]]))
    records, fault = read_until_fault(segment)
    assert len(records) == 3
    assert isinstance(fault, CorruptSegment)


def test_read_segment_under_another_segments_name_is_refused(segment: Path) -> None:
    renamed = segment.rename(segment.with_name(segment.name.replace("-00000000", "-00000001")))
    records, fault = read_until_fault(renamed)
    assert records == []
    assert "name of another segment" in str(fault)


@pytest.mark.parametrize("missing", [1, 5, 17, 100])
def test_read_segment_cut_within_the_last_frame_is_a_torn_tail(segment: Path, missing: int) -> None:
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-missing])
    records, fault = read_until_fault(segment)
    assert records == [make_record(number) for number in range(COUNT - 1)]
    assert isinstance(fault, TornTail)
    assert (fault.reason, fault.frame) == ("TORN_TAIL", COUNT - 1)
    assert not isinstance(fault, CorruptSegment)


@pytest.mark.parametrize("kept", [0, 9, 60])
def test_read_segment_cut_within_the_header_is_a_torn_tail(segment: Path, kept: int) -> None:
    segment.write_bytes(segment.read_bytes()[:kept])
    records, fault = read_until_fault(segment)
    assert records == []
    assert isinstance(fault, TornTail)
    assert fault.frame == -1


@pytest.mark.parametrize("written", [0, 3, 12, 80])
def test_read_segment_that_ends_in_unwritten_blocks_is_a_torn_tail(segment: Path, written: int) -> None:
    header, frames = split_segment(segment.read_bytes())
    segment.write_bytes(join_segment(header, [*frames[:4], frames[4][:written], bytes(4_096)]))
    records, fault = read_until_fault(segment)
    assert len(records) == 4
    assert isinstance(fault, TornTail)


def test_read_segment_changed_in_the_middle_is_no_torn_tail_though_zeros_follow(segment: Path) -> None:
    changed = bytearray(segment.read_bytes())
    header, frames = split_segment(bytes(changed))
    changed[len(header) + len(frames[0]) + len(frames[1]) // 2] ^= 1
    segment.write_bytes(bytes(changed) + bytes(4_096))
    records, fault = read_until_fault(segment)
    assert len(records) == 1
    assert isinstance(fault, CorruptSegment)


def test_read_segment_with_another_key_says_so(segment: Path) -> None:
    records, fault = read_until_fault(segment, SealingKeys(bytes(32)))
    assert records == []
    assert isinstance(fault, WrongCacheKey)


def test_read_segment_of_another_file_is_refused(segment: Path) -> None:
    segment.write_bytes(b"an essay on something else, long enough for a header")
    records, fault = read_until_fault(segment)
    assert records == []
    assert "not a journal segment" in str(fault)


def test_reader_follows_a_segment_as_it_grows(segment: Path) -> None:
    whole = segment.read_bytes()
    segment.write_bytes(b"")
    reader = SegmentReader(segment, KEYS)
    records: list[bytes] = []
    for end in range(0, len(whole) + 1, 37):
        with segment.open("ab") as file:
            file.write(whole[end - 37 if end else 0 : end])
        while (frame := reader.next_frame()) is not None:
            records += frame.records
        if end % 2:
            reader.release()
    segment.write_bytes(whole)
    while (frame := reader.next_frame()) is not None:
        records += frame.records
    assert records == [make_record(number) for number in range(COUNT)]
    assert not reader.has_rest()
    reader.release()


def test_reader_resumed_reads_the_rest(segment: Path) -> None:
    before = list(read_frames(segment, KEYS))[2]
    reader = SegmentReader(segment, KEYS)
    reader.resume(before.end, before.frame + 1, before.chain_hash)
    frame = reader.next_frame()
    reader.release()
    assert frame is not None
    assert frame.records == (make_record(3),)


def test_reader_without_a_key_walks_the_same_chain_and_opens_nothing(segment: Path) -> None:
    reader = SegmentReader(segment, None)
    frames = []
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    reader.release()
    opened = list(read_frames(segment, KEYS))
    assert [frame._replace(kind=opened[0].kind, records=()) for frame in frames] == [
        frame._replace(records=()) for frame in opened
    ]
    assert {(frame.kind, frame.records) for frame in frames} == {(UNOPENED, ())}


def test_rest_bytes_leave_out_room_that_was_never_used(segment: Path) -> None:
    whole = segment.read_bytes()
    for rest, count in ((b"", 0), (bytes(5_000), 0), (b"\x00\x01\x02" + bytes(5_000), 3)):
        segment.write_bytes(whole + rest)
        reader = SegmentReader(segment, KEYS)
        while reader.next_frame() is not None:
            pass
        assert reader.rest_bytes() == count
        reader.release()


def test_segment_holds_nothing_in_clear(segment: Path) -> None:
    content = segment.read_bytes()
    for secret in (b"mailer", b"marketing", b"log.example", make_record(3)[1:17]):
        assert secret not in content


def write_records(directory: Path) -> None:
    journal = FileJournal.open(directory, KEYS, "pod-1", JournalMode.GROUP, FakeClock())
    for number in range(COUNT):
        journal.append_now(make_record(number), 1)
    journal.close()


def read_until_fault(path: Path, keys: SealingKeys = KEYS) -> tuple[list[bytes], JournalError | WrongCacheKey | None]:
    records = []
    try:
        for found in read_segment(path, keys):
            records.append(found.record)  # noqa: PERF401 - what came before the fault counts
    except (JournalError, WrongCacheKey) as fault:
        return records, fault
    return records, None
