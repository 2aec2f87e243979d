"""How far each sidecar has come, as it says itself."""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from feed.errors import LogStoreError
from feed.log_store.port import Acknowledgement, LogStore

_LOGGER: Final = logging.getLogger(__name__)
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class SidecarProgress:
    """One sidecar, for status and fleet reports.

    Attributes:
        sidecar_id: Which one.
        acknowledged_size: Largest size that it has acknowledged.
        acknowledged_at_ms: Unix ms, by the feed's clock, at which that came; 0 for never.
        connected: It has a stream open now.
        last_nack_reason: Why it last refused what it was sent; empty once it has acknowledged more.
        version: Of its program, as it said when it connected last; empty while it has not.
    """

    sidecar_id: str
    acknowledged_size: int = 0
    acknowledged_at_ms: int = 0
    connected: bool = False
    last_nack_reason: str = ""
    version: str = ""


class ProgressBook:
    """Keeps acknowledgements: in memory at once, in the store soon after, many in one commit.

    An acknowledgement that a crash loses comes again with the sidecar's next one; it is no promise to anybody.

    Args:
        store: Where they are kept.
        save_seconds: How long they may wait for others.
    """

    def __init__(self, store: LogStore, save_seconds: float = 1.0) -> None:
        self._store = store
        self._save_seconds = save_seconds
        self._known: dict[str, SidecarProgress] = {}
        self._streams: Counter[str] = Counter()
        self._versions: dict[str, str] = {}
        self._unsaved: dict[str, Acknowledgement] = {}
        self._saving: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Take up what was kept; raises CorruptLog or LogStoreError."""
        for ack in await self._store.load_acknowledgements():
            self._known[ack.sidecar_id] = SidecarProgress(ack.sidecar_id, ack.size, ack.received_at_ms)

    def progress(self) -> list[SidecarProgress]:
        """Every sidecar that was ever heard of, by name."""
        names = sorted({*self._known, *self._streams})
        return [
            replace(
                self._known.get(name) or SidecarProgress(name),
                connected=self._streams[name] > 0,
                version=self._versions.get(name, ""),
            )
            for name in names
        ]

    @property
    def connected_count(self) -> int:
        """Sidecars that have a stream open now."""
        return sum(1 for count in self._streams.values() if count)

    @contextlib.contextmanager
    def open_stream(self, sidecar_id: str) -> Iterator[None]:
        """Count a sidecar as connected for as long as the block runs."""
        self._streams[sidecar_id] += 1
        try:
            yield
        finally:
            self._streams[sidecar_id] -= 1

    def note_version(self, sidecar_id: str, version: str) -> None:
        """Note which version a sidecar says it is; what has no form that a version has is dropped, since status shows it."""
        self._versions[sidecar_id] = version if _VERSION.fullmatch(version) else ""

    def acknowledge(self, ack: Acknowledgement) -> None:
        """Note that a sidecar holds this much; less than it has acknowledged before changes nothing."""
        known = self._known.get(ack.sidecar_id)
        if known is not None and ack.size < known.acknowledged_size:
            return
        # A sidecar that comes back with no more than it had has not got over what it refused.
        is_stuck = known is not None and ack.size == known.acknowledged_size
        reason = known.last_nack_reason if known is not None and is_stuck else ""
        self._known[ack.sidecar_id] = SidecarProgress(
            ack.sidecar_id, ack.size, ack.received_at_ms, last_nack_reason=reason
        )
        self._unsaved[ack.sidecar_id] = ack
        if self._saving is None:
            self._saving = asyncio.create_task(self._save_soon())

    def refuse(self, sidecar_id: str, reason: str) -> None:
        """Note that a sidecar has refused what it was sent."""
        known = self._known.get(sidecar_id) or SidecarProgress(sidecar_id)
        self._known[sidecar_id] = replace(known, last_nack_reason=reason)

    async def save(self) -> None:
        """Write down what is not yet; what cannot be written stays for the next time."""
        unsaved, self._unsaved = self._unsaved, {}
        try:
            if unsaved:
                await self._store.save_acknowledgements(list(unsaved.values()))
        except LogStoreError as error:
            # The sidecars do hold it: that the disk is full shows at the log itself.
            _LOGGER.warning("acknowledgements cannot be kept", extra={"fields": {"reason": error.reason}})
            self._unsaved = unsaved | self._unsaved

    async def close(self) -> None:
        """Write down what is not yet, and stop."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])
        await self.save()

    async def _save_soon(self) -> None:
        await asyncio.sleep(self._save_seconds)
        # From here on a newer acknowledgement starts a task of its own.
        self._saving = None
        await self.save()
