"""Notes of entries that came into force: read as they were written, and refused where they were not written so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.applied import MAX_ENTRIES, AppliedBatch, AppliedEntry, format_applied, parse_applied
from journal.errors import CorruptJournal

U64 = st.integers(0, 2**64 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)
ENTRIES = st.builds(
    AppliedEntry,
    seq=U64,
    event_type=st.integers(0, 255),
    trace_id=st.binary(min_size=16, max_size=16),
    parent_span_id=st.binary(min_size=8, max_size=8),
    trace_flags=st.integers(0, 255),
)
BATCHES = st.builds(
    AppliedBatch,
    origin=st.text("abc./-", max_size=30),
    started_ms=TIMES,
    at_ms=TIMES,
    log_size=U64,
    entries=st.lists(ENTRIES, max_size=4).map(tuple),
)
ENTRY = AppliedEntry(7, 1, bytes(range(16)), bytes(range(8)), 1)
BATCH = AppliedBatch("log.example/consents", 1_000, 1_005, 8, (ENTRY,))


@given(batch=BATCHES)
def test_applied_batch_comes_back_as_it_was_written(batch: AppliedBatch) -> None:
    assert parse_applied(format_applied(batch)) == batch


@given(batch=BATCHES, at=st.integers(0, 400))
def test_applied_batch_cut_short_is_refused(batch: AppliedBatch, at: int) -> None:
    content = format_applied(batch)
    if at < len(content):
        with pytest.raises(CorruptJournal):
            parse_applied(content[:at])


@pytest.mark.parametrize("content", [b"", b"\x02" + format_applied(BATCH)[1:], format_applied(BATCH) + b"\x00"])
def test_applied_batch_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptJournal):
        parse_applied(content)


def test_applied_batch_has_a_most() -> None:
    full = replace(BATCH, entries=(ENTRY,) * MAX_ENTRIES)
    assert len(parse_applied(format_applied(full)).entries) == MAX_ENTRIES
    with pytest.raises(ValueError, match="entries"):
        format_applied(replace(BATCH, entries=(ENTRY,) * (MAX_ENTRIES + 1)))
