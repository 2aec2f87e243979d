"""A trail is proof: no byte of its file can be another one."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.errors import EventLogError
from consent.trail import verify_trail
from consent.trail_file import format_trail, parse_trail
from tests.fakes.signing_feed import TRUST
from tests.fakes.trails import make_trail

CONTENT: Final = format_trail(make_trail())


def test_trail_unchanged_verifies() -> None:
    verify_trail(parse_trail(CONTENT), TRUST)


@given(at=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255))
def test_trail_with_any_byte_changed_does_not_verify(at: int, value: int) -> None:
    if CONTENT[at] == value:
        value ^= 1
    changed = CONTENT[:at] + bytes([value]) + CONTENT[at + 1 :]
    with pytest.raises(EventLogError):
        verify_trail(parse_trail(changed), TRUST)


@given(at=st.integers(0, len(CONTENT) - 1))
def test_trail_cut_short_does_not_verify(at: int) -> None:
    with pytest.raises(EventLogError):
        verify_trail(parse_trail(CONTENT[:at]), TRUST)
