"""Age on a clock that cannot be set back."""

import random

import pytest

from sidecar.ports import CheckpointSeen
from sidecar.sync.backoff import Backoff
from sidecar.sync.freshness import age_ms, anchor
from sidecar.sync.trusted_log import UNKNOWN_AGE_MS
from tests.fakes.clock import FakeClock

TIME_MS = 1_767_225_600_000


def seen(age_at_arrival_ms: int = 700, boot_id: str = "boot-1") -> CheckpointSeen:
    return CheckpointSeen(b"note", TIME_MS, age_at_arrival_ms, 1_000_000, boot_id)


def test_age_counts_on_the_boot_clock_from_the_age_at_arrival() -> None:
    clock = FakeClock(TIME_MS + 700, boot_ms=1_000_000)
    assert age_ms(seen(), clock, "boot-1") == 700
    clock.advance(5_000)
    assert age_ms(seen(), clock, "boot-1") == 5_700


@pytest.mark.parametrize("hours", [1, 48])
def test_age_wall_clock_set_forward_changes_nothing_within_a_boot(hours: int) -> None:
    clock = FakeClock(TIME_MS + 700, boot_ms=1_000_000)
    clock.advance(5_000)
    clock.set_wall(clock.now_ms() + hours * 3_600_000)
    assert age_ms(seen(), clock, "boot-1") == 5_700


@pytest.mark.parametrize("hours", [-48, -1])
def test_age_wall_clock_set_back_is_beyond_every_limit_until_it_is_right_again(hours: int) -> None:
    clock = FakeClock(TIME_MS + 700, boot_ms=1_000_000)
    clock.set_wall(clock.now_ms() + hours * 3_600_000)
    assert age_ms(seen(), clock, "boot-1") == UNKNOWN_AGE_MS
    clock.set_wall(TIME_MS + 700)
    assert age_ms(seen(), clock, "boot-1") == 700


def test_anchor_within_the_same_boot_changes_nothing() -> None:
    assert anchor(seen(), FakeClock(TIME_MS + 90_000, boot_ms=1_000_500), "boot-1") == seen()


def test_anchor_after_a_reboot_takes_the_age_from_the_wall_clock_once() -> None:
    clock = FakeClock(TIME_MS + 90_000, boot_ms=5)
    anchored = anchor(seen(), clock, "boot-2")
    assert age_ms(anchored, clock, "boot-2") == 90_000
    clock.advance(1_000)
    clock.set_wall(TIME_MS - 200_000)
    assert age_ms(anchored, clock, "boot-2") == 91_000


def test_anchor_after_a_reboot_never_makes_the_data_younger() -> None:
    old = seen(age_at_arrival_ms=500_000)
    assert (
        age_ms(
            anchor(old, FakeClock(TIME_MS + 1_000, boot_ms=5), "boot-2"),
            FakeClock(TIME_MS + 1_000, boot_ms=5),
            "boot-2",
        )
        == 500_000
    )


def test_anchor_after_a_reboot_with_the_wall_clock_set_back_is_beyond_every_limit() -> None:
    clock = FakeClock(TIME_MS - 1_000, boot_ms=5)
    assert age_ms(anchor(seen(), clock, "boot-2"), clock, "boot-2") == UNKNOWN_AGE_MS


def test_age_of_another_boot_that_was_not_anchored_is_beyond_every_limit() -> None:
    assert age_ms(seen(), FakeClock(TIME_MS + 90_000, boot_ms=5), "boot-1") == UNKNOWN_AGE_MS
    assert age_ms(seen(), FakeClock(TIME_MS + 90_000, boot_ms=2_000_000), "boot-2") == UNKNOWN_AGE_MS


def test_age_without_a_checkpoint_is_none() -> None:
    assert age_ms(None, FakeClock(), "boot-1") is None


def test_backoff_grows_to_its_bound_stays_above_a_tenth_and_starts_over() -> None:
    backoff = Backoff(0.2, 10, random.Random(7))
    delays = [backoff.next_seconds() for _ in range(40)]
    bounds = [min(10, 0.2 * 2**attempt) for attempt in range(40)]
    assert all(0.1 * bound <= delay <= bound for delay, bound in zip(delays, bounds, strict=True))
    backoff.reset()
    assert backoff.next_seconds() <= 0.2
