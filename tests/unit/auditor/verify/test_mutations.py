"""Whatever is done to a journal, `verify` finds it and names the first bad place; what a crash leaves is no finding."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor.findings import Finding, Severity
from auditor.folder import open_folder
from auditor.verify import verify_folder
from journal.format import format_segment_name
from tests.fakes.audit_material import AUDITOR, JournalBuilder
from tests.fakes.audited_installation import Installation
from tests.fakes.journal_material import join_segment, split_segment

CRASH_NOTES = {"TORN_TAIL", "CRASHED", "UNLOGGED_TAIL"}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("untouched") / "audit")
    installation.write()
    return installation


@pytest.fixture
def installation(untouched: Installation, tmp_path: Path) -> Iterator[Installation]:
    """The same files in a folder of the test's own; what the test changes there, no other one sees."""
    copied = tmp_path / "audit"
    shutil.copytree(untouched.path, copied)
    original, untouched.path = untouched.path, copied
    yield untouched
    untouched.path = original


def findings_in(folder: Path, *, with_key: bool = True) -> list[Finding]:
    report = verify_folder(open_folder(folder, AUDITOR if with_key else None))
    return [found for found in report.findings.listed if found.severity is Severity.FINDING]


def segment(installation: Installation, chain: JournalBuilder, number: int) -> Path:
    return installation.path / "journals" / chain.sidecar_id / format_segment_name(chain.chain_id, number)


def edit(path: Path, change: Callable[[bytes, list[bytes]], tuple[bytes, list[bytes]]]) -> None:
    """Rearrange the frames of a segment; a torn frame stays behind them."""
    header, frames = split_segment(path.read_bytes())
    path.write_bytes(join_segment(*change(header, frames)))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def remove_frame(it: Installation) -> str:
    edit(segment(it, it.ended, 0), lambda header, frames: (header, frames[:2] + frames[3:]))
    return "frame 2"


def swap_frames(it: Installation) -> str:
    edit(segment(it, it.ended, 0), lambda header, frames: (header, [frames[0], frames[2], frames[1], *frames[3:]]))
    return "frame 1"


def repeat_frame(it: Installation) -> str:
    edit(segment(it, it.ended, 0), lambda header, frames: (header, [*frames[:3], frames[2], *frames[3:]]))
    return "frame 3"


def frame_of_another_chain(it: Installation) -> str:
    foreign = split_segment(segment(it, it.other, 0).read_bytes())[1][1]
    edit(segment(it, it.ended, 0), lambda header, frames: (header, [*frames[:2], foreign, *frames[3:]]))
    return "frame 2"


def remove_head_frame(it: Installation) -> str:
    edit(segment(it, it.ended, 0), lambda header, frames: (header, frames[:4] + frames[5:]))
    return "frame 4"


@pytest.mark.parametrize("mutate", [remove_frame, swap_frames, repeat_frame, frame_of_another_chain, remove_head_frame])
def test_verify_rearranged_frames_names_the_first_bad_one(
    installation: Installation, mutate: Callable[[Installation], str]
) -> None:
    frame = mutate(installation)
    first, *_ = findings_in(installation.path)
    name = format_segment_name(installation.ended.chain_id, 0)
    assert first.reason == "FRAME_CHANGED"
    assert first.place.startswith(f"{name}: {frame} at byte ")
    # Without keys, the first head that does not fit tells between which frames it is.
    without_key, *_ = findings_in(installation.path, with_key=False)
    assert without_key.reason == "HEAD_MISMATCH"
    assert without_key.place.startswith(f"{name}: frame ")


def cut_before_the_last_logged_head(it: Installation) -> tuple[str, str]:
    edit(segment(it, it.current, 0), lambda header, frames: (header, frames[:4]))
    return "JOURNAL_CUT", format_segment_name(it.current.chain_id, 0) + ": frame 4"


def cut_within_a_frame(it: Installation) -> tuple[str, str]:
    path = segment(it, it.current, 0)
    header, frames = split_segment(path.read_bytes())
    path.write_bytes(join_segment(header, frames[:4]) + frames[4][:20])
    return "JOURNAL_CUT", format_segment_name(it.current.chain_id, 0) + ": frame 4"


def cut_the_frame_of_the_final_head(it: Installation) -> tuple[str, str]:
    edit(segment(it, it.ended, 2), lambda header, frames: (header, frames[:-1]))
    return "JOURNAL_CUT", format_segment_name(it.ended.chain_id, 2)


def empty_a_segment(it: Installation) -> tuple[str, str]:
    segment(it, it.current, 0).write_bytes(b"")
    return "JOURNAL_CUT", format_segment_name(it.current.chain_id, 0)


def remove_the_last_segment(it: Installation) -> tuple[str, str]:
    segment(it, it.ended, 2).unlink()
    return "JOURNAL_CUT", format_segment_name(it.ended.chain_id, 2)


