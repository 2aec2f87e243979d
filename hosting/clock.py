"""Time as an argument: the wall clock, and a clock that nobody can set back."""

import sys
import time
import uuid
from pathlib import Path
from typing import Final, Protocol

_NS_PER_MS = 1_000_000
# random(4).
_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Where a process reads the time. Tests pass one that they set by hand."""

    def now_ms(self) -> int:
        """Return the wall clock in Unix milliseconds; an operator or NTP may move it either way."""
        ...

    def boot_ms(self) -> int:
        """Return milliseconds since some fixed point of this boot; only grows, and counts time spent suspended."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall clock in Unix milliseconds."""
        return time.time_ns() // _NS_PER_MS

    def boot_ms(self) -> int:
        """Return ``CLOCK_BOOTTIME`` in milliseconds, or the monotonic clock where the kernel has no boot clock."""
        if sys.platform == "linux":
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_MS
        return time.monotonic_ns() // _NS_PER_MS


def read_boot_id() -> str:
    """Return what names this boot of the kernel; something new on each call where the kernel names none.

    Two readings of ``boot_ms`` can be compared only within one boot.
    """
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex
