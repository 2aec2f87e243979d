"""What the shipper, a process of its own, says of itself to the sidecar: a small file that is replaced at most once a second."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from hosting.clock import Clock
from sidecar.errors import SidecarError

STATUS_FILE_NAME: Final = "shipper.json"
STATUS_PERIOD_MS: Final = 1_000
_MAX_BYTES: Final = 4096


class MalformedShipperStatus(SidecarError):
    """The status file is not ours. Expected after a repair by hand: the shipper replaces it."""

    reason = "MALFORMED_SHIPPER_STATUS"


@dataclass(frozen=True, slots=True)
class ShipperStatus:
    """How shipping goes, since the shipper's start.

    Attributes:
        spans: That the receiver took.
        retries: Exports that failed.
        failing_since_ms: Unix ms since which the receiver has taken nothing, 0 while it takes spans.
    """

    spans: int = 0
    retries: int = 0
    failing_since_ms: int = 0


def format_status(status: ShipperStatus) -> bytes:
    """The file's content."""
    return json.dumps(asdict(status)).encode("ascii") + b"\n"


def parse_status(text: bytes) -> ShipperStatus:
    """Read it back.

    Raises:
        MalformedShipperStatus: Not what `format_status` writes.
    """
    try:
        status = ShipperStatus(**json.loads(text))
        if not all(type(value) is int and value >= 0 for value in asdict(status).values()):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise MalformedShipperStatus("shipper status: not the expected JSON") from None
    return status


def load_status(path: Path) -> ShipperStatus | None:
    """The status, None where no shipper has written one yet.

    Raises:
        MalformedShipperStatus: As `parse_status`.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return parse_status(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None


def save_status(path: Path, status: ShipperStatus) -> None:
    """Replace the file in one step, without waiting for the disk: after a crash it starts from nothing anyway.

    Raises:
        OSError: The old file is still whole.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of the descriptor
        file.write(format_status(status))
    temporary.replace(path)


class StatusKeeper:
    """The shipper's side: counts, and keeps the file. Shipping does not depend on it.

    Args:
        path: Of the file.
        clock: The time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._status = ShipperStatus()
        self._saved: ShipperStatus | None = None
        self._due_ms = 0

    def note_taken(self, spans: int) -> None:
        """The receiver took this many."""
        self._status = replace(self._status, spans=self._status.spans + spans, failing_since_ms=0)
        self.save_soon()

    def note_failure(self) -> None:
        """It took nothing of an export."""
        since_ms = self._status.failing_since_ms or self._clock.now_ms()
        self._status = replace(self._status, retries=self._status.retries + 1, failing_since_ms=since_ms)
        self.save_soon()

    def save_soon(self) -> None:
        """Write the file where something has changed, at most once a second: to be called again and again."""
        now_ms = self._clock.boot_ms()
        if now_ms < self._due_ms or self._status == self._saved:
            return
        self._due_ms = now_ms + STATUS_PERIOD_MS
        # A full disk shows in the journal itself.
        with contextlib.suppress(OSError):
            save_status(self._path, self._status)
            self._saved = self._status