def remove_a_segment_between(it: Installation) -> tuple[str, str]:
    segment(it, it.ended, 1).unlink()
    return "SEGMENT_MISSING", format_segment_name(it.ended.chain_id, 1)


def remove_the_first_segment(it: Installation) -> tuple[str, str]:
    segment(it, it.ended, 0).unlink()
    return "SEGMENT_MISSING", format_segment_name(it.ended.chain_id, 0)


def swap_segments(it: Installation) -> tuple[str, str]:
    swap(segment(it, it.ended, 1), segment(it, it.ended, 2))
    return "HEADER_CHANGED", format_segment_name(it.ended.chain_id, 1)


def swap_segments_of_two_chains(it: Installation) -> tuple[str, str]:
    swap(segment(it, it.ended, 0), segment(it, it.current, 0))
    return "HEADER_CHANGED", format_segment_name(it.current.chain_id, 0)


def repeat_a_segment(it: Installation) -> tuple[str, str]:
    shutil.copy(segment(it, it.ended, 2), segment(it, it.ended, 3))
    return "HEADER_CHANGED", format_segment_name(it.ended.chain_id, 3)


def segment_of_another_sidecar(it: Installation) -> tuple[str, str]:
    path = segment(it, it.other, 0)
    shutil.copy(path, path.parent.with_name("pod-1") / path.name)
    return "SEGMENT_MISPLACED", path.name


def remove_a_chain(it: Installation) -> tuple[str, str]:
    segment(it, it.crashed, 0).unlink()
    return "CHAIN_MISSING", ""


def remove_a_journal(it: Installation) -> tuple[str, str]:
    shutil.rmtree(it.path / "journals" / "pod-2")
    return "JOURNAL_MISSING", ""


def complete_the_torn_frame(it: Installation) -> tuple[str, str]:
    path = segment(it, it.crashed, 0)
    header, frames = split_segment(path.read_bytes())
    path.write_bytes(join_segment(header, [*frames[:-1], it.torn_frame]))
    return "FRAMES_AFTER_END", f"{path.name}: frame {len(frames) - 1}"


def swap(left: Path, right: Path) -> None:
    content = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(content)


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize(
    "mutate",
    [
        cut_before_the_last_logged_head,
        cut_within_a_frame,
        cut_the_frame_of_the_final_head,
        empty_a_segment,
        remove_the_last_segment,
        remove_a_segment_between,
        remove_the_first_segment,
        swap_segments,
        swap_segments_of_two_chains,
        repeat_a_segment,
        segment_of_another_sidecar,
        remove_a_chain,
        remove_a_journal,
        complete_the_torn_frame,
    ],
)
def test_verify_cut_or_rearranged_segments_are_found_without_keys_too(
    installation: Installation, mutate: Callable[[Installation], tuple[str, str]], with_key: bool
) -> None:
    reason, place = mutate(installation)
    first, *_ = findings_in(installation.path, with_key=with_key)
    assert first.reason == reason
    assert first.place.startswith(place)


@pytest.mark.parametrize("with_key", [True, False])
def test_verify_untouched_installation_is_clean_and_its_crash_a_note(
    installation: Installation, with_key: bool
) -> None:
    report = verify_folder(open_folder(installation.path, AUDITOR if with_key else None))
    assert report.findings.is_clean
    assert {found.reason for found in report.findings.listed} - {"SEGMENT_KEY_MISSING"} == CRASH_NOTES
    assert report.chains == 4
    assert report.is_opened is with_key


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_verify_any_flipped_byte_of_a_whole_frame_or_header_is_found(
    untouched: Installation, data: st.DataObject
) -> None:
    with_key = data.draw(st.booleans(), label="with key")
    chain = data.draw(st.sampled_from(untouched.journals), label="chain")
    paths = sorted((untouched.path / "journals" / chain.sidecar_id).glob(f"{chain.chain_id.hex()}-*"))
    path = data.draw(st.sampled_from(paths), label="segment")
    original = path.read_bytes()
    header, frames = split_segment(original)
    # The torn frame is nobody's; what lies behind the last logged head, only the seal vouches for.
    whole = frames[:-1] if chain is untouched.crashed else frames
    logged = untouched.covered_frames(chain, path)
    end = len(join_segment(header, whole if with_key else whole[:logged]))
    at = data.draw(st.integers(0, end - 1), label="byte")
    try:
        flip(path, at)
        found = findings_in(untouched.path, with_key=with_key)
    finally:
        path.write_bytes(original)
    assert found
    assert path.name in found[0].text
    if with_key and at >= len(header):
        ends = [len(join_segment(header, whole[: number + 1])) for number in range(len(whole))]
        bad = next(number for number, frame_end in enumerate(ends) if at < frame_end)
        assert f": frame {bad} at byte " in found[0].place
