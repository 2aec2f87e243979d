import time
from pathlib import Path

import pytest

from hosting import clock as clock_module
from hosting.clock import Clock, SystemClock, read_boot_id
from tests.fakes.clock import FakeClock


def test_system_clock_now_is_the_wall_clock_in_ms() -> None:
    before_ns = time.time_ns()
    now_ms = SystemClock().now_ms()
    after_ns = time.time_ns()

    assert before_ns // 1_000_000 <= now_ms <= after_ns // 1_000_000


def test_system_clock_boot_is_not_before_the_monotonic_clock() -> None:
    monotonic_ms = time.monotonic_ns() // 1_000_000
    clock: Clock = SystemClock()

    assert clock.boot_ms() >= monotonic_ms
    assert clock.boot_ms() <= clock.boot_ms()


def test_fake_clock_advance_moves_both_and_set_wall_one() -> None:
    clock = FakeClock(5_000, boot_ms=10)
    as_port: Clock = clock

    clock.advance(7)
    assert (as_port.now_ms(), as_port.boot_ms()) == (5_007, 17)
    clock.set_wall(1)
    assert (as_port.now_ms(), as_port.boot_ms()) == (1, 17)


def test_fake_clock_advance_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)


def test_read_boot_id_names_this_boot_each_time() -> None:
    assert read_boot_id() == read_boot_id()
    assert len(read_boot_id()) == 36


def test_read_boot_id_where_the_kernel_names_none_is_new_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "_BOOT_ID_FILE", tmp_path / "missing")

    assert read_boot_id() != read_boot_id()
