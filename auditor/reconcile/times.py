"""Hours and times in sentences."""

from datetime import UTC, datetime
from typing import Final

MS_PER_HOUR: Final = 3_600_000


def format_time(unix_ms: int) -> str:
    """A time to the second in UTC; what no calendar holds, as it is: a sidecar's clock may say anything."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms after 1970"
