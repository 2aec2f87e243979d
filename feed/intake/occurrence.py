"""When the person said it: the source's clock is heard, and never believed about the future."""

from typing import NamedTuple

from feed.errors import InvalidRequest

EARLIEST_MS = 788_918_400_000
"""1995-01-01T00:00:00Z: nobody's choice about their data is older, so an earlier time is a fault, such as seconds for milliseconds."""

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that dates are written in."""


class Occurrence(NamedTuple):
    """A settled time.

    Attributes:
        at_ms: Unix ms, never after the receipt.
        is_clamped: The stated time was in the future.
    """

    at_ms: int
    is_clamped: bool


def settle_occurrence(
    stated_ms: int, received_at_ms: int, field: str, error_class: type[InvalidRequest] = InvalidRequest
) -> Occurrence:
    """The time that counts.

    Args:
        stated_ms: Unix ms by the source's clock, 0 for now.
        received_at_ms: Unix ms of the receipt.
        field: For the error's text.
        error_class: What to raise.

    Raises:
        InvalidRequest: No sensible time.
    """
    if stated_ms == 0:
        return Occurrence(received_at_ms, is_clamped=False)
    if stated_ms < EARLIEST_MS:
        raise error_class(f"{field} is before 1995; it counts milliseconds since 1970")
    if stated_ms > received_at_ms:
        return Occurrence(received_at_ms, is_clamped=True)
    return Occurrence(stated_ms, is_clamped=False)
