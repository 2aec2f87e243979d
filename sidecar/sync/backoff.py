"""Waiting between attempts: exponential with full jitter, so that a fleet does not come back in step."""

import random


class Backoff:
    """Delays that grow until something succeeds.

    Args:
        first_seconds: Upper bound of the first delay.
        most_seconds: Upper bound of all.
        source: Random numbers in [0, 1).
    """

    def __init__(self, first_seconds: float, most_seconds: float, source: random.Random | None = None) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._random = source or random.Random()  # noqa: S311 - spreads load, protects nothing
        self._attempt = 0

    def next_seconds(self) -> float:
        """The next delay. Never below a tenth of its bound, so that a fleet's luck cannot become a busy loop."""
        bound = min(self._most_seconds, self._first_seconds * float(2**self._attempt))
        self._attempt = min(self._attempt + 1, 32)
        return bound * (0.1 + 0.9 * self._random.random())

    def reset(self) -> None:
        """Start over after a success."""
        self._attempt = 0
