import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.access import AccessNote, format_access, hash_recipient_key, parse_access
from journal.errors import CorruptJournal

NOTES = st.builds(
    AccessNote,
    at_ms=st.integers(0, 2**62),
    caller=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60),
    recipient_name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60),
    recipient_key_hash=st.binary(min_size=32, max_size=32),
    segment_count=st.integers(0, 2**40),
)


@given(NOTES)
def test_access_note_is_read_back_as_written(note: AccessNote) -> None:
    assert parse_access(format_access(note)) == note


@given(st.binary(max_size=120))
def test_access_note_any_other_bytes_are_refused_by_our_error(content: bytes) -> None:
    try:
        note = parse_access(content)
    except CorruptJournal:
        return
    assert format_access(note) == content


@given(NOTES, st.integers(0, 200))
def test_access_note_cut_or_longer_is_refused(note: AccessNote, cut: int) -> None:
    content = format_access(note)
    for changed in (content[: cut % len(content)], content + b"\x00", b"\x02" + content[1:]):
        with pytest.raises(CorruptJournal):
            parse_access(changed)


def test_access_note_names_a_key_by_its_hash() -> None:
    assert hash_recipient_key(b"") == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
