"""A clock that stands still until a test moves it."""


class FakeClock:
    """Stands in for ``hosting.clock.SystemClock``; both of its clocks move only when told to.

    Args:
        now_ms: First reading of the wall clock, Unix milliseconds (default: 2026-01-01T00:00:00Z).
        boot_ms: First reading of the boot clock, milliseconds.
    """

    def __init__(self, now_ms: int = 1_767_225_600_000, *, boot_ms: int = 1_000_000) -> None:
        self._now_ms = now_ms
        self._boot_ms = boot_ms

    def now_ms(self) -> int:
        return self._now_ms

    def boot_ms(self) -> int:
        return self._boot_ms

    def advance(self, ms: int) -> None:
        """Let time pass: both clocks move forward by ``ms``."""
        if ms < 0:
            raise ValueError("time does not run backwards; set_wall moves the wall clock alone")
        self._now_ms += ms
        self._boot_ms += ms

    def set_wall(self, ms: int) -> None:
        """Set the wall clock alone to ``ms``, forward or back, as an operator can."""
        self._now_ms = ms
