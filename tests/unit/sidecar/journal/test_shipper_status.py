"""What the shipper tells the sidecar: a small file, whole or not there."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal.shipper_status import (
    STATUS_FILE_NAME,
    STATUS_PERIOD_MS,
    MalformedShipperStatus,
    ShipperStatus,
    StatusKeeper,
    format_status,
    load_status,
    parse_status,
)
from tests.fakes.clock import FakeClock

COUNTS = st.integers(min_value=0, max_value=2**62)


@given(status=st.builds(ShipperStatus, COUNTS, COUNTS, COUNTS))
def test_status_reads_back(status: ShipperStatus) -> None:
    assert parse_status(format_status(status)) == status


@given(text=st.binary(max_size=200))
def test_status_any_bytes_are_a_status_or_refused(text: bytes) -> None:
    with contextlib.suppress(MalformedShipperStatus):
        assert parse_status(format_status(parse_status(text))) == parse_status(text)


@pytest.mark.parametrize(
    "text", [b"[]", b"{}x", b'{"spans": -1}', b'{"spans": true}', b'{"other": 1}', b'{"spans": 1.5}']
)
def test_status_of_another_form_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedShipperStatus):
        parse_status(text)


def test_status_keeper_writes_at_most_once_a_second_and_forgets_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / STATUS_FILE_NAME
    keeper = StatusKeeper(path, clock)
    assert load_status(path) is None
    keeper.save_soon()
    keeper.note_taken(10)
    keeper.note_failure()
    assert load_status(path) == ShipperStatus()
    failing_since_ms = clock.now_ms()
    clock.advance(STATUS_PERIOD_MS)
    keeper.note_failure()
    assert load_status(path) == ShipperStatus(10, 2, failing_since_ms)
    clock.advance(STATUS_PERIOD_MS)
    keeper.note_taken(1)
    assert load_status(path) == ShipperStatus(11, 2, 0)
    assert [each.name for each in tmp_path.iterdir()] == [STATUS_FILE_NAME]


def test_status_keeper_does_not_care_for_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    keeper = StatusKeeper(tmp_path / "gone" / STATUS_FILE_NAME, clock)
    keeper.note_taken(1)
    (tmp_path / "gone").mkdir()
    clock.advance(STATUS_PERIOD_MS)
    keeper.save_soon()
    assert load_status(tmp_path / "gone" / STATUS_FILE_NAME) == ShipperStatus(1, 0, 0)
