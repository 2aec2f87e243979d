"""How old what is held is, counted so that no clock can be set back to make it look younger."""

from dataclasses import replace

from hosting.clock import Clock
from sidecar.ports import CheckpointSeen
from sidecar.sync.trusted_log import CLOCK_SKEW_MS, UNKNOWN_AGE_MS, Moment


def observe(clock: Clock, boot_id: str) -> Moment:
    """Now, as `trusted_log` wants it."""
    return Moment(clock.now_ms(), clock.boot_ms(), boot_id)


def age_ms(seen: CheckpointSeen | None, clock: Clock, boot_id: str) -> int | None:
    """Age of a checkpoint: its age at arrival plus what the boot clock counted since.

    A wall clock that stands well before the checkpoint's own time was set back: then nothing that depends on the time can be trusted,
    the expiry of consent above all, and the data counts as too old.

    Returns:
        Milliseconds; None without a checkpoint.
    """
    if seen is None:
        return None
    elapsed_ms = clock.boot_ms() - seen.arrived_boot_ms
    if clock.now_ms() < seen.time_ms - CLOCK_SKEW_MS or seen.boot_id != boot_id or elapsed_ms < 0:
        return UNKNOWN_AGE_MS
    return seen.age_at_arrival_ms + elapsed_ms


def anchor(seen: CheckpointSeen, clock: Clock, boot_id: str) -> CheckpointSeen:
    """The same checkpoint, with its age counted on this boot's clock from now on.

    Once, at the start, the wall clock is all there is to tell how long the machine was off. It can add to the age that was known and
    never take from it; before the checkpoint's own time it has been set back.
    """
    elapsed_ms = clock.boot_ms() - seen.arrived_boot_ms
    if seen.boot_id == boot_id and elapsed_ms >= 0:
        return seen
    wall_age_ms = clock.now_ms() - seen.time_ms
    age = UNKNOWN_AGE_MS if wall_age_ms < 0 else max(wall_age_ms, seen.age_at_arrival_ms)
    return replace(seen, age_at_arrival_ms=age, arrived_boot_ms=clock.boot_ms(), boot_id=boot_id)
